"""A table in sentences: real or not, where, on how many images."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.comparison.types import ResultTable
from lmdbench.evaluation.differences import Difference
from lmdbench.reporting.page.verdict import verdict

FakeRun = Callable[..., Path]


@pytest.fixture
def block(fake_run: FakeRun, tmp_path: Path) -> ResultTable:
    """ce, crt and lmd with two seeds, lmd the reference; the differences are given by ``told``."""
    for seed in (0, 1):
        fake_run("ce", seed, skill=0.5)
        fake_run("crt", seed, skill=1.0)
        fake_run("lmd", seed, skill=2.0)
    (found,) = compare(read_results(tmp_path / "results"), reference="lmd").tables
    return found


def difference(value: float, low: float, high: float, seeds: int = 2) -> Difference:
    return Difference(
        value=value,
        low=low,
        high=high,
        se=0.01,
        se_test=0.01,
        se_seeds=0.01,
        df=5.0,
        seeds=seeds,
        p=0.01,
        superiority=0.9,
        detectable=0.042,
        detectable_more_seeds=0.031,
        equal=False,
        equal_within=0.05,
    )


def told(block: ResultTable, label: str, of: dict[str, tuple[Difference, dict[str, Any]]]) -> Any:
    """The block with other differences in one row."""
    rows = []
    for row in block.rows:
        cells = dict(row.cells)
        if row.label == label:
            for name, (found, more) in of.items():
                cells[name] = replace(cells[name], difference=found, **more)
        rows.append(replace(row, cells=cells))
    return replace(block, rows=tuple(rows))


def primary(found: Difference, mark: str, p: float = 0.0004) -> dict[str, Any]:
    return {"balanced_accuracy": (found, {"mark": mark, "p_corrected": p})}


GROUPS = {
    "head": (difference(0.02, -0.01, 0.05), {}),
    "medium": (difference(-0.10, -0.15, -0.05), {}),
    "tail": (difference(-0.30, -0.40, -0.20), {"n": 20}),
}


def test_a_real_gain_in_the_tail(block: ResultTable) -> None:
    row = primary(difference(-0.123, -0.155, -0.091), "worse") | GROUPS
    found = verdict(told(block, "ce", row))
    assert found.kind == "real"
    assert found.answer == (
        "The gain is real by these images and seeds: lmd is 12.3 points above ce in balanced "
        "accuracy (unadjusted 95 % interval +9.1 to +15.5, corrected p < .001, 2 seeds)."
    )
    assert found.details[:3] == (
        "It is in the tail: +30.0 points of recall (+20.0 to +40.0; 20 images of 1 class).",
        "Medium: +10.0 points of recall (+5.0 to +15.0; 18 images of 2 classes).",
        "Head: −2.0 points of recall (−5.0 to +1.0; 30 images of 1 class).",
    )
    assert found.details[-1] == (
        "It rests on 50 test images of 4 classes; df has only 2, the fewest."
    )


@pytest.mark.parametrize(
    ("low", "high", "opening"),
    [
        (-0.20, 0.10, "Whether it is in the tail is not settled: +5.0"),
        (0.01, 0.20, "It is not in the tail: −5.0"),
    ],
)
def test_a_gain_that_is_elsewhere(
    block: ResultTable, low: float, high: float, opening: str
) -> None:
    value = -0.05 if low < 0 else 0.05
    groups = {**GROUPS, "tail": (difference(value, low, high), {"n": 20})}
    row = primary(difference(-0.05, -0.08, -0.02), "worse") | groups
    assert verdict(told(block, "ce", row)).details[0].startswith(opening)


@pytest.mark.parametrize(
    ("mark", "value", "kind", "words"),
    [
        ("better", 0.05, "reversed", "There is a loss, not a gain: lmd is 5.0 points below ce"),
        ("equal", -0.001, "equal", "Practically equal: lmd is 0.1 points above ce"),
        ("", -0.03, "open", "Not settled: lmd is 3.0 points above ce"),
        ("equal", 0.0, "equal", "Practically equal: lmd is level with ce"),
    ],
)
def test_other_outcomes(block: ResultTable, mark: str, value: float, kind: str, words: str) -> None:
    row = primary(difference(value, value - 0.04, value + 0.04), mark, p=0.2)
    found = verdict(told(block, "ce", row))
    assert found.kind == kind
    assert found.answer.startswith(words)
    assert "corrected p = .200" in found.answer
    power = (
        "A true difference of 4.2 points would have been found four times in five with these "
        "seeds and images (3.1 with any number of seeds)."
    )
    assert (power in found.details) == (kind == "open")


def test_a_tail_of_too_few_images_settles_nothing(block: ResultTable) -> None:
    groups = {**GROUPS, "tail": (GROUPS["tail"][0], {"n": 4})}
    row = primary(difference(-0.05, -0.08, -0.02), "worse") | groups
    found = verdict(told(block, "ce", row)).details[0]
    assert found.startswith("Whether it is in the tail is not settled: +30.0")


def three_seeds(fake_run: FakeRun, tmp_path: Path, *names: str) -> ResultTable:
    for seed in range(3):
        fake_run("ce", seed, skill=0.5)
        fake_run("lmd", seed, skill=6.0)
    (found,) = compare(read_results(tmp_path / "results"), names=names).tables
    return found


@pytest.mark.parametrize(
    ("name", "shown"), [("recall:df", "recall of df"), ("tail", "tail recall")]
)
def test_on_fewer_than_five_images_nothing_is_tested(
    fake_run: FakeRun, tmp_path: Path, name: str, shown: str
) -> None:
    block = three_seeds(fake_run, tmp_path, name)
    cell = {row.label: row for row in block.rows}["ce"].cells[name]
    assert (cell.p_corrected, cell.mark) == (None, "")
    assert cell.difference is not None
    assert cell.difference.low < cell.difference.value < cell.difference.high
    why = f"{shown} rests on 2 test images, fewer than 5"
    assert f"Not tested, so without p and marks: {why}." in block.notes
    assert not any("80 % power" in note for note in block.notes)
    found = verdict(block)
    assert found.kind == "none"
    assert found.answer.startswith(f"Not tested, as {why}: lmd is ")
    assert "95 % interval" in found.answer
    assert found.details[-1] == "It rests on 2 test images of df."


@pytest.fixture
def sharing(fake_run: FakeRun, tmp_path: Path) -> ResultTable:
    """ce and lmd with three seeds; those of lmd start from one run."""
    start = fake_run("rrl")
    for seed in (0, 1, 2):
        fake_run("ce", seed, skill=0.5)
        fake_run("lmd", seed, skill=4.0, ancestor=start)
    (block,) = compare(read_results(tmp_path / "results"), methods=["ce", "lmd"]).tables
    return block


def test_seeds_that_share_a_run_are_not_tested(sharing: ResultTable) -> None:
    found = verdict(sharing)
    assert found.kind == "none"
    assert re.match(
        "Not tested, as seeds of lmd ← rrl share a run that they start from: lmd ← rrl is .* above",
        found.answer,
    )


def test_it_rests_on_the_images_of_the_metric(fake_run: FakeRun, tmp_path: Path) -> None:
    block = three_seeds(fake_run, tmp_path, "medium")
    assert block.rows[0].cells["medium"].n == 18
    assert verdict(block).details[-1] == (
        "It rests on 18 test images of 2 classes; bcc has only 6, the fewest."
    )


def test_where_lower_is_better_it_is_said(fake_run: FakeRun, tmp_path: Path) -> None:
    block = three_seeds(fake_run, tmp_path, "ece")
    better = difference(0.1, 0.05, 0.15, seeds=3)
    found = verdict(told(block, "ce", {"ece": (better, {"mark": "worse", "p_corrected": 0.001})}))
    assert found.kind == "real"
    assert (
        "lmd is 10.0 points below ce in ECE (test prior), where lower is better (" in found.answer
    )
    assert found.details[0].startswith("The best ECE (test prior) is that of lmd")


def test_what_no_difference_could_show_is_said(block: ResultTable) -> None:
    nothing = replace(difference(-0.03, -0.07, 0.01), detectable=float("nan"))
    found = verdict(told(block, "ce", primary(nothing, "", p=0.2)))
    assert found.details[0] == (
        "No true difference is large enough to be found four times in five with these seeds and "
        "images (3.1 points with any number of seeds)."
    )
    never = replace(nothing, detectable_more_seeds=float("nan"))
    found = verdict(told(block, "ce", primary(never, "", p=0.2)))
    assert found.details[0].endswith("found four times in five with these images.")


def test_rows_of_one_seed_are_not_called_better(fake_run: FakeRun, tmp_path: Path) -> None:
    for seed in range(3):
        fake_run("ce", seed, skill=0.5)
        fake_run("lmd", seed, skill=6.0)
    fake_run("crt", 0, skill=0.0)
    (block,) = compare(read_results(tmp_path / "results")).tables
    assert "lmd is not tested against crt." in verdict(block).details


def test_how_the_reference_stands_to_the_others(block: ResultTable) -> None:
    with_ce = told(block, "ce", primary(difference(-0.1, -0.2, -0.05), "worse"))
    both = told(with_ce, "crt", primary(difference(-0.02, -0.06, 0.02), ""))
    assert "lmd is not told apart from crt." in verdict(both).details
    both = told(with_ce, "crt", primary(difference(-0.1, -0.2, -0.05), "worse"))
    assert "lmd is better than crt." in verdict(both).details


def test_one_seed_is_said(block: ResultTable) -> None:
    one = difference(-0.1, -0.2, -0.05, seeds=1)
    found = verdict(told(block, "ce", primary(one, "worse")))
    assert found.kind == "one-seed"
    assert found.answer.startswith("One seed, so this holds for these trained models alone: lmd ")
    assert "one seed: test images only" in found.answer


def test_of_one_seed_nothing_is_called_settled(fake_run: FakeRun, tmp_path: Path) -> None:
    for method, skill in (("ce", 0.0), ("crt", 0.5), ("lmd", 6.0)):
        fake_run(method, skill=skill)
    (block,) = compare(read_results(tmp_path / "results")).tables
    found = verdict(block)
    assert found.kind == "one-seed"
    assert "p = " not in found.answer
    assert "lmd is not tested against crt." in found.details
    assert not any("four times in five" in line for line in found.details)


def test_without_interval_or_common_seed_it_says_why(fake_run: FakeRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        fake_run("ce", seed, skill=0.0)
        fake_run("lmd", seed + 2 * (seed > 0), skill=3.0)
    (block,) = compare(read_results(tmp_path / "results"), names=["macro_f1"]).tables
    assert verdict(block).answer == (
        "lmd against ce: no difference could be tested (a class has fewer than 5 test images)."
    )
    for row in block.rows:
        if row.method == "lmd":
            shutil.rmtree(row.runs[0].directory)
    (block,) = compare(read_results(tmp_path / "results")).tables
    assert verdict(block).answer == (
        "lmd against ce: no difference could be tested (no seed in common)."
    )


def test_without_the_reference_nothing_is_claimed(fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run("ce", skill=0.5)
    fake_run("crt", skill=3.0)
    (block,) = compare(read_results(tmp_path / "results"), reference="lmd").tables
    found = verdict(block)
    assert found.kind == "none"
    assert found.answer == "No difference was tested: the reference is not among these runs."
    assert found.details[0].startswith("The best balanced accuracy is that of crt, ")


def test_ce_as_the_reference_is_what_the_best_gains_over(fake_run: FakeRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        fake_run("ce", seed, skill=0.0)
        fake_run("crt", seed, skill=1.0)
        fake_run("lmd", seed, skill=6.0)
    (block,) = compare(read_results(tmp_path / "results"), reference="ce").tables
    found = verdict(block)
    assert found.kind == "real"
    assert "lmd is " in found.answer
    assert " points above ce" in found.answer
