"""Differences, marks and intervals of a comparison, against the functions they come from."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.core.errors import UserError
from lmdbench.evaluation import inference, metrics
from lmdbench.evaluation.differences import difference, linear_gap
from lmdbench.evaluation.moderation import RowSeeds, moderated
from lmdbench.evaluation.predictions import Predictions, load_predictions, save_predictions

FakeRun = Callable[..., Path]
COUNTS = {"class_counts": {"train": [60, 20, 10, 2], "test": [20] * 4}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


def only(folder: Path, **selection: Any) -> ResultTable:
    (block,) = compare(read_results(folder), **selection).tables
    return block


def by_label(block: ResultTable) -> dict[str, MethodResult]:
    return {row.label: row for row in block.rows}


@pytest.fixture
def three(fake_run: FakeRun) -> dict[str, list[Path]]:
    """ce, crt and lmd with three seeds each: directories by method."""
    skills = {"ce": 0.3, "crt": 2.0, "lmd": 4.0}
    return {m: [fake_run(m, seed, skill=s) for seed in range(3)] for m, s in skills.items()}


def correct(directories: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """(S, N) and labels, of the test images."""
    parts = [load_predictions(path / "predictions.npz", ["test"])["test"] for path in directories]
    return np.stack([p.logits.argmax(1) == p.labels for p in parts]), parts[0].labels


def _seeds_of(right: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> RowSeeds:
    images = np.bincount(labels)
    recalls = np.stack([np.bincount(labels, seed) / images for seed in right])
    spread = float(weights**2 @ recalls.var(axis=0, ddof=1))
    return RowSeeds(tuple(range(len(right))), right @ (weights / images)[labels], spread)


def test_estimate_and_difference_are_those_of_the_statistics(
    folder: Path, three: dict[str, list[Path]]
) -> None:
    block = only(folder)
    assert (block.reference, block.primary) == ("lmd", "balanced_accuracy")
    weights = np.full(4, 1 / 4)
    (ce, labels), (lmd, _) = correct(three["ce"]), correct(three["lmd"])
    cell = by_label(block)["ce"].cells["balanced_accuracy"]
    assert cell.estimate == inference.linear_estimate(ce, labels, weights)
    crt, _ = correct(three["crt"])
    rows = [_seeds_of(right, labels, weights) for right in (ce, crt, lmd)]
    gap, other = (linear_gap(right, lmd, labels, weights) for right in (ce, crt))
    of_images = (gap.test.variance + other.test.variance) / 2
    of_ce, _, of_lmd = moderated(rows, 2, of_images)
    found = difference(gap, of_ce, of_lmd, comparisons=2)
    assert vars(cell.difference) == pytest.approx(vars(found))
    assert by_label(block)["lmd"].cells["balanced_accuracy"].difference is None


def test_only_the_primary_metric_is_corrected_and_marked(
    folder: Path, three: dict[str, list[Path]]
) -> None:
    rows = by_label(only(folder))
    cells = [rows[name].cells["balanced_accuracy"] for name in ("ce", "crt")]
    expected = inference.holm(np.array([cell.difference.p for cell in cells]))
    assert [cell.p_corrected for cell in cells] == pytest.approx(expected.tolist())
    assert rows["ce"].cells["balanced_accuracy"].mark == "worse"
    others = [c for row in rows.values() for n, c in row.cells.items() if n != "balanced_accuracy"]
    assert not any(cell.mark or cell.p_corrected is not None for cell in others)
    first = by_label(only(folder, names=["accuracy", "mcc"]))["ce"].cells
    assert first["accuracy"].p_corrected is not None
    assert first["mcc"].p_corrected is None


def test_of_a_loss_less_is_better(folder: Path, three: dict[str, list[Path]]) -> None:
    rows = by_label(only(folder, names=["nll"], reference="ce", groups="head=nv,mel_a;tail=bcc,df"))
    assert rows["lmd"].cells["nll"].difference is not None
    assert rows["lmd"].cells["nll"].difference.value < 0
    assert rows["lmd"].cells["nll"].best
    assert list(rows) == ["ce", "crt", "lmd"]


def test_equal_rows_are_called_practically_equal_where_the_images_allow(
    folder: Path, fake_run: FakeRun
) -> None:
    labels = np.repeat(np.arange(4), 20_000)
    right = np.eye(4)[labels]
    for method, seed in itertools.product(("ce", "lmd"), (0, 1)):
        fake_run(method, seed, test=(labels, right))
    assert by_label(only(folder))["ce"].cells["balanced_accuracy"].mark == "equal"


def test_rows_are_paired_over_the_seeds_in_common(folder: Path, fake_run: FakeRun) -> None:
    for seed in range(4):
        fake_run("ce", seed, skill=0.5)
    for seed in (1, 2, 7):
        fake_run("lmd", seed, skill=2.0)
    block = only(folder)
    cell = by_label(block)["ce"].cells["balanced_accuracy"]
    assert (cell.estimate.seeds, cell.difference.seeds) == (4, 2)
    assert "Paired over the seeds in common with lmd: ce (2 of 4 seeds)." in block.notes


def test_superiority_is_over_all_seeds_of_both(folder: Path, fake_run: FakeRun) -> None:
    def right(n: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(8, int), np.eye(4)[[0] * n + [1] * (8 - n)] * 3

    for seed, n in enumerate((1, 2, 7)):  # in common are 0 and 1, all below
        fake_run("ce", seed, test=right(n))
    for seed, n in ((0, 4), (1, 5), (8, 7)):
        fake_run("lmd", seed, test=right(n))
    block = only(folder, names=["accuracy"], pairwise=True)
    # 7 is above 4 and 5 and ties with 7.
    assert by_label(block)["ce"].cells["accuracy"].difference.superiority == 2.5 / 9
    assert block.pairwise[0].difference.superiority == 1 - 2.5 / 9


def test_no_seed_in_common_and_no_reference(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce", 0)
    fake_run("lmd", 1)
    assert by_label(only(folder))["ce"].cells["accuracy"].difference is None
    block = only(folder, methods=["ce"])
    assert block.reference is None
    assert only(folder, reference="ce").reference == "ce"
    with pytest.raises(UserError, match=r"unknown reference 'cee'\. Did you mean ce\?"):
        only(folder, reference="cee")


def test_one_seed_says_test_images_only(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce", skill=0.3)
    fake_run("lmd", skill=3.0)
    block = only(folder)
    assert np.isnan(by_label(block)["ce"].cells["accuracy"].estimate.se_seeds)
    assert any("test images only" in note for note in block.notes)


ONE_SEED = "on one seed: intervals for the test images only, and no p, as retraining may turn them."


def test_of_one_common_seed_there_is_an_interval_and_no_test(
    folder: Path, fake_run: FakeRun
) -> None:
    for seed in (0, 1):
        fake_run("lmd", seed, skill=4.0)
        fake_run("crt", seed, skill=2.0)
    fake_run("ce", 1, skill=0.0)
    fake_run("ce", 7, skill=0.0)
    block = only(folder, pairwise=True)
    rows = by_label(block)
    cell = rows["ce"].cells["balanced_accuracy"]
    assert cell.difference.high < 0
    unknown = ("p", "superiority", "detectable", "detectable_more_seeds")
    assert np.isnan([getattr(cell.difference, name) for name in unknown]).all()
    assert (cell.p_corrected, cell.mark) == (None, "")
    crt = rows["crt"].cells["balanced_accuracy"]
    assert crt.p_corrected == crt.difference.p  # a family of one
    pairs = {(pair.a, pair.b): pair.p_corrected for pair in block.pairwise}
    assert pairs == {
        ("crt", "ce"): None,
        ("lmd", "ce"): None,
        ("lmd", "crt"): pytest.approx(crt.difference.p),
    }
    assert f"Differences of ce {ONE_SEED}" in block.notes
    assert f"Differences of crt and ce; lmd and ce {ONE_SEED}" in block.notes
    (power,) = [note for note in block.notes if "any number of seeds" in note]
    assert f"{100 * crt.difference.detectable_more_seeds:.1f} points with any number" in power


def test_what_lies_within_the_margin_is_practically_equal(
    folder: Path, three: dict[str, list[Path]]
) -> None:
    narrow, wide = only(folder), only(folder, margin=100)
    (found,) = [note for note in narrow.notes if note.startswith("No row can be found")]
    differences = [
        by_label(narrow)[name].cells["balanced_accuracy"].difference for name in ("ce", "crt")
    ]
    least = min(d.equal_within - abs(d.value) for d in differences)
    reach = float(found.partition("reaches ")[2].split(" ")[0])
    assert 0 <= reach - 100 * least < 0.1
    assert "practically equal within ±1 point:" in found
    assert {row.cells["balanced_accuracy"].mark for row in narrow.rows} <= {"", "worse"}
    (tested,) = [note for note in wide.notes if note.startswith("Tested")]
    assert "the 90 % interval lies inside ±100 points (two one-sided tests at .05" in tested
    assert not [note for note in wide.notes if note.startswith("No row can be found")]
    assert [by_label(wide)[name].cells["balanced_accuracy"].mark for name in ("ce", "crt")] == [
        "equal",
        "equal",
    ]
    for margin in (0, -1, 101, float("nan")):
        with pytest.raises(UserError, match="give points, above 0 and at most 100"):
            only(folder, margin=margin)


def test_two_seeds_are_told_what_a_third_is_worth(folder: Path, fake_run: FakeRun) -> None:
    for seed in (0, 1):
        fake_run("ce", seed, skill=1.0)
        fake_run("lmd", seed, skill=2.0)
    (note,) = [note for note in only(folder).notes if note.startswith("Two seeds say little")]
    assert note.endswith("With a third seed it is 4.3.")
    fake_run("lmd", 2, skill=2.0)
    assert any(note.startswith("Two seeds of ce say") for note in only(folder).notes)


@pytest.fixture
def sharing(fake_run: FakeRun) -> None:
    """ce, crt, lws and lmd with three seeds; all of lws start from one ce run, crt from its own."""
    ce = [fake_run("ce", seed, skill=0.3) for seed in range(3)]
    for seed in range(3):
        fake_run("crt", seed, skill=1.0, ancestor=ce[seed])
        fake_run("lws", seed, skill=2.0, ancestor=ce[0])
        fake_run("lmd", seed, skill=4.0)


def test_seeds_that_share_a_stage_1_have_an_interval_and_no_test(
    folder: Path, sharing: None
) -> None:
    block = only(folder, pairwise=True, permutation=True, margin=100)
    rows = by_label(block)
    cell = rows["lws ← ce"].cells["balanced_accuracy"]
    assert cell.difference.low < cell.difference.value < cell.difference.high
    assert np.isnan([cell.difference.p, cell.difference.detectable]).all()
    assert (cell.p_corrected, cell.mark) == (None, "")
    assert cell.permutation_p is not None  # of these trained models
    others = [rows[name].cells["balanced_accuracy"] for name in ("ce", "crt ← ce")]
    assert [other.mark for other in others] == ["equal", "equal"]
    assert max(other.p_corrected for other in others) <= 2 * max(o.difference.p for o in others)
    pairs = {(pair.a, pair.b): pair.p_corrected for pair in block.pairwise}
    assert {pair for pair, p in pairs.items() if p is None} == {
        pair for pair in pairs if "lws ← ce" in pair
    }
    (note,) = [note for note in block.notes if note.startswith("Seeds of lws ← ce share a run")]
    assert "no difference to such a row has a p or a mark. Train it for each seed" in note


def test_nothing_is_tested_against_a_reference_whose_seeds_share_a_stage_1(
    folder: Path, sharing: None
) -> None:
    block = only(folder, reference="lws")
    for row in block.rows:
        cell = row.cells["balanced_accuracy"]
        assert (cell.p_corrected, cell.mark) == (None, "")
        assert (cell.difference is None) == (row.method == "lws")
    assert any("a mark, so nothing is tested against lws ← ce. Train it" in n for n in block.notes)
    assert not any(note.startswith("Tested") for note in block.notes)


def test_where_all_have_one_seed_nothing_is_tested(folder: Path, fake_run: FakeRun) -> None:
    for method, skill in (("ce", 0.0), ("crt", 2.0), ("lmd", 4.0)):
        fake_run(method, skill=skill)
    notes = only(folder, pairwise=True).notes
    assert notes.count(f"Differences {ONE_SEED}") == 1
    assert not any(word in note for note in notes for word in ("Holm", "Tested", "any number"))


def test_rows_without_a_common_seed_are_named(folder: Path, fake_run: FakeRun) -> None:
    for seed in (0, 1):
        fake_run("lmd", seed)
        fake_run("ce", seed)
    for seed in (2, 3, 4):
        fake_run("crt", seed)
    block = only(folder, pairwise=True)
    assert "No seed in common with lmd, so not compared: crt (2–4)." in block.notes
    (pairs,) = [note for note in block.notes if note.startswith("No seed in common, so no pair")]
    assert set(pairs.removesuffix(".").partition(": ")[2].split("; ")) <= {
        "crt and ce", "ce and crt", "lmd and crt", "crt and lmd"
    }  # fmt: skip


def test_the_reference_is_found_in_any_case(folder: Path, three: dict[str, list[Path]]) -> None:
    assert only(folder, reference="LMD").reference == "lmd"
    assert only(folder, reference="Ce").reference == "ce"


def test_smooth_metrics_have_no_interval_where_a_class_is_small(
    folder: Path, three: dict[str, list[Path]]
) -> None:
    cell = by_label(only(folder))["ce"].cells["macro_f1"]
    assert np.isnan(cell.estimate.low)
    assert cell.no_interval == "a class has fewer than 5 test images"


def test_the_order_of_the_images_changes_nothing(
    folder: Path, three: dict[str, list[Path]]
) -> None:
    before = only(folder, pairwise=True)
    path = three["crt"][1] / "predictions.npz"
    parts = load_predictions(path)
    order = np.random.default_rng(0).permutation(len(parts["test"]))
    there = parts["test"]
    parts["test"] = Predictions(there.ids[order], there.labels[order], there.logits[order])
    save_predictions(path, parts)
    after = only(folder, pairwise=True)
    for pair, other in zip(before.pairwise, after.pairwise, strict=True):
        assert pair == other
    (old, new) = (by_label(block)["crt"].cells["macro_auroc"].values for block in (before, after))
    assert old == pytest.approx(new)


def test_predictions_of_other_images_are_left_out(
    folder: Path, three: dict[str, list[Path]]
) -> None:
    path = three["crt"][1] / "predictions.npz"
    parts = load_predictions(path)
    there = parts["test"]
    ids = np.char.add("other-", there.ids)
    parts["test"] = Predictions(ids, there.labels, there.logits)
    save_predictions(path, parts)
    table = only(folder)
    assert by_label(table)["crt"].seeds == [0, 2]
    (note,) = (note for note in table.notes if "left out" in note)
    assert "are not of the same images and labels" in note


def test_units_are_resampled_where_known(folder: Path, three: dict[str, list[Path]]) -> None:
    alone = by_label(only(folder))["ce"].cells["accuracy"]
    path = three["ce"][0] / "predictions.npz"
    parts = load_predictions(path)
    there = parts["test"]
    units = np.array([f"lesion{k // 5}" if k < 40 else "" for k in range(len(there))])
    parts["test"] = Predictions(there.ids, there.labels, there.logits, units)
    save_predictions(path, parts)
    block = only(folder)
    assert any("known for 40 of 50 images" in note for note in block.notes)
    together = by_label(block)["ce"].cells["accuracy"]
    assert together.mean == alone.mean
    assert together.estimate.se_test != alone.estimate.se_test


def test_pairs_classes_and_permutation(folder: Path, three: dict[str, list[Path]]) -> None:
    block = only(folder, pairwise=True, per_class="precision", permutation=True)
    assert [(pair.a, pair.b) for pair in block.pairwise] == [
        ("crt", "ce"),
        ("lmd", "ce"),
        ("lmd", "crt"),
    ]
    p = [pair.p_corrected for pair in block.pairwise]
    expected = inference.holm(np.array([pair.difference.p for pair in block.pairwise]))
    assert p == pytest.approx(expected.tolist())
    assert set(block.rows[0].by_class) == {"nv", "mel_a", "bcc", "df"}
    assert 0 < by_label(block)["ce"].cells["balanced_accuracy"].permutation_p < 0.05
    assert any("these trained models only" in note for note in block.notes)


def test_more_than_can_differ_is_not_called_detectable(folder: Path, fake_run: FakeRun) -> None:
    """Two seeds that differ widely: half the interval alone is beyond 100 points."""
    labels = np.repeat(np.arange(4), 20)
    right, wrong = np.eye(4)[labels], np.eye(4)[(labels + 1) % 4]
    for seed in (0, 1):
        fake_run("ce", seed, test=(labels, right if seed else wrong), record=COUNTS)
        fake_run("lmd", seed, test=(labels, wrong if seed else right), record=COUNTS)
    block = only(folder)
    difference = by_label(block)["ce"].cells["balanced_accuracy"].difference
    assert difference is not None
    assert difference.p > 0.2
    assert np.isnan(difference.detectable)
    assert 0 < difference.detectable_more_seeds < 1
    assert any(
        "after that correction: none possible with these seeds" in note for note in block.notes
    )


def test_nothing_is_best_where_all_are_equal_and_never_zero(
    folder: Path, fake_run: FakeRun
) -> None:
    labels = np.repeat(np.arange(4), 20)
    right = np.eye(4)[labels]
    no_tail = right.copy()
    no_tail[labels == 3] = np.eye(4)[0]
    fake_run("ce", test=(labels, no_tail), record=COUNTS)
    fake_run("crt", test=(labels, no_tail), record=COUNTS)
    cells = [row.cells for row in only(folder).rows]
    assert not any(cell.best or cell.second for row in cells for cell in row.values())
    fake_run("lmd", test=(labels, right), record=COUNTS)
    rows = by_label(only(folder))
    assert [rows[m].cells["tail"].best for m in ("ce", "crt", "lmd")] == [False, False, True]
    assert not any(rows[m].cells["tail"].second for m in rows)
    assert rows["ce"].cells["accuracy"].second


# Metrics that are added


@pytest.fixture
def wide(fake_run: FakeRun) -> dict[str, list[Path]]:
    """ce and lmd with three seeds, and twenty test images of each class."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 20)

    def run(method: str, seed: int, skill: float) -> Path:
        logits = rng.normal(size=(80, 4)) + skill * np.eye(4)[labels]
        return fake_run(method, seed, test=(labels, logits), record=COUNTS)

    skills = {"ce": 0.8, "lmd": 2.0}
    return {m: [run(m, seed, skill) for seed in range(3)] for m, skill in skills.items()}


