"""Which images are most often wrong, and what classes are taken for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.comparison.types import ResultTable
from lmdbench.data.check.audit import Leaks
from lmdbench.reporting.page.evidence import Evidence, gather, mistakes, most_often

FakeRun = Callable[..., Path]
CLASSES = ["nv", "mel_a", "bcc", "df"]


def evidence(predicted: list[list[int]], sure: list[list[float]], labels: list[int]) -> Evidence:
    """Of one row: images a, b, c …"""
    ids = np.array([chr(ord("a") + k) for k in range(len(labels))])
    return Evidence(ids, np.array(labels), (np.array(predicted),), np.mean(sure, axis=0))


def names(samples: list) -> list[str]:
    return [sample.image for sample in samples]


def test_wrong_and_right_by_share_then_probability_then_id() -> None:
    found = evidence(
        predicted=[[0, 1, 0, 0, 2, 2], [0, 1, 1, 0, 0, 2]],
        sure=[[0.9, 0.1, 0.6, 0.8, 0.3, 0.1], [0.9, 0.1, 0.4, 0.8, 0.5, 0.3]],
        labels=[0, 0, 0, 0, 0, 0],
    )
    wrong, right = most_often(found, 0)
    # b and f are never right, b is given less; c and e are right once, e is given less.
    assert names(wrong) == ["b", "f", "e"]
    assert names(right) == ["a", "d", "c"]
    assert [sample.right for sample in wrong] == [0, 0, 1]
    assert [sample.taken_for for sample in (*wrong, *right)] == [(1,), (2,), (2,), (), (), (1,)]
    assert {sample.runs for sample in (*wrong, *right)} == {2}


def test_classes_it_is_taken_for_as_often_are_all_named() -> None:
    found = evidence([[3], [1], [0], [1], [3], [2]], [[0.1]] * 6, [0])
    ((sample,), _) = most_often(found, 0)
    assert sample.taken_for == (1, 3)


def test_an_image_never_wrong_is_not_among_the_wrong_and_the_other_way_round() -> None:
    wrong, right = most_often(evidence([[0, 0, 1, 1]], [[0.9, 0.8, 0.2, 0.1]], [0, 0, 0, 0]), 0)
    assert (names(wrong), names(right)) == (["d", "c"], ["a", "b"])
    wrong, right = most_often(evidence([[0, 0, 0]], [[0.9, 0.8, 0.7]], [0, 0, 0]), 0)
    assert (names(wrong), names(right)) == ([], ["a", "b", "c"])
    wrong, right = most_often(evidence([[1, 1, 1]], [[0.3, 0.2, 0.1]], [0, 0, 0]), 0)
    assert (names(wrong), names(right)) == (["c", "b", "a"], [])


@pytest.mark.parametrize(
    ("predicted", "wrong", "right"), [([0, 1, 1], ["a"], []), ([0, 0, 1], [], ["a"])]
)
def test_one_image_goes_where_most_runs_put_it(
    predicted: list[int], wrong: list[str], right: list[str]
) -> None:
    found = evidence([[p] for p in predicted], [[0.5]] * 3, [0])
    assert tuple(map(names, most_often(found, 0))) == (wrong, right)


def test_no_more_than_asked_for_and_none_of_a_class_without_images() -> None:
    many = evidence([[0] * 20 + [1] * 20], [[0.5] * 40], [0] * 40)
    assert tuple(map(len, most_often(many, 0, shown=3))) == (3, 3)
    assert most_often(many, 1) == ([], [])


def test_mistakes_are_mean_shares_over_runs() -> None:
    row = np.array([[0, 1, 1, 2], [0, 0, 1, 3]])
    found = mistakes(row, np.array([0, 0, 0, 3]), 0, CLASSES)
    assert [(t.name, round(t.share, 4)) for t in found] == [("mel_a", 0.5)]
    assert [(t.name, t.share) for t in mistakes(row, np.array([0, 0, 0, 3]), 3, CLASSES)] == [
        ("bcc", 0.5)
    ]
    assert mistakes(row, np.array([0, 0, 0, 3]), 2, CLASSES) == []


def one_block(tmp_path: Path) -> ResultTable:
    (block,) = compare(read_results(tmp_path / "results")).tables
    return block


LABELS = [0, 1, 2, 3]
RIGHT = 5 * np.eye(4)


def test_runs_are_aligned_by_image(fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run("ce", 0, test=(LABELS, RIGHT), images=["p", "q", "r", "s"])
    order = [1, 0, 3, 2]
    logits = RIGHT[order]
    logits[0, 3] = 9  # q is taken for df
    fake_run("crt", 0, test=(order, logits), images=["q", "p", "s", "r"])
    found = gather(one_block(tmp_path))
    assert found.ids.tolist() == ["p", "q", "r", "s"]
    assert found.labels.tolist() == LABELS
    assert [predicted.tolist() for predicted in found.predicted] == [[LABELS], [[0, 3, 2, 3]]]
    sure = np.exp(5) / (np.exp(5) + 3)
    assert np.allclose(found.sure[[0, 2, 3]], sure)
    assert found.runs == 2


def test_images_that_leak_are_left_out(fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run("ce", 0, test=(LABELS, RIGHT), images=["p", "q", "r", "s"])
    leaks = Leaks(frozenset("qs"), ())
    _, clean = compare(read_results(tmp_path / "results"), leaked=lambda _: leaks).tables
    assert gather(clean).ids.tolist() == ["p", "r"]


def test_a_broken_run_says_nothing_of_images(fake_run: FakeRun, tmp_path: Path) -> None:
    broken = RIGHT.copy()
    broken[2] = np.nan
    fake_run("ce", 0, test=(LABELS, broken), images=["p", "q", "r", "s"])
    fake_run("crt", 0, test=(LABELS, RIGHT), images=["p", "q", "r", "s"])
    found = gather(one_block(tmp_path))
    assert [len(predicted) for predicted in found.predicted] == [0, 1]
    wrong, right = most_often(found, 2)
    assert (names(wrong), names(right)) == ([], ["r"])
