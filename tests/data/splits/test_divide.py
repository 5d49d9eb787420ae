import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Part
from lmdbench.data.splits.divide import (
    check_seed,
    cut_long_tail,
    divide,
    isic_released_split,
    kvasir_released_split,
    long_tail_counts,
    require_every_class,
    split_off,
)

ISIC = [12875, 4522, 3323, 2624, 867, 628, 253, 239]
sizes = st.lists(st.integers(4, 20000), min_size=2, max_size=15)


@pytest.mark.parametrize(
    ("factor", "kept"),
    [
        (100, [12875, 4140, 2785, 2013, 609, 404, 149, 129]),
        (200, [12875, 3750, 2285, 1496, 410, 247, 83, 65]),
        (500, [12875, 3290, 1759, 1010, 243, 128, 38, 26]),
    ],
)
def test_long_tail_counts_are_the_released_ones(factor: float, kept: list[int]) -> None:
    assert long_tail_counts(ISIC, factor).tolist() == kept
    shuffled = [3, 0, 7, 2, 6, 1, 5, 4]
    got = long_tail_counts([ISIC[c] for c in shuffled], factor)
    assert got.tolist() == [kept[c] for c in shuffled]


@given(sizes, st.floats(1, 1e5))
@settings(max_examples=200, deadline=None)
def test_long_tail_counts_hold_what_they_promise(counts: list[int], factor: float) -> None:
    assume(max(counts) / min(counts) <= factor)
    try:
        kept = long_tail_counts(counts, factor, smallest=4)
    except UserError:
        assert math.ceil(max(counts) / factor - 1e-6) < 4
        return
    assert (kept <= counts).all()
    assert (kept >= 4).all()
    assert kept.max() == max(counts)
    by_size = kept[np.argsort(-np.array(counts), kind="stable")]
    assert (np.diff(by_size) <= 0).all()
    # One image more than the exact share at most, so the imbalance stays just below the factor.
    assert max(counts) / (kept.min() + 1e-6) <= factor * (1 + 1e-6)
    assert kept.min() <= max(counts) / factor + 1 + 1e-6


@given(sizes, st.sampled_from([1, 2, 4]), st.sampled_from([math.nan, 0.5, 1e9]))
def test_the_range_an_error_names_is_possible(
    counts: list[int], smallest: int, factor: float
) -> None:
    with pytest.raises(UserError, match="possible here") as error:
        long_tail_counts(counts, factor, smallest)
    low, high = (float(x) for x in str(error.value).rsplit("here: ", 1)[1].split(" to "))
    assert low <= high
    for edge in (low, high):
        assert long_tail_counts(counts, edge, smallest).min() >= smallest


@pytest.mark.parametrize(
    "factor", [math.nan, math.inf, -math.inf, 0, -3, 0.99, 1, 53.8, 4292, 1e12]
)
def test_impossible_factors(factor: float) -> None:
    with pytest.raises(UserError, match=r"possible here: 53\.9 to 4291\.6$"):
        long_tail_counts(ISIC, factor, smallest=4)


def test_a_factor_equal_to_the_datas_own_keeps_everything() -> None:
    assert long_tail_counts(ISIC, 12875 / 239).tolist() == ISIC


def test_cut_depends_on_ids_and_not_on_their_order() -> None:
    ids = [
        f"{label}{n}" for label, count in (("a", 100), ("b", 50), ("c", 40)) for n in range(count)
    ]
    labels = [image[0] for image in ids]
    kept = {ids[row] for row in cut_long_tail(ids, labels, 10, 1, seed=3)}
    backwards = ids[::-1]
    again = cut_long_tail(backwards, labels[::-1], 10, 1, seed=3)
    assert {backwards[row] for row in again} == kept
    assert {backwards[row] for row in cut_long_tail(ids, labels, 10, 1, seed=4)} != kept
    assert [sum(i[0] == c for i in kept) for c in "abc"] == long_tail_counts(
        [100, 50, 40], 10
    ).tolist()


def test_released_recipes_refuse_what_they_cannot_divide() -> None:
    with pytest.raises(UserError, match="at least 4 images each"):
        isic_released_split(list("abcdef"), list("xxxxyy"), "xy", 3, 42)
    with pytest.raises(UserError, match="cannot divide this table"):
        kvasir_released_split(list("abcdef"), list("xxxxxy"), "xy", 42)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range(seed: int) -> None:
    with pytest.raises(UserError, match="seed"):
        check_seed(seed)
    with pytest.raises(UserError, match="seed"):
        divide(list("abcd"), list("xxyy"), None, seed)


class_counts = st.lists(st.integers(2, 60), min_size=1, max_size=6)


