"""Variances over seeds, moderated by a table: hand values, limma's form, and rows of their own."""

import numpy as np
import pytest

from lmdbench.evaluation.moderation import RowSeeds, SeedVariance, common_share, moderated


def row(*values: float, spread: float = 1.0, first: int = 0) -> RowSeeds:
    return RowSeeds(tuple(range(first, first + len(values))), np.array(values), spread)


def test_two_rows_keep_their_own_variances() -> None:
    got = moderated([row(1, 2, 3), row(0, 0, 6)])
    assert got == [SeedVariance(1.0, 2.0), SeedVariance(12.0, 2.0)]


def test_a_row_is_drawn_towards_what_all_rows_say() -> None:
    # Five rows of three seeds: own variances 1, 4, 4, 4, 7, mean 4; six further degrees of freedom.
    apart = [row(0, 1, 2), row(2, 0, 4), row(4, 2, 0), row(0, 4, 2), row(0, 7**0.5, 2 * 7**0.5)]
    assert common_share(apart) == 0
    got = moderated(apart)
    assert [found.df for found in got] == [8.0] * 5
    assert got[0].variance == pytest.approx((2 * 1 + 6 * 4) / 8)
    assert got[4].variance == pytest.approx((2 * 7 + 6 * 4) / 8)


def test_three_rows_lend_no_more_than_they_know() -> None:
    got = moderated([row(0, 1, 2), row(2, 0, 1), row(1, 2, 0)])
    assert [found.df for found in got] == [4.0] * 3


def test_a_row_whose_classes_vary_more_borrows_from_as_much_more() -> None:
    rows = [row(0, 2, 4), row(4, 2, 0), row(2, 0, 4), row(0, 4, 2), row(2, 2, 2, spread=9.0)]
    got = moderated(rows)  # usual (4 + 4 + 4 + 4 + 0) / 5
    assert got[4].variance == pytest.approx(6 * 3.2 * 9 / 8)
    assert got[0].variance == pytest.approx((2 * 4 + 6 * 3.2) / 8)
    a_little = moderated([*rows[:4], row(2, 2, 2, spread=1.4)])
    assert a_little[4].variance == pytest.approx(6 * 3.2 / 8)


def test_a_reference_borrows_by_the_share_of_the_images() -> None:
    rows = [row(0, 2, 4), row(4, 2, 0), row(2, 0, 4), row(0, 4, 2), row(0, 3, 6)]  # usual 5
    of_seeds = 2 * 5 / 3
    got = moderated(rows, 4, of_images=of_seeds)  # as much by the images: half of 8
    assert (got[4].variance, got[4].df) == pytest.approx(((2 * 9 + 4 * 5) / 6, 6))
    assert (got[0].variance, got[0].df) == pytest.approx(((2 * 4 + 6 * 5) / 8, 8))
    assert (moderated(rows, 4)[4].variance, moderated(rows, 4)[4].df) == ((2 * 9 + 2 * 5) / 4, 4)
    assert moderated(rows, 4, of_images=1e9)[4].df == 8  # no more than the others have
    assert moderated([row(1, 1, 1)] * 4, 0)[0] == SeedVariance(0.0, 4.0)


def test_what_seeds_do_to_all_rows_alike_is_taken_out() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 3, 40)
    rows = [row(*(shared + rng.normal(0, 1, 40))) for _ in range(8)]
    of_seeds = shared.var(ddof=1)
    assert common_share(rows) == pytest.approx(of_seeds / (of_seeds + 1), abs=0.08)
    assert [found.variance for found in moderated(rows)] == pytest.approx([1.0] * 8, rel=0.5)
    assert common_share(rows, 0) == pytest.approx(common_share(rows), abs=0.15)
    family = [*rows, row(*rng.normal(0, 3, 40))]  # the reference shares nothing with the others
    assert common_share(family) > 0.3
    assert common_share(family, 8) < 0.1
    apart = [row(*rng.normal(0, 1, 40)) for _ in range(8)]
    assert common_share(apart) < 0.05
    assert common_share(rows[:2]) == 0


def test_rows_of_one_seed_and_without_a_value_take_no_part() -> None:
    rows = [row(0, 2, 4), row(1), row(0, np.nan, 1), row(4, 2, 0)]
    got = moderated(rows)
    assert [found.df for found in got] == [2.0, 0.0, 0.0, 2.0]
    assert np.isnan([got[1].variance, got[2].variance]).all()
    assert np.isnan(moderated([row(3)])[0].variance)


def test_rows_have_seeds_of_their_own() -> None:
    got = moderated([row(0, 2, 4), row(0, 2, first=5), row(0, 1, 2, 3, 4), row(7, 9, 8)])
    # 2, 1, 4 and 2 degrees of freedom; each borrows what the others have but for the largest.
    assert [found.df for found in got] == [2 + 3, 1 + 4, 4 + 1, 2 + 3]
    usual = (2 * 4 + 1 * 2 + 4 * 2.5 + 2 * 1) / 9
    assert got[1].variance == pytest.approx((1 * 2 + 4 * usual) / 5)