def register_twin(**words: Any) -> None:
    """Macro F1 under another name."""
    metrics.register_metric("twin", title="Twin of F1", **words)(
        lambda labels, logits: metrics.score("macro_f1", labels, logits)
    )


@pytest.mark.parametrize("lesions", [False, True])
def test_an_added_metric_has_intervals_and_tests_by_a_bootstrap(
    folder: Path, wide: dict[str, list[Path]], lesions: bool
) -> None:
    register_twin()
    if lesions:  # known to the last run alone
        path = wide["lmd"][2] / "predictions.npz"
        parts = load_predictions(path)
        there = parts["test"]
        units = np.array([f"lesion{k // 4}" for k in range(80)])
        parts["test"] = Predictions(there.ids, there.labels, there.logits, units)
        save_predictions(path, parts)
        os.utime(path, (1, 1))  # as if the run had left it so: its record counts other parts
    ours, theirs = (
        by_label(only(folder, names=[name, "nll"]))["ce"].cells[name]
        for name in ("twin", "macro_f1")
    )
    assert (ours.mean, ours.values, ours.mark) == (theirs.mean, theirs.values, "worse")
    for own, known in ((ours.estimate, theirs.estimate), (ours.difference, theirs.difference)):
        assert own.se_seeds == known.se_seeds
        assert own.se_test == pytest.approx(known.se_test, rel=0.15)
        assert own.se_test != known.se_test
    assert 0 < ours.difference.p < 0.05
    assert ours.p_corrected == ours.difference.p


