"""The data sets of a sweep file, as set-ups of runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from lmdbench.core.folders import default_cache
from lmdbench.core.lines import KeyPath
from lmdbench.core.registry import unknown
from lmdbench.core.schema import Check, Document, flag, number, one_of, text, whole
from lmdbench.data.dataset import DATASETS
from lmdbench.data.folder.description import LARGEST, SMALLEST
from lmdbench.data.splits.given import MOST_FOLDS, number_of_folds
from lmdbench.data.splits.spec import SPLITS, SplitSpec, is_file_name
from lmdbench.models.backbone import MOST_VIEWS
from lmdbench.models.backbones import PUBLISHED, get_backbone, resolve_weights
from lmdbench.models.tuning import parse_tuning
from lmdbench.runs.request import RunContext

# Key of [run] or of a data set → what it may be. A split, groups and weights are looked at after.
OF_A_SETUP: dict[str, Check] = {
    "split": text,
    "imbalance_factor": number(1),
    "split_seed": whole(0, 2**32 - 1),
    "folds": whole(2, MOST_FOLDS),
    "fold": whole(0, MOST_FOLDS - 1),
    "test_per_class": whole(1),
    "groups": text,
    "data_root": text,
    "allow_missing": flag,
    "skip_damaged": flag,
    "backbone": text,
    "weights": text,
    "weights_partial": flag,
    "tuning": text,
    "feature_views": whole(0, MOST_VIEWS),
    "image_size": whole(SMALLEST, LARGEST),
    "selection": one_of("last", "best"),
    "precision": one_of("mixed", "float32"),
}
ONE_VALUE = ("data_root", "allow_missing", "skip_damaged")  # of those, what is no matter of science
ONLY_FOR = {"folds": "kfold", "fold": "kfold", "test_per_class": "balanced-test"}  # key → split


def read_setups(doc: Document, data_root: Path | None) -> dict[RunContext, str]:
    """Set-up → FILE:LINE. ``data_root``: of those that name none."""
    common = doc.table(("run",))
    doc.known(("run",), common, OF_A_SETUP)
    found: dict[RunContext, str] = {}
    used: set[KeyPath] = set()
    for path, item in doc.items("datasets", "demo"):
        doc.known(path, item, ["name", *OF_A_SETUP])
        if item["name"] not in DATASETS.names():
            problem = unknown("data set", item["name"], DATASETS.names())
            raise doc.error((*path, "name"), problem)
        paths: dict[str, KeyPath] = {key: ("run", key) for key in common}
        paths |= {key: (*path, key) for key in item if key != "name"}
        values = {**common, **item}
        axes = {key: _axis(doc, key, values[key], where) for key, where in paths.items()}
        new: dict[RunContext, None] = {}
        for combination in itertools.product(*axes.values()):
            chosen = dict(zip(axes, combination, strict=True))
            for key, split in ONLY_FOR.items():
                if key in chosen and chosen.get("split") != split:
                    del chosen[key]
            used |= {paths[key] for key in chosen}
            _check_weights(doc, item["name"], chosen, paths)
            new |= dict.fromkeys(_crossed(doc, data_root, item["name"], chosen, paths))
        for setup in new:
            if setup in found:
                raise doc.error(path, f"the same runs as those of {found[setup]}; leave one out")
            found[setup] = doc.place(path)
        for key, where in paths.items():
            if where not in used and where[0] != "run":
                raise doc.error(where, f'{key} is for split = "{ONLY_FOR[key]}"; leave it out')
    for key in common:
        if ("run", key) not in used and key in ONLY_FOR:
            raise doc.error(("run", key), f'{key} is for split = "{ONLY_FOR[key]}"; leave it out')
    return found


def _axis(doc: Document, key: str, value: Any, path: KeyPath) -> list[Any]:
    wanted = OF_A_SETUP[key]
    if key in ONE_VALUE:
        return [doc.check(path, value, wanted)]
    values = doc.axis(path, value, wanted)
    if key == "split":
        return [_split(doc, path, name) for name in values]
    if key == "weights":
        return [_weights(doc, path, name) for name in values]
    if key == "backbone":
        for name in values:
            with doc.told_of(path):
                get_backbone(name)
    if key == "tuning":
        for name in values:
            with doc.told_of(path):
                parse_tuning(name)
    return values


def _split(doc: Document, path: KeyPath, name: str) -> str:
    if name in SPLITS or not is_file_name(name):
        return name  # the data set's own name for its split is known to its tables alone
    listed = doc.resolved(name)
    if not listed.is_file():
        raise doc.error(path, f"split {name}: no such file {listed}; mend the path")
    return str(listed)


def _weights(doc: Document, path: KeyPath, name: str) -> str:
    if name in ("none", *PUBLISHED):
        return name
    file = doc.resolved(name)
    if not file.is_file():
        raise doc.error(
            path,
            f'weights {name}: no such file {file}; give "none", "imagenet", "pretrained" or a file',
        )
    return str(file)


def _check_weights(
    doc: Document, dataset: str, chosen: Mapping[str, Any], paths: Mapping[str, KeyPath]
) -> None:
    """Refuse published weights of a backbone that has none."""
    if (weights := chosen.get("weights")) in PUBLISHED:
        backbone = get_backbone(chosen.get("backbone") or DATASETS.get(dataset).backbone)
        with doc.told_of(paths["weights"]):
            resolve_weights(backbone, weights, "none")


def _crossed(
    doc: Document,
    data_root: Path | None,
    dataset: str,
    chosen: Mapping[str, Any],
    paths: Mapping[str, KeyPath],
) -> Iterator[RunContext]:
    """The set-up of one combination, or one for each fold."""
    folds: Sequence[int | None] = [chosen.get("fold")]
    root = data_root
    if "data_root" in chosen:
        root = doc.resolved(chosen["data_root"])
        if not root.exists():
            raise doc.error(paths["data_root"], f"data_root {root} does not exist; mend it")
    if chosen.get("split") == "kfold":
        most = chosen.get("folds") or number_of_folds(dataset, root, default_cache())
        folds = range(most) if folds[0] is None else folds
        if chosen.get("fold", 0) >= most:
            raise doc.error(
                paths["fold"], f"fold is {chosen['fold']}; give one from 0 to {most - 1}"
            )
    own = {f.name for f in fields(RunContext)} - {"dataset", "split", "data_root"}
    for fold in folds:
        yield RunContext(
            dataset=dataset,
            data_root=root,
            split=SplitSpec(
                name=chosen.get("split"),
                imbalance_factor=chosen.get("imbalance_factor"),
                seed=chosen.get("split_seed"),
                folds=chosen.get("folds"),
                fold=fold,
                test_per_class=chosen.get("test_per_class"),
                groups=chosen.get("groups"),
            ),
            **{key: value for key, value in chosen.items() if key in own},
        )
