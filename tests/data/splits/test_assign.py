"""Groups shared out by class counts: whole, near what is wanted, alike in every order of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.data.splits.assign import allot, even_counts, shuffled


def drawn(rng: np.random.Generator, images: int, classes: int, spread: float):
    """Ids, codes and groups: groups of one class, a few images each; a third without a group."""
    ids = np.array([f"i{n:04}" for n in range(images)])
    codes = np.sort(rng.integers(0, classes, images))
    groups = []
    for n in range(images):
        number = int(n / (1 + rng.integers(0, 3)) * spread)
        groups.append("" if rng.random() < 0.34 else f"{codes[n]}-{number}")
    return ids, codes, groups


def got(home: np.ndarray, codes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    counts = np.zeros(shape, dtype=int)
    np.add.at(counts, (home, codes), 1)
    return counts


@given(st.integers(0, 10**6), st.integers(30, 200), st.integers(1, 5))
def test_groups_stay_whole_and_rows_may_come_in_any_order(seed: int, images: int, classes: int):
    rng = np.random.default_rng(seed)
    ids, codes, groups = drawn(rng, images, classes, 0.5)
    counts = np.bincount(codes, minlength=classes)
    wanted = np.stack([counts - counts // 4 - counts // 5, counts // 4, counts // 5])
    home = allot(ids, codes, groups, wanted, "k")
    where: dict[str, int] = {}
    for group, part in zip(groups, home.tolist(), strict=True):
        assert not group or where.setdefault(group, part) == part
    order = rng.permutation(images)
    again = allot(ids[order], codes[order], [groups[row] for row in order], wanted, "k")
    assert again.tolist() == home[order].tolist()


def test_a_lesion_with_images_of_several_classes_counts_in_each() -> None:
    """Six of two classes, all wanted in the first part: single images even out the second class."""
    mixed = [f"lesion {n // 2}" for n in range(12)]
    ids = [f"{n:02}" for n in range(36)]
    codes = np.array([0, 1] * 6 + [1] * 24)
    for key in "rstuv":
        home = allot(ids, codes, [*mixed, *[""] * 24], np.array([[6, 15], [0, 15]]), key)
        assert got(home, codes, (2, 2)).tolist() == [[6, 15], [0, 15]]


@given(st.integers(0, 10**6))
def test_without_groups_the_counts_are_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids, codes, _ = drawn(rng, 120, 4, 1)
    counts = np.bincount(codes, minlength=4)
    wanted = np.stack([counts - counts // 3, counts // 3])
    home = allot(ids, codes, [""] * 120, wanted, str(seed))
    assert got(home, codes, (2, 4)).tolist() == wanted.tolist()


def test_single_images_make_the_counts_exact_beside_large_groups() -> None:
    groups = ["a"] * 10 + ["b"] * 6 + ["c"] * 3 + [""] * 21
    ids, codes = [f"{n:02}" for n in range(40)], np.zeros(40, dtype=int)
    for key in "rstuv":
        home = allot(ids, codes, groups, np.array([[28], [4], [8]]), key)
        assert np.bincount(home).tolist() == [28, 4, 8]


def test_large_groups_are_not_always_given_to_the_largest_part() -> None:
    """Else test images would come from lesions that were photographed once."""
    groups = [f"g{n // 4}" for n in range(400)]
    ids, codes = [f"{n:03}" for n in range(400)], np.zeros(400, dtype=int)
    mixed = groups[:200] + [""] * 200
    home = allot(ids, codes, mixed, np.array([[280], [40], [80]]), "k")
    in_test = sum(bool(group) for group, part in zip(mixed, home, strict=True) if part == 2)
    assert 20 <= in_test <= 60  # 40 if the shares are alike


def test_another_key_gives_another_division() -> None:
    ids, codes = [f"{n:02}" for n in range(40)], np.zeros(40, dtype=int)
    wanted = np.array([[20], [20]])
    one, other = (allot(ids, codes, [""] * 40, wanted, key) for key in ("1", "2"))
    assert one.tolist() != other.tolist()


@pytest.mark.parametrize("key", ["0", "1", "2", "3", "4"])
def test_a_class_in_two_groups_reaches_both_needed_parts(key: str) -> None:
    ids, codes = [f"{n}" for n in range(9)], np.zeros(9, dtype=int)
    home = allot(ids, codes, ["a"] * 8 + ["b"], np.array([[7], [1], [1]]), key, needed=[0, 2])
    assert sorted({home[0], home[8]}) == [0, 2]


def test_a_group_of_two_classes_counts_for_both() -> None:
    # Patients with images of both classes; the needed parts are reached all the same.
    groups = ["p"] * 6 + ["q"] * 4 + [""] * 10
    codes = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 1, *[0] * 8, 1, 1])
    ids = [f"{n:02}" for n in range(20)]
    counts = np.bincount(codes)
    home = allot(ids, codes, groups, np.stack([counts - 4, [2, 2], [2, 2]]), "k", needed=[0, 2])
    assert (got(home, codes, (3, 2))[[0, 2]] > 0).all()
    assert len(set(home[:6])) == len(set(home[6:10])) == 1


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(2, 7))
def test_even_counts_differ_by_one_at_most(counts: list[int], parts: int) -> None:
    shares = even_counts(np.array(counts), parts)
    assert shares.sum(axis=0).tolist() == counts
    assert (shares.max(axis=0) - shares.min(axis=0) <= 1).all()
    totals = shares.sum(axis=1)
    assert totals.max() - totals.min() <= 1


def test_shuffled_depends_on_key_and_ids_alone() -> None:
    ids = [f"i{n}" for n in range(20)]
    order = shuffled(range(20), ids, "k")
    assert sorted(order) == list(range(20))
    assert order != list(range(20))
    backwards = shuffled(range(20), ids[::-1], "k")
    assert [ids[n] for n in order] == [ids[::-1][n] for n in backwards]
    assert shuffled(range(20), ids, "l") != order