def test_a_note_says_that_an_interval_is_a_bootstrap(
    folder: Path, wide: dict[str, list[Path]]
) -> None:
    register_twin()
    note = (
        "Intervals of Twin of F1: test images by a bootstrap within classes (500 samples, "
        "generator seed 0), as influences of images are not known."
    )
    assert note in only(folder, names=["macro_f1", "twin"]).notes
    assert note not in only(folder, names=["macro_f1"]).notes
    assert any(
        n.startswith("Tested: Twin of F1 against") for n in only(folder, names=["twin"]).notes
    )


def test_the_same_runs_give_the_same_bootstrap(folder: Path, wide: dict[str, list[Path]]) -> None:
    register_twin()
    one, other = (by_label(only(folder, names=["twin"]))["ce"].cells["twin"] for _ in range(2))
    assert one == other
    alone = by_label(only(folder, names=["twin"], methods=["ce"]))["ce"].cells["twin"]
    assert alone.estimate == one.estimate


def test_an_added_metric_has_no_interval_where_a_class_is_small(
    folder: Path, three: dict[str, list[Path]]
) -> None:
    register_twin()
    cell = by_label(only(folder, names=["twin"]))["ce"].cells["twin"]
    assert np.isnan([cell.estimate.low, cell.difference.low, cell.difference.p]).all()
    assert cell.no_interval == "a class has fewer than 5 test images"


