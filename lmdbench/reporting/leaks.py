"""Which test images of a finished run share something with what it was trained or chosen on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmdbench.audit import report
from lmdbench.data.availability import prepare_files
from lmdbench.data.choice import SplitChoice, make_split
from lmdbench.data.dataset import Dataset, Split
from lmdbench.errors import UserError
from lmdbench.reporting.results import Run

MakeDataset = Callable[[str], Dataset]


def leaked_images(results: Path, run: Run, dataset_named: MakeDataset | None) -> frozenset[str]:
    """The test images of a run that leak, by the audit kept beside the results.

    Where there is none, and ``dataset_named`` can open data sets, the split's tables are audited
    now (ids and lesions; nothing is written). Raises UserError where neither will do.
    """
    record = run.record
    fingerprint = str(run.spec["split"]["fingerprint"])
    folder = results / record["results_name"] / record["split_label"] / report.FOLDER
    kept = report.leaked_test_images(folder, fingerprint)
    if kept is not None:
        return kept
    name = str(run.spec["dataset"])
    hint = f"`lmdbench data audit {name} {_options(run)}`"
    if dataset_named is None:
        raise UserError(
            f"no audit of {record['results_name']} {record['split_label']} under {folder}: "
            f"make one with {hint}, or give --data-root"
        )
    dataset = dataset_named(name)
    split = _same_split(dataset, run)
    if split is None or split.fingerprint != fingerprint:
        raise UserError(
            f"{record['results_name']} {record['split_label']}: the tables under --data-root give "
            f"another split than that of {run.directory}; audit it where it was trained: {hint}"
        )
    return frozenset(report.test_images(report.audit_tables(dataset, split).rows))


def _same_split(dataset: Dataset, run: Run) -> Split | None:
    """The run's split, made anew; None for one that came from a file."""
    choice = _choice(run)
    if choice is None:
        return None
    split = make_split(dataset, choice)
    if run.record.get("partial"):
        split = prepare_files(dataset, split, allow_missing=True).split
    return split


def _choice(run: Run) -> SplitChoice | None:
    split: dict[str, Any] = dict(run.spec["split"])
    if str(split["name"]).startswith("file-"):
        return None
    return SplitChoice(
        name=split["name"],
        imbalance_factor=split["imbalance_factor"],
        seed=split["seed"],
        folds=split.get("folds"),
        fold=split.get("fold"),
        test_per_class=split.get("test_per_class"),
    )


def _options(run: Run) -> str:
    """The options of ``data audit`` that name a run's split."""
    choice = _choice(run)
    name = choice.name if choice else re.sub("^file-", "", run.spec["split"]["name"]) + ".csv"
    words = [f"--split {name}"]
    for option, value in (
        ("--imbalance-factor", choice and choice.imbalance_factor),
        ("--split-seed", choice and choice.seed),
        ("--folds", choice and choice.folds),
        ("--fold", None if choice is None else choice.fold),
        ("--test-per-class", choice and choice.test_per_class),
    ):
        if value is not None:
            words.append(f"{option} {value:g}")
    if run.record.get("partial"):
        words.append("--allow-missing")
    return " ".join(words)
