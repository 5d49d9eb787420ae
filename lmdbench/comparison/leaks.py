"""Which test images of a finished run share something with what it was trained or chosen on."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmdbench.comparison.results import Run
from lmdbench.comparison.scoring import LeaksOf
from lmdbench.core.errors import UserError
from lmdbench.data.check import audit as audits
from lmdbench.data.check.audit import Leaks
from lmdbench.data.dataset import DATASETS, Dataset, Split, open_dataset
from lmdbench.data.splits.availability import prepare_files, without_damaged
from lmdbench.data.splits.spec import SplitSpec, make_split

OpenDataset = Callable[[str], Dataset | None]  # by name; None where its files are not known


def leaks_of(results: Path, data_root: Path | None, cache: Path) -> LeaksOf:
    """A function that tells the test images of a run that leak; see ``leaked_images``. Each split
    is looked at once."""

    def opened(name: str) -> Dataset | None:
        if data_root is None and DATASETS.get(name).needs_root:
            return None
        return open_dataset(name, data_root, cache)

    found: dict[tuple[str, str], Leaks] = {}

    def leaked(run: Run) -> Leaks:
        split = (str(run.record.split_label), str(run.spec.split["fingerprint"]))
        if split not in found:
            found[split] = leaked_images(results, run, opened)
        return found[split]

    return leaked


def leaked_images(results: Path, run: Run, opened: OpenDataset) -> Leaks:
    """The test images of a run that leak, by the audit kept beside the results.

    Where there is none, and the data set can be opened, the split's tables are audited now (ids and
    lesions; nothing is written). Raises UserError, naming the split, where neither will do.
    """
    record = run.record
    fingerprint = str(run.spec.split["fingerprint"])
    name, label = str(record.results_name), str(record.split_label)
    kept = audits.kept_leaks(audits.audit_folder(results, name, label, fingerprint), fingerprint)
    if kept is not None:
        return kept
    hint = f"make one with `{_command(run, results)}`, or leave it out by --dataset or --split"
    choice = _choice(run)
    dataset = opened(str(run.spec.dataset)) if choice else None
    if choice is None or dataset is None:
        root = ", or give --data-root" if choice else ""
        raise UserError(f"no audit of {name} {label} in {results}: {hint}{root}")
    try:
        split = split_of(run, dataset)
    except UserError as error:
        raise UserError(f"{name} {label} has no audit, and {error}; {hint}") from error
    if split.fingerprint != fingerprint:
        raise UserError(
            f"{name} {label} has no audit, and the tables under --data-root give another split "
            f"than that of {run.directory}; {hint}"
        )
    parts = {"tables": audits.audit_tables(dataset, split)}
    facts = audits.describe(dataset, split, parts)
    images = frozenset(audits.test_images(parts["tables"].rows))
    return Leaks(images, audits.unseen(facts), by="tables")


def split_of(run: Run, dataset: Dataset) -> Split:
    """The split of a finished run, by the tables of its data set as they are now.

    Raises UserError for one that came from a file, and where the tables do not give it.
    """
    choice = _choice(run)
    if choice is None:
        raise UserError(f"its split {run.record.split_label} came from a file")
    split = make_split(dataset, choice)
    if partial := run.record.partial:
        prepared = prepare_files(dataset, split, allow_missing=True)
        split = without_damaged(prepared, partial.get("damaged") or ()).split
    return split


def _choice(run: Run) -> SplitSpec | None:
    split: dict[str, Any] = dict(run.spec.split)
    if str(split["name"]).startswith("file-"):
        return None
    return SplitSpec(
        name=split["name"],
        imbalance_factor=split["imbalance_factor"],
        seed=split["seed"],
        folds=split.get("folds"),
        fold=split.get("fold"),
        test_per_class=split.get("test_per_class_asked"),
    )


def needs_root(name: str) -> bool:
    """Whether commands on a data set take --data-root; of one that is not known here they do."""
    return name not in DATASETS.names() or DATASETS.get(name).needs_root


def _command(run: Run, results: Path) -> str:
    """The call of ``data audit`` for a run's split."""
    choice, split = _choice(run), run.spec.split
    name = str(run.spec.dataset)
    words = ["lmdbench data audit", name, f"--results {shlex.quote(str(results))}"]
    if needs_root(name):
        words.append("--data-root DIR")
    if choice is None:
        words.append(f"--split {str(split['name']).removeprefix('file-')}.csv")
    else:
        for option, value in (
            ("--split", choice.name),
            ("--imbalance-factor", choice.imbalance_factor),
            ("--split-seed", choice.seed),
            ("--folds", choice.folds),
            ("--fold", choice.fold),
            ("--test-per-class", choice.test_per_class),
        ):
            if value is not None:
                words.append(f"{option} {f'{value:g}' if isinstance(value, float) else value}")
    if run.record.partial:
        words.append("--allow-missing")
        words += ["--skip-damaged"] * bool(run.record.partial.get("damaged"))
    return " ".join(words)