def test_direction_and_bounds_of_an_added_metric_are_its_own(
    folder: Path, wide: dict[str, list[Path]]
) -> None:
    metrics.register_metric("loss", title="Loss", bounds=(0, 20), lower_is_better=True)(
        lambda labels, logits: metrics.score("nll", labels, logits)
    )
    metrics.register_metric("likelihood", title="Likelihood", bounds=(-np.inf, 0))(
        lambda labels, logits: -metrics.score("nll", labels, logits)
    )
    rows = by_label(only(folder, names=["loss", "likelihood"]))
    for name in ("loss", "likelihood"):
        assert (rows["lmd"].cells[name].best, rows["ce"].cells[name].best) == (True, False)
    assert rows["ce"].cells["loss"].mark == "worse"
    assert rows["ce"].cells["loss"].difference.value > 0
    assert rows["ce"].cells["likelihood"].estimate.high < 0


def test_an_added_metric_that_fails_leaves_the_others_be(
    folder: Path, wide: dict[str, list[Path]]
) -> None:
    def fails_on_80(labels: np.ndarray, logits: np.ndarray) -> float:
        if len(labels) == 80:
            raise ValueError("too many")
        return 0.5

    metrics.register_metric("fails", title="Fails")(fails_on_80)
    block = only(folder, names=["fails", "accuracy"])
    cells = by_label(block)["ce"].cells
    assert cells["fails"].mean is None
    assert cells["accuracy"].mean is not None
    assert "– in Fails: seed 0: it raised ValueError: too many." in block.notes or (
        "– in Fails: it raised ValueError: too many." in block.notes
    )


