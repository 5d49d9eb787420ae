"""Folds of a k-fold split: one table when all are there, else a table each."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmdbench.comparison.compare import Comparison, compare
from lmdbench.comparison.results import Run, read_results
from lmdbench.data.check.audit import Leaks
from lmdbench.evaluation.metrics import balanced_accuracy

FakeRun = Callable[..., Path]
TEST = {0: [0, 0, 1, 2], 1: [0, 1, 1, 3], 2: [0, 0, 2, 3]}  # fold → labels


@pytest.fixture
def fold_run(fake_run: FakeRun) -> Callable[..., np.ndarray]:
    def write(
        method: str, seed: int, fold: int, folds: int = 3, division: str = "d", **record: Any
    ) -> np.ndarray:
        labels = np.array(TEST[fold])
        rng = np.random.default_rng([seed, fold, len(method)])
        logits = rng.normal(size=(len(labels), 4)) + np.eye(4)[labels]
        fake_run(
            method,
            seed,
            test=(labels, logits),
            split={
                "name": "kfold",
                "seed": 42,
                "imbalance_factor": None,
                "fingerprint": str(fold) * 64,
                "folds": folds,
                "fold": fold,
                "division": division,
            },
            record={"split_label": f"kfold{folds}-fold{fold}", **record},
            images=[f"{fold}-{n}" for n in range(len(labels))],
        )
        return logits

    return write


def compared(tmp_path: Path, **options: object) -> Comparison:
    return compare(read_results(tmp_path / "results"), **options)  # type: ignore[arg-type]


def test_all_folds_make_one_table(tmp_path: Path, fold_run: Callable[..., np.ndarray]) -> None:
    logits = {seed: [fold_run("ce", seed, fold) for fold in range(3)] for seed in (0, 1)}
    (block,) = compared(tmp_path).tables
    assert block.title == "skin · kfold3 · test images"
    (row,) = block.rows
    labels = np.concatenate([TEST[fold] for fold in range(3)])
    by_hand = [balanced_accuracy(labels, np.concatenate(logits[seed])) for seed in (0, 1)]
    assert row.cells["balanced_accuracy"].values == pytest.approx(by_hand)
    assert row.cells["balanced_accuracy"].n == 12
    assert block.images["test"] == {"all": 12, "head": 5, "medium": 5, "tail": 2}
    assert block.notes[0].startswith("Pooled over 3 folds: every image was tested once")


def test_each_fold_can_be_seen(tmp_path: Path, fold_run: Callable[..., np.ndarray]) -> None:
    for fold in range(3):
        fold_run("ce", 0, fold)
    titles = [block.title for block in compared(tmp_path, pooled=False).tables]
    assert titles == [f"skin · kfold3-fold{fold} · test images" for fold in range(3)]
    assert len(compared(tmp_path, part="validation").tables) == 3


def test_folds_that_lack_are_named(tmp_path: Path, fold_run: Callable[..., np.ndarray]) -> None:
    fold_run("ce", 0, 0)
    fold_run("ce", 0, 2)
    blocks = compared(tmp_path).tables
    assert len(blocks) == 2
    note = "Not pooled: no runs of fold 1 are among those compared here."
    assert all(note in block.notes for block in blocks)


def test_rows_and_seeds_that_some_fold_lacks_are_left_out(
    tmp_path: Path, fold_run: Callable[..., np.ndarray]
) -> None:
    for fold in range(3):
        fold_run("ce", 0, fold)
    fold_run("ce", 1, 0)
    fold_run("crt", 0, 1)
    (block,) = compared(tmp_path).tables
    assert [(row.label, row.seeds) for row in block.rows] == [("ce", [0])]
    assert "crt is left out: not in every fold with the same settings." in block.notes
    assert "Seed 1 is left out: it is not in every fold." in block.notes


def test_what_all_rows_lose_is_said_once(
    tmp_path: Path, fold_run: Callable[..., np.ndarray]
) -> None:
    for method in ("ce", "lmd"):
        for fold in range(3):
            fold_run(method, 0, fold)
        for seed in (1, 2):
            fold_run(method, seed, 0)
    fold_run("lmd", 3, 1)
    notes = compared(tmp_path).tables[0].notes
    assert [note for note in notes if "left out" in note] == [
        "Seeds 1, 2 of ce are left out: they are not in every fold.",
        "Seeds 1, 2, 3 of lmd are left out: they are not in every fold.",
    ]
    fold_run("ce", 3, 1)
    notes = compared(tmp_path).tables[0].notes
    assert [note for note in notes if "left out" in note] == [
        "Seeds 1, 2, 3 are left out: they are not in every fold."
    ]


def test_single_folds_are_no_settings_to_rank_by(
    tmp_path: Path, fold_run: Callable[..., np.ndarray]
) -> None:
    for method, fold in itertools.product(("ce", "lmd"), range(3)):
        fold_run(method, 0, fold)
    assert len(compared(tmp_path, pooled=False).tables) == 3
    assert compared(tmp_path, pooled=False).ranks is None


def test_splits_of_other_folds_stay_apart(
    tmp_path: Path, fold_run: Callable[..., np.ndarray]
) -> None:
    for fold in range(3):
        fold_run("ce", 0, fold)
    for fold in range(2):
        fold_run("ce", 0, fold, folds=2)
    titles = [block.title for block in compared(tmp_path).tables]
    assert titles == ["skin · kfold2 · test images", "skin · kfold3 · test images"]


def test_leaks_are_left_out_fold_by_fold(
    tmp_path: Path, fold_run: Callable[..., np.ndarray]
) -> None:
    for fold in range(3):
        fold_run("ce", 0, fold)

    def leaked(run: Run) -> Leaks:
        fold = run.spec.split["fold"]
        return Leaks(frozenset({"1-0", "1-3"} if fold == 1 else set()), ())

    full, clean = compared(tmp_path, leaked=leaked).tables
    assert (full.dropped, clean.dropped) == (None, 2)
    assert clean.images["test"]["all"] == 10
    assert clean.rows[0].recalls["df"].n == 1


def test_folds_of_other_divisions_are_not_pooled(
    tmp_path: Path, fold_run: Callable[..., np.ndarray]
) -> None:
    for fold in range(3):
        fold_run("ce", 0, fold, division="one" if fold else "other")
    blocks = compared(tmp_path).tables
    assert len(blocks) == 3
    assert all("Not pooled: no runs of fold" in " ".join(block.notes) for block in blocks)


def test_other_code_is_not_pooled(tmp_path: Path, fold_run: Callable[..., np.ndarray]) -> None:
    for fold in range(3):
        fold_run("ce", 0, fold, digests={"method": "new" if fold else "old", "store": "s"})
    blocks = compared(tmp_path).tables
    assert len(blocks) == 3
    assert all("no method has the same settings and code" in " ".join(b.notes) for b in blocks)


def test_folds_are_chosen_together_by_their_common_label(
    tmp_path: Path, fold_run: Callable[..., np.ndarray]
) -> None:
    for fold in range(3):
        fold_run("ce", 0, fold)
    (block,) = compared(tmp_path, splits=["kfold3"]).tables
    assert block.images["test"]["all"] == 12
    (block,) = compared(tmp_path, splits=["kfold3-fold1"]).tables
    assert block.images["test"]["all"] == 4


def test_other_groups_pool_all_the_same(
    tmp_path: Path, fold_run: Callable[..., np.ndarray]
) -> None:
    for fold in range(3):
        fold_run("ce", 0, fold)
    (block,) = compared(tmp_path, groups="head=nv;rest=mel_a,bcc,df").tables
    assert block.images["test"] == {"all": 12, "head": 5, "rest": 7}
    assert block.rows[0].label == "ce"
