"""The numbers of a comparison, which are best, their order, and the notes beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmdbench.comparison.compare import Comparison, compare
from lmdbench.comparison.notes import in_text, seeds_text
from lmdbench.comparison.results import read_results
from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.core.errors import UserError

FakeRun = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


def compared(folder: Path, **selection: Any) -> Comparison:
    return compare(read_results(folder), **selection)


def only(folder: Path, **selection: Any) -> ResultTable:
    (block,) = compared(folder, **selection).tables
    return block


def by_label(block: ResultTable) -> dict[str, MethodResult]:
    return {row.label: row for row in block.rows}


def predicting(classes: list[int], labels: list[int]) -> tuple[list[int], np.ndarray]:
    """Labels with logits whose largest is at the given classes of four."""
    return labels, np.eye(4)[classes] * 3


def test_mean_and_deviation_worked_out_by_hand(folder: Path, fake_run: FakeRun) -> None:
    labels = [0, 0, 0, 0, 1, 1, 2, 3]
    fake_run("ce", 0, test=predicting([0, 0, 0, 0, 1, 1, 2, 0], labels))  # recalls 1 1 1 0
    fake_run("ce", 1, test=predicting([0, 0, 0, 1, 1, 0, 0, 0], labels))  # .75 .5 0 0
    fake_run("ce", 2, test=predicting([0, 0, 1, 1, 1, 1, 1, 3], labels))  # .5 1 0 1
    (row,) = only(folder).rows
    cell = row.cells["balanced_accuracy"]
    assert cell.values == pytest.approx((0.75, 0.3125, 0.625))
    assert cell.mean == pytest.approx(0.5625)
    assert cell.sd == pytest.approx(np.sqrt((0.1875**2 + 0.25**2 + 0.0625**2) / 2))
    assert row.cells["accuracy"].values == pytest.approx((7 / 8, 4 / 8, 5 / 8))
    assert row.cells["head"].mean == pytest.approx(0.75)
    assert row.cells["medium"].values == pytest.approx((1, 0.25, 0.5))
    assert row.cells["tail"].mean == pytest.approx(1 / 3)
    assert [row.cells[name].n for name in ("accuracy", "head", "medium", "tail")] == [8, 4, 3, 1]
    assert row.recalls["mel_a"].values == pytest.approx((1, 0.5, 1))
    assert row.recalls["mel_a"].n == 2
    # Confusion of seed 0: class 3 goes to 0, so F1 = 8/9, 1, 1, 0.
    assert row.cells["macro_f1"].values[0] == pytest.approx((8 / 9 + 1 + 1 + 0) / 4)


def test_practically_equal_is_said_even_of_a_significant_difference(
    folder: Path, fake_run: FakeRun
) -> None:
    """Half a point on 16,000 images, in each of three seeds."""
    labels = np.repeat(np.arange(4), 4000)
    right = np.tile(np.arange(4000) < 3200, 4)
    for seed in range(3):
        for method, more in (("ce", 0), ("crt", 20)):
            better = np.tile(np.arange(4000) < 3200 + more, 4)
            predicted = np.where(right | better, labels, (labels + 1) % 4)
            logits = np.eye(4)[predicted] * 3
            images = [f"i{n}" for n in range(len(labels))]
            fake_run(method, seed, test=(labels, logits), images=images)
    cell = by_label(only(folder, reference="ce"))["crt"].cells["balanced_accuracy"]
    assert cell.difference.value == pytest.approx(0.005)
    assert cell.p_corrected < 0.05
    assert cell.mark == "equal"


def test_one_seed_has_no_deviation(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce", 4)
    block = only(folder)
    assert block.rows[0].cells["accuracy"].sd is None
    assert "Seed 4; one seed: its intervals are of the test images only." in block.notes


def test_ce_comes_first_and_the_others_rise_by_the_first_metric(
    folder: Path, fake_run: FakeRun
) -> None:
    for method, skill in (("a", 3.0), ("b", 0.1), ("c", 1.0), ("ce", 2.0)):
        fake_run(method, skill=skill)
    assert list(by_label(only(folder))) == ["ce", "b", "c", "a"]


def test_best_of_a_column_ties_at_the_digits_shown(folder: Path, fake_run: FakeRun) -> None:
    for method, skill in (("ce", 1.0), ("same", 1.0), ("worse", 0.1)):
        fake_run(method, skill=skill)
    rows = by_label(only(folder))
    assert [rows[m].cells["accuracy"].best for m in ("ce", "same", "worse")] == [True, True, False]


def test_a_single_row_is_not_called_best(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce")
    assert not any(cell.best for cell in only(folder).rows[0].cells.values())


def test_values_of_different_tables_do_not_compete(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce", skill=1.0)
    fake_run("crt", skill=0.1)
    fake_run("crt", skill=3.0, backbone="resnet50")
    assert {
        (block.setting["backbone"], label): row.cells["accuracy"].best
        for block in compared(folder).tables
        for label, row in by_label(block).items()
    } == {("resnet18", "ce"): True, ("resnet18", "crt"): False, ("resnet50", "crt"): False}


def test_a_seed_without_a_value_makes_the_mean_missing_with_the_reason(
    folder: Path, fake_run: FakeRun
) -> None:
    labels = [0, 1, 2, 3]
    good = predicting([0, 1, 2, 3], labels)
    fake_run("ce", 0, test=good)
    fake_run("crt", 0, test=good)
    fake_run("crt", 1, test=(labels, np.full((4, 4), np.nan)))
    block = only(folder)
    cell = by_label(block)["crt"].cells["accuracy"]
    assert (cell.mean, cell.sd, cell.best) == (None, None, False)
    assert cell.values == (1, None)
    (note,) = [note for note in block.notes if note.startswith("–")]
    assert note.startswith("– in Balanced accuracy, Macro F1, ")
    assert note.endswith(" of crt: seed 1: the logits of 4 of 4 images are not finite.")
    why = "crt (seed 1: the logits of 4 of 4 images are not finite)"
    told = f"Not tested of these rows, as Balanced accuracy is not known: {why}."
    assert told in only(folder, reference="ce").notes
    told = f"Not tested, as Balanced accuracy is not known: {why}."
    assert told in only(folder, reference="crt").notes
    assert next(iter(by_label(block))) == "ce"
    assert not by_label(block)["ce"].cells["accuracy"].best  # it has no rival


def test_classes_and_groups_without_images_are_named(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce", test=predicting([0, 1, 2], [0, 1, 2]))
    block = only(folder)
    assert block.rows[0].cells["tail"].mean is None
    assert block.rows[0].cells["balanced_accuracy"].mean == 1
    assert block.rows[0].recalls["df"].mean is None
    assert "– in Tail: no class of the group has images." in block.notes
    assert "No test images of df: averages over classes are over the other 3." in block.notes


def test_notes_say_what_was_compared(folder: Path, fake_run: FakeRun) -> None:
    for seed in (0, 1, 2):
        fake_run("ce", seed)
    fake_run("crt", 0)
    block = only(folder)
    assert block.title == "skin · plain-if100 · test images"
    assert list(block.notes) == [
        "Images: train 92 (head 60, medium 30, tail 2); validation 14 (head 6, medium 7, tail 1); "
        "test 50 (head 30, medium 18, tail 2). A group's value is the mean recall of its classes.",
        "Groups: head nv; medium mel_a, bcc; tail df.",
        f"Split plain-if100 (images {'f' * 12}); selection last, resnet18, weights IMAGENET1K_V1, "
        "image size 224, precision mixed.",
        "Seeds differ between rows (0–2: ce; 0: crt).",
        "crt: one seed: its intervals are of the test images only.",
        "95 % intervals: seeds and test images; unit of resampling: an image, as no lesion or "
        "patient is recorded.",
        "No interval for Macro F1, Macro AUROC: a class has fewer than 5 test images.",
        "No row is lmd, so nothing is tested against it; --reference names another: ce, crt.",
    ]


def test_equal_seeds_are_said_once(folder: Path, fake_run: FakeRun) -> None:
    for seed in (0, 1):
        fake_run("ce", seed)
        fake_run("crt", seed)
    assert "Seeds 0, 1 in every row." in only(folder).notes


def test_partial_and_synthetic_data_are_marked(folder: Path, fake_run: FakeRun) -> None:
    partial = {"missing": 22670, "total": 25331, "dropped_classes": ["vasc"]}
    fake_run(record={"partial": partial, "synthetic": True})
    block = only(folder)
    assert block.title == "skin · plain-if100 · test images · PARTIAL DATA · SYNTHETIC DATA"
    assert block.notes[0] == (
        "PARTIAL DATA: 2,661 of 25,331 images. Dropped classes: vasc. "
        "Not comparable with results on all of them."
    )
    assert block.notes[1].startswith("SYNTHETIC DATA: ")


def test_different_precision_in_use_is_noted(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce", 0)
    fake_run("ce", 1, record={"precision_used": "float32"})
    note = "Runs were computed in different precision: bfloat16 and float32."
    assert note in only(folder).notes


def test_validation_scores_are_no_test(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce")
    block = only(folder, part="validation")
    assert block.rows[0].cells["accuracy"].n == 14
    assert "validation images" in block.title
    assert any("no test of it" in note for note in block.notes)


def test_selections(folder: Path, fake_run: FakeRun) -> None:
    for dataset in ("a", "b"):
        fake_run("ce", dataset=dataset)
        fake_run("crt", dataset=dataset)
    fake_run("crt", 1, dataset="a", state=None)
    fake_run("ce", dataset="a", record={"split_label": "plain-if500", "results_name": "a-mine"})
    found = compared(folder, datasets=["a"], methods=["crt"])
    assert [list(by_label(block)) for block in found.tables] == [["crt"]]
    assert found.unfinished == 1
    assert compared(folder, methods=["ce"]).unfinished == 0
    assert compared(folder, datasets=["b"]).unfinished == 0
    assert len(compared(folder, datasets=["a-mine"]).tables) == 1
    assert len(compared(folder, splits=["plain-if500"]).tables) == 1
    tail = only(folder, datasets=["b"], names=["Tail", "balanced-accuracy", "Macro F1", "tail"])
    assert tail.metrics == ("tail", "balanced_accuracy", "macro_f1")
    assert tuple(tail.rows[0].cells) == tail.metrics


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"datasets": ["skim"]}, r"unknown data set 'skim'\. Did you mean skin\?"),
        ({"methods": ["cee"]}, r"unknown method 'cee'\. Did you mean ce\?"),
        ({"splits": ["plain-if10"]}, r"unknown split 'plain-if10'\. Did you mean plain-if100"),
        ({"names": ["tial"]}, r"unknown metric 'tial'\. Did you mean tail\?"),
        ({"datasets": ["other"], "methods": ["ce"]}, "no finished runs of data set other and"),
    ],
)
def test_what_no_result_has(
    folder: Path, fake_run: FakeRun, selection: dict[str, Any], message: str
) -> None:
    fake_run("ce")
    fake_run("crt", dataset="other")
    with pytest.raises(UserError, match=message):
        compared(folder, **selection)


def test_nothing_finished_says_what_is_there(folder: Path, fake_run: FakeRun) -> None:
    with pytest.raises(UserError, match=r"no results folder .*; make some with `lmdbench run`"):
        compared(folder)
    run = fake_run("ce", state=None)
    with pytest.raises(UserError) as problem:
        compared(folder)
    assert str(problem.value) == (
        f"no finished runs under {folder} (1 unfinished: {run.relative_to(folder)}); "
        "make some with `lmdbench run`"
    )


def test_predictions_that_are_not_the_runs_are_refused(folder: Path, fake_run: FakeRun) -> None:
    counts = {"train": [1] * 4, "validation": [1] * 4, "test": [30, 12, 6, 3]}
    fake_run("ce", record={"class_counts": counts})
    with pytest.raises(UserError, match=r"predictions\.npz: its test labels are not those"):
        compared(folder)


def test_a_group_of_another_data_set_is_missing(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce", dataset="a")
    fake_run("ce", dataset="b", record={"groups": {"rare": ["df"]}})
    first, second = compared(folder, names=["rare"]).tables
    assert "– in Rare: this data set has no such class or group." in first.notes
    assert second.rows[0].cells["rare"].mean is not None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("balanced_accuracy", "balanced accuracy"),
        ("macro_f1", "macro F1"),
        ("macro_auroc", "macro AUROC"),
        ("mcc", "MCC"),
        ("nll", "NLL (test prior)"),
        ("ece_balanced", "ECE (equal prior)"),
        ("f1:nv", "F1 of nv"),
        ("precision:NV", "precision of NV"),
        ("tail", "tail recall"),
        ("sensitivity@specificity=0.9", "sensitivity at specificity 0.9"),
        ("macro_npv", "macro NPV"),
    ],
)
def test_names_in_a_sentence_keep_their_acronyms(name: str, text: str) -> None:
    assert in_text(name) == text


@pytest.mark.parametrize(
    ("seeds", "text"),
    [([0], "0"), ([0, 1], "0, 1"), ([0, 1, 2], "0–2"), ([0, 2, 3, 4, 9], "0, 2–4, 9")],
)
def test_seeds_in_words(seeds: list[int], text: str) -> None:
    assert seeds_text(seeds) == text


def test_what_mixed_precision_came_to_is_said(folder: Path, fake_run: FakeRun) -> None:
    fake_run("ce", record={"precision_used": "float32"})
    assert any("precision mixed, which came to float32." in note for note in only(folder).notes)
    fake_run("crt", record={"precision_used": "bfloat16"})
    notes = only(folder).notes
    assert "Runs were computed in different precision: bfloat16 and float32." in notes
    assert not any("came to" in note for note in notes)


def test_a_part_that_there_is_not_is_named_and_nobody_is_sent_to_train(
    folder: Path, fake_run: FakeRun
) -> None:
    fake_run()
    with pytest.raises(UserError, match=r"unknown part 'tst'\. Did you mean test\?"):
        compared(folder, part="tst")


def test_a_comparison_is_printed_in_a_line_a_table(folder: Path, fake_run: FakeRun) -> None:
    directory = fake_run("ce", seed=3)
    fake_run("crt")
    fake_run("ce", dataset="lung")
    found = compared(folder)
    assert repr(found).splitlines() == [
        "Comparison of 2 tables",
        "lung · plain-if100 · test images: ce",
        "skin · plain-if100 · test images: ce, crt",
    ]
    (run,) = [row.runs[0] for row in found.tables[1].rows if row.method == "ce"]
    assert repr(run) == f"Run(ce, seed 3, {directory.name[-8:]})"
