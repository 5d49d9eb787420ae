"""The folds of a k-fold split as one table: each image is tested once, by the run of its fold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmdbench.comparison.results import MethodRuns, Run, RunGroup, chain_key
from lmdbench.data.dataset import sha256_lines

OF_A_FOLD = ("split_label", "split_fold", "split_fingerprint")  # what folds differ in


def pool_folds(groups: Sequence[RunGroup]) -> list[RunGroup]:
    """The groups, with all folds of one division made one, in the place of the first of them.

    A pooled run has the test predictions of a row's runs with one seed in all folds. Rows and seeds
    that some fold lacks are left out, and a note says so. Folds that are not all there, or have no
    row in common, stay as they are, with a note.
    """
    families: dict[str, list[RunGroup]] = {}
    for group in groups:
        families.setdefault(_family(group), []).append(group)
    pooled: list[RunGroup] = []
    for group in groups:
        family = families[_family(group)]
        if "split_fold" not in group.setting:
            pooled.append(group)
        elif problem := _unpoolable(family):
            pooled.append(replace(group, remarks=(*group.remarks, f"Not pooled: {problem}.")))
        elif group is family[0]:
            pooled.append(_together(family))
    return pooled


def pooled_label(setting: Mapping[str, Any]) -> str:
    """The label of all folds together of a fold's setting; other labels as they are."""
    label = str(setting["split_label"])
    return label.replace(f"-fold{setting.get('split_fold')}", "", 1)


def _family(group: RunGroup) -> str:
    common = {k: v for k, v in group.setting.items() if k not in OF_A_FOLD}
    return json.dumps([common, group.record.classes], sort_keys=True, ensure_ascii=False)


def _unpoolable(family: Sequence[RunGroup]) -> str:
    """Why groups of one division make no table together; empty if they do."""
    folds = [group.setting["split_fold"] for group in family]
    missing = sorted(set(range(family[0].setting["split_folds"])) - set(folds))
    if missing:
        return f"no runs of fold {', '.join(map(str, missing))} are among those compared here"
    if len(folds) > len(set(folds)):
        return "a fold is there twice, with other images missing"
    if not _common(family)[0]:
        return "no method has the same settings and code, and a seed in common, in every fold"
    return ""


def _common(
    family: Sequence[RunGroup],
) -> tuple[list[tuple[list[MethodRuns], list[int]]], list[str]]:
    """Rows that all folds have, fold by fold, with their common seeds; and what is left out."""
    rows_of = [_by_key(group) for group in family]
    common, left_out = [], []
    lacking: dict[tuple[int, ...], list[str]] = {}  # seeds → the rows that lose them
    for key in dict.fromkeys(key for rows in rows_of for key in rows):
        matching = [rows[key] for rows in rows_of if key in rows]
        label = matching[0].label
        seeds = set.intersection(*(set(row.seeds) for row in matching))
        lost = sorted({seed for row in matching for seed in row.seeds} - seeds)
        if len(matching) < len(family) or not seeds:
            left_out.append(f"{label} is left out: not in every fold with the same settings.")
            continue
        if lost:
            lacking.setdefault(tuple(lost), []).append(label)
        common.append((matching, sorted(seeds)))
    for lost_seeds, labels in lacking.items():
        of = f" of {', '.join(labels)}" if len(labels) < len(common) else ""
        named = ", ".join(map(str, lost_seeds))
        one = len(lost_seeds) == 1
        left_out.append(
            f"Seed {named}{of} is left out: it is not in every fold."
            if one
            else f"Seeds {named}{of} are left out: they are not in every fold."
        )
    return common, left_out


def _by_key(group: RunGroup) -> dict[str, MethodRuns]:
    """The rows of a group by what they are; those that are told apart by their ancestors' ids alone
    cannot be matched with those of another fold."""
    keys = Counter(chain_key(row.chain) for row in group.rows)
    return {key: row for row in group.rows if keys[key := chain_key(row.chain)] == 1}


def _together(family: Sequence[RunGroup]) -> RunGroup:
    family = sorted(family, key=lambda group: group.setting["split_fold"])
    common, left_out = _common(family)
    rows = tuple(_pooled_row(matching, seeds) for matching, seeds in common)
    notes = (
        f"Pooled over {len(family)} folds: every image was tested once, by the run of its fold. "
        "Recalls are as of one test set; AUROC compares scores of different runs.",
        *left_out,
    )
    return RunGroup(rows[0].runs[0].setting, family[0].differs, rows, notes)


def _pooled_row(matching: Sequence[MethodRuns], seeds: Sequence[int]) -> MethodRuns:
    runs = tuple(
        _pooled_run([next(run for run in row.runs if run.seed == seed) for row in matching])
        for seed in seeds
    )
    notes = tuple(dict.fromkeys(note for row in matching for note in row.remarks))
    return replace(matching[0], runs=runs, remarks=notes)


def _pooled_run(folds: Sequence[Run]) -> Run:
    first = folds[0].record
    splits = [run.spec.split for run in folds]
    tested = (run.record.class_counts["test"] for run in folds)
    fingerprint = sha256_lines(split["fingerprint"] for split in splits)
    split = {key: value for key, value in splits[0].items() if key != "fold"}
    record = replace(
        first,
        spec=replace(first.spec, split={**split, "fingerprint": fingerprint}),
        split_label=pooled_label(folds[0].setting),
        class_counts={"test": [sum(counts) for counts in zip(*tested, strict=True)]},
    )
    return Run(folds[0].directory, record, tuple(folds))
