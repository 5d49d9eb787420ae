"""Planning: the formula against simulated tables and hand values, and what it takes."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import lmdbench
from lmdbench.core.errors import UserError
from lmdbench.evaluation.planning import (
    Share,
    expected_table,
    falling,
    least_images,
    least_seeds,
    plan_tables,
    smallest_difference,
    with_images,
)
from lmdbench.evaluation.simulation import TableLaw, TableSimulation

ISIC = (2575, 828, 557, 402, 122, 81, 30, 26)
KVASIR = (
    *(115, 103, 101, 100, 100, 99, 93, 77, 65, 44, 40, 39),
    *(26, 20, 13, 13, 5, 4, 4, 3, 1, 1, 1),
)
LAW = TableLaw(ISIC, falling(ISIC), methods=7, seeds=3, noise=0.01)


@pytest.mark.parametrize(
    ("law", "gain"),
    [
        (LAW, 0.07),
        (replace(LAW, methods=2), 0.06),
        (replace(LAW, methods=14, seeds=5, persistence=0.9, own=1.0), 0.09),
        (replace(LAW, seeds=2, noise=0.02, own=0.0), 0.1),
        (replace(LAW, counts=KVASIR, recalls=falling(KVASIR)), 0.18),
    ],
)
def test_the_formula_says_what_simulated_tables_find(law: TableLaw, gain: float) -> None:
    law, tables = replace(law, gain=gain), 150
    found = TableSimulation(law).run(tables, np.random.default_rng(0)).power
    expected = expected_table(law).power
    assert abs(found - expected) < 3.3 * math.sqrt(expected * (1 - expected) / tables)


def test_its_standard_error_is_that_of_simulated_tables() -> None:
    law = replace(LAW, gain=0.08)
    simulation, generator = TableSimulation(law), np.random.default_rng(0)
    told = [simulation.differences(simulation.draw(generator))[0] for _ in range(150)]
    expected = expected_table(law)
    mean_square = np.mean([one.se**2 for one in told])
    assert expected.se == pytest.approx(math.sqrt(mean_square), rel=0.03)
    assert expected.sd == pytest.approx(np.std([one.value for one in told]), rel=0.15)
    assert expected.df == pytest.approx(np.median([one.df for one in told]), rel=0.1)


def test_power_by_hand_where_all_images_are_chance() -> None:
    # Two methods, two seeds and nothing but binomial chance, in two classes of 10,000 images with
    # recalls of .5 and .52: the difference has the variance Σ p (1 − p) / 10,000 / 2 / 2.
    law = TableLaw((10_000, 10_000), (0.5, 0.5), 2, 2, 1e-6, persistence=0.0, gain=0.02)
    variance = (0.25 + 0.52 * 0.48) / 10_000 / 4
    expected = expected_table(law)
    assert expected.sd == pytest.approx(math.sqrt(variance), rel=1e-3)
    # All of it is in the spread over seeds; a quarter of the images' own is kept besides.
    assert expected.se == pytest.approx(math.sqrt(variance * 1.25), rel=2e-3)
    critical = stats.t.ppf(0.975, expected.df) * expected.se / expected.sd
    power = stats.nct.sf(critical, expected.df_of_se, 0.02 / expected.sd)
    assert expected.power == pytest.approx(power, rel=1e-6)


def test_what_it_takes_is_the_least_that_does() -> None:
    gain = smallest_difference(LAW, 0.8)
    assert gain == pytest.approx(0.072, abs=0.002)
    assert expected_table(replace(LAW, gain=gain)).power == pytest.approx(0.8, abs=1e-3)
    law = replace(LAW, gain=gain)
    assert least_seeds(law, 0.8) == 3
    small = replace(LAW, gain=0.04)
    assert least_seeds(small, 0.8) is None
    least = least_images(replace(small, seeds=10), 0.8)
    enough, fewer = (with_images(replace(small, seeds=10), n) for n in (least, least - 1))
    assert enough.counts == (2575, 828, 557, 402, 122, 81, least, least)
    assert expected_table(enough).power >= 0.8 > expected_table(fewer).power
    assert least_images(replace(small, noise=0.05), 0.8) is None
    assert smallest_difference(replace(LAW, counts=(1,) * 8), 0.8) is None


def test_share_of_tables_has_clopper_and_pearsons_error() -> None:
    got = Share.of(33, 40)
    expected = stats.binomtest(33, 40).proportion_ci(method="exact")
    assert (got.value, got.low, got.high) == pytest.approx((0.825, expected.low, expected.high))
    assert (Share.of(0, 20).low, Share.of(20, 20).high) == (0.0, 1.0)


def test_recalls_fall_by_size() -> None:
    assert falling([5, 50, 20]) == pytest.approx((0.3, 0.93, 0.615))


def test_a_grid_has_a_table_a_cell_and_the_same_numbers_again() -> None:
    told: list[tuple[int, int]] = []
    plan = plan_tables(LAW, [2, 7], [2, 3], 0.08, tables=20, told=lambda *n: told.append(n))
    assert [(one.methods, one.seeds) for one in plan] == [(2, 2), (2, 3), (7, 2), (7, 3)]
    assert told[-1] == (80, 80)
    assert plan == plan_tables(LAW, [2, 7], [2, 3], 0.08, tables=20)


def test_seeds_that_are_found_do_in_simulated_tables() -> None:
    (planned,) = plan_tables(LAW, [7], difference=0.075, tables=60)
    assert planned.seeds in (3, 4)
    assert planned.power.high >= 0.8
    (none,) = plan_tables(replace(LAW, counts=(3000,) * 6 + (30, 26)), [7], difference=0.03)
    assert (none.seeds, none.power) == (None, None)
    assert list(none.images) == [3, 5, 10, 20]
    assert none.images[5] > none.images[10] > none.images[20] > 30


@pytest.mark.parametrize(
    ("law", "asked", "why"),
    [
        (LAW, {"seeds": ()}, "give --seeds, to be told"),
        (LAW, {"difference": 0.05, "power": 0.8}, "leave one out"),
        (LAW, {"methods": [1]}, "--methods 1"),
        (LAW, {"seeds": [1]}, "--seeds 1: of fewer than 2"),
        (LAW, {"power": 80}, "--power 80: give a share"),
        (LAW, {"tables": 3}, "--tables 3"),
        (LAW, {"difference": 0.5}, "at most 38"),
        (LAW, {"difference": math.nan}, "--difference nan"),
        (replace(LAW, counts=(5,) * 7 + (0,)), {}, "--images: give 2 classes or more"),
        (replace(LAW, recalls=(0.5, 0.6)), {}, "--recall gives 2 values for 8 classes"),
        (replace(LAW, recalls=(70,) * 8), {}, "--recall: give shares"),
        (replace(LAW, persistence=2.0), {}, "--persistence 2"),
        (replace(LAW, own=-1.0), {}, "--shared 2"),
        (replace(LAW, noise=0.0), {}, "--seed-sd 0"),
        (replace(LAW, counts=(10**7,) * 8), {}, "too many to simulate"),
    ],
)
def test_what_cannot_be_planned(law: TableLaw, asked: dict, why: str) -> None:
    with pytest.raises(UserError, match=why):
        plan_tables(law, **{"methods": [7], "seeds": [3], **asked})


def test_from_python_numbers_must_be_numbers() -> None:
    plan = lmdbench.plan_power({"nv": 80, "mel": 20}, methods=2, seeds=3, difference=20, tables=20)
    assert (plan.classes, plan.images) == (("nv", "mel"), (80, 20))
    assert plan.law.recalls == pytest.approx((0.93, 0.3))
    with pytest.raises(UserError, match="difference: give a number, not '8'"):
        lmdbench.plan_power([80, 20], methods=2, seeds=3, difference="8")
    with pytest.raises(UserError, match=r"seeds: give whole numbers, not 2\.5"):
        lmdbench.plan_power([80, 20], methods=2, seeds=2.5)