@given(class_counts, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_division_without_groups(counts: list[int], seed: int) -> None:
    labels = [f"c{c}" for c, n in enumerate(counts) for _ in range(n)]
    ids = [f"image{n}" for n in range(len(labels))]
    parts = divide(ids, labels, None, seed)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(ids)))
    for c, n in enumerate(counts):
        train, validation, test = (
            sum(labels[row] == f"c{c}" for row in rows) for rows in parts.values()
        )
        assert train >= 1
        assert test == max(1, math.floor(0.2 * n + 0.5))
        assert validation == math.floor(0.1 * n + 0.5)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(2, (1, 0, 1)), (3, (2, 0, 1)), (5, (3, 1, 1)), (10, (7, 1, 2)), (100, (70, 10, 20))],
)
def test_small_classes_keep_a_training_and_a_test_image(
    n: int, expected: tuple[int, int, int]
) -> None:
    parts = divide([str(i) for i in range(n)], ["x"] * n, None, 42)
    assert tuple(len(rows) for rows in parts.values()) == expected


def test_division_is_the_same_in_any_row_order() -> None:
    ids = [f"i{n}" for n in range(60)]
    labels = ["a" if n % 3 else "b" for n in range(60)]
    for groups in (None, [f"g{n // 4}" for n in range(60)]):
        straight = divide(ids, labels, groups, 1)
        backwards = divide(ids[::-1], labels[::-1], groups and groups[::-1], 1)
        other = divide(ids, labels, groups, 2)
        for part in straight:
            mine = {ids[row] for row in straight[part]}
            assert mine == {ids[::-1][row] for row in backwards[part]}
            assert mine != {ids[row] for row in other[part]}


@given(st.data(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_groups_stay_together(data: st.DataObject, seed: int) -> None:
    rows = data.draw(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.sampled_from(["", *"ghijklmnop"])),
            min_size=1,
            max_size=80,
        )
    )
    labels, groups = [label for label, _ in rows], [group for _, group in rows]
    ids = [str(n) for n in range(len(rows))]
    try:
        parts = divide(ids, labels, groups, seed)
    except UserError:  # a class in too few groups
        return
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(rows)))
    held = [{groups[row] for row in members} - {""} for members in parts.values()]
    assert sum(map(len, held)) == len(set().union(*held))
    for name in ("train", "test"):
        assert {labels[row] for row in parts[name]} == set(labels)


def test_grouped_division_comes_close_to_the_shares() -> None:
    rng = np.random.default_rng(0)
    groups = [f"p{n}" for n in rng.integers(0, 300, size=1000)]
    labels = [str(c) for c in rng.choice(4, size=1000, p=[0.7, 0.2, 0.07, 0.03])]
    parts = divide([str(n) for n in range(1000)], labels, groups, 42)
    for label in "0123":
        total = labels.count(label)
        for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
            got = sum(labels[row] == label for row in parts[name])
            assert abs(got - share * total) <= max(3, 0.05 * total)


def test_errors_name_the_class_that_cannot_be_divided() -> None:
    with pytest.raises(UserError, match="class 'y' has 1 image; it takes at least 2"):
        divide(list("abc"), list("xxy"), None, 42)
    with pytest.raises(UserError, match="class 'y': its 3 images belong to 1 group"):
        divide(list("abcdef"), list("xxxyyy"), ["1", "2", "3", "4", "4", "4"], 42)
    # Both classes have two groups, but each pair can only be torn so that one class is left out.
    with pytest.raises(UserError, match="no division found"):
        divide(list("abcdef"), list("xyyzzx"), list("112233"), 42)


def test_a_group_may_be_named_like_an_image() -> None:
    parts = divide(list("abcd"), list("xxyy"), ["", "a", "", ""], 42)
    assert sum(map(len, parts.values())) == 4


def test_every_class_needs_training_and_test_images() -> None:
    none, both = np.array([], dtype=str), np.array([0, 1])
    parts = {"train": Part(none, both), "test": Part(none, np.array([1]))}
    with pytest.raises(UserError, match=r"^here: no test image of x; every class"):
        require_every_class("xy", parts, "here")


def test_what_is_split_off_is_what_scikit_learn_splits_off():
    from sklearn.model_selection import train_test_split

    for seed, share in ((42, 0.3), (42, 1 / 3), (0, 0.3), (7, 1 / 3)):
        for n in (4, 5, 9, 10, 50, 99, 1000, 12875):
            rows = pd.Series(np.arange(n) * 3)
            stays, off = train_test_split(rows, test_size=share, random_state=seed)
            mine = split_off(rows, share, seed)
            pd.testing.assert_series_equal(mine[0], stays)
            pd.testing.assert_series_equal(mine[1], off)