def test_no_value_on_some_samples_is_no_interval(folder: Path, wide: dict[str, list[Path]]) -> None:
    def without_the_last_image(labels: np.ndarray, logits: np.ndarray) -> float:
        seen = np.unique(logits, axis=0)
        return np.nan if len(labels) == 80 and len(seen) < 50 else float((labels == 0).mean())

    metrics.register_metric("frail", title="Frail")(without_the_last_image)
    cell = by_label(only(folder, names=["frail"]))["ce"].cells["frail"]
    assert cell.mean == 0.25
    assert np.isnan(cell.estimate.low)
    assert cell.no_interval.startswith("it has no value on ")


def test_grades_and_costs_are_those_that_the_run_recorded(folder: Path, fake_run: FakeRun) -> None:
    labels = np.repeat(np.arange(4), 12)
    logits = np.random.default_rng(0).normal(size=(48, 4)) + 1.5 * np.eye(4)[labels]
    grades, costs = ["df", "nv", "bcc"], {"mel_a": {"nv": 5.0}}
    said = {"class_counts": {"train": [60, 20, 10, 2]}, "ordered_classes": grades, "costs": costs}
    fake_run("ce", 0, test=(labels, logits), record=said)
    names = [
        "qwk",
        "expected_cost",
        "sensitivity@specificity=0.9",
        "auprc",
        "net_benefit@threshold=0.3",
    ]
    table = only(folder, names=names, per_class="net_benefit@threshold=0.3")
    facts = metrics.Facts(("3", "0", "2"), {"1": {"0": 5.0}})
    expected = metrics.scores(labels, logits.astype(np.float32), {}, names, facts)
    cells = table.rows[0].cells
    assert {name: cell.mean for name, cell in cells.items()} == pytest.approx(expected)
    for cell in cells.values():
        assert cell.estimate.low < cell.mean < cell.estimate.high
    notes = "\n".join(table.notes)
    assert "Quadratic weighted kappa: over the images of the classes in order" in notes
    assert "Expected cost: costs of the data set" in notes
    assert "Sensitivity at specificity 0.9: the highest sensitivity of a class" in notes
    assert "Intervals of Sensitivity at specificity 0.9: test images by a bootstrap" in notes
    of_class = metrics.by_class("net_benefit@threshold=0.3", labels, logits.astype(np.float32))
    by_class = [table.rows[0].by_class[name].mean for name in table.record.classes]
    assert by_class == pytest.approx(of_class.tolist())


