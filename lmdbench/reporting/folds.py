"""The folds of a k-fold split as one table: each image is tested once, by the run of its fold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmdbench.data.dataset import sha256_lines
from lmdbench.reporting.results import Block, Row, Run

OF_A_FOLD = ("split_label", "split_fold", "split_fingerprint")  # what folds differ in


def pool_folds(blocks: Sequence[Block]) -> list[Block]:
    """The blocks, with those that are all folds of one split made one, in the place of the first.

    A pooled run has the test predictions of a row's runs with one seed in all folds. Rows and seeds
    that some fold lacks are left out, and a note says so. Folds that are not all there stay as they
    are, with a note.
    """
    families: dict[str, list[Block]] = {}
    for block in blocks:
        families.setdefault(_family(block), []).append(block)
    pooled: list[Block] = []
    for block in blocks:
        family = families[_family(block)]
        if "split_fold" not in block.setting:
            pooled.append(block)
            continue
        missing = set(range(block.setting["split_folds"])) - {
            b.setting["split_fold"] for b in family
        }
        if missing:
            lacking = ", ".join(str(fold) for fold in sorted(missing))
            pooled.append(
                replace(block, notes=(*block.notes, f"Not pooled: no runs in fold {lacking}."))
            )
        elif block is family[0]:
            together = _together(family)
            pooled += [together] if together.rows else family
    return pooled


def _family(block: Block) -> str:
    common = {k: v for k, v in block.setting.items() if k not in OF_A_FOLD}
    return json.dumps([common, block.record["classes"]], sort_keys=True, ensure_ascii=False)


def _together(family: Sequence[Block]) -> Block:
    ordered = sorted(family, key=lambda block: block.setting["split_fold"])
    rows_of = [{row.label: row for row in block.rows} for block in ordered]
    rows, left_out = [], []
    for label in dict.fromkeys(label for rows in rows_of for label in rows):
        there = [rows[label] for rows in rows_of if label in rows]
        seeds = set.intersection(*(set(row.seeds) for row in there))
        lost = {seed for row in there for seed in row.seeds} - seeds
        if len(there) < len(ordered) or not seeds:
            left_out.append(f"{label} is left out: not in every fold.")
            continue
        if lost:
            named = ", ".join(str(seed) for seed in sorted(lost))
            left_out.append(f"{label}: seeds {named} are left out, they are not in every fold.")
        rows.append(_pooled_row(there, sorted(seeds)))
    setting = rows[0].runs[0].setting if rows else ordered[0].setting
    notes = (
        f"Pooled over {len(ordered)} folds: every image was tested once, by the run of its fold. "
        "Recalls are as of one test set; AUROC compares scores of different runs.",
        *left_out,
    )
    return Block(setting, ordered[0].differs, tuple(rows), notes)


def _pooled_row(there: Sequence[Row], seeds: Sequence[int]) -> Row:
    runs = tuple(
        _pooled_run([next(run for run in row.runs if run.seed == seed) for row in there])
        for seed in seeds
    )
    return replace(
        there[0], runs=runs, notes=tuple(dict.fromkeys(n for r in there for n in r.notes))
    )


def _pooled_run(folds: Sequence[Run]) -> Run:
    first = folds[0].record
    spec = {**first["spec"], "split": _pooled_split([run.spec["split"] for run in folds])}
    counts = [
        sum(ns) for ns in zip(*(run.record["class_counts"]["test"] for run in folds), strict=True)
    ]
    record = {
        **first,
        "spec": spec,
        "split_label": first["split_label"].replace(
            f"-fold{first['spec']['split']['fold']}", "", 1
        ),
        "class_counts": {"test": counts},
    }
    return Run(folds[0].directory, record, tuple(folds))


def _pooled_split(splits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    common = {key: value for key, value in splits[0].items() if key != "fold"}
    return {**common, "fingerprint": sha256_lines(split["fingerprint"] for split in splits)}