def test_without_an_order_there_is_no_weighted_kappa(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce", 0)
    table = only(folder, names=["qwk", "expected_cost"])
    why = "the data set says no order of its classes (ordered_classes)"
    assert table.rows[0].cells["quadratic_weighted_kappa"].reason == why
    assert any("a wrong prediction costs 1; every class" in note for note in table.notes)


def test_an_older_run_has_the_order_that_its_data_set_says_by_now(fake_run: FakeRun) -> None:
    grades = [f"ulcerative-colitis-grade-{n}" for n in ("1", "2", "3")]
    record = {"classes": [*grades, "cecum"], "groups": {}}
    directory = fake_run("ce", 0, dataset="hyper-kvasir", record=record)
    (run,) = read_results(directory.parents[3]).runs
    assert [name for name in run.facts.grades if name in run.classes] == grades


def test_simultaneous_intervals_agree_with_what_they_are_called(
    folder: Path, three: dict[str, list[Path]]
) -> None:
    alone, together = only(folder), only(folder, simultaneous=True)
    for label in ("ce", "crt"):
        one = by_label(alone)[label].cells["balanced_accuracy"].difference
        both = by_label(together)[label].cells["balanced_accuracy"].difference
        assert one is not None
        assert both is not None
        upper = stats.t.ppf(1 - 0.05 / 4, one.df)  # two comparisons
        assert both.high == pytest.approx(min(one.value + upper * one.se, 1))
        assert (one.simultaneous, both.simultaneous, both.p) == (False, True, one.p)
        other = by_label(together)[label].cells["accuracy"].difference
        assert other == by_label(alone)[label].cells["accuracy"].difference
