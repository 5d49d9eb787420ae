import json
import math
import re

import numpy as np
import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.ranking import rank
from lmdbench.comparison.results import read_results
from lmdbench.evaluation.ranks import nemenyi_critical_difference
from lmdbench.reporting.tables import json_text, markdown

SKILLS = {"ce": 0.5, "crt": 1.5, "lmd": 4.0}


@pytest.fixture
def tables(fake_run, tmp_path):
    """Finds tables of a number of data sets, in each of which lmd is best and ce worst."""

    def find(settings, skills=SKILLS, leave_out=()):
        for number in range(settings):
            for method, skill in skills.items():
                if (number, method) not in leave_out:
                    for seed in range(3):
                        fake_run(method, seed, skill=skill, dataset=f"skin{number}")
        return compare(read_results(tmp_path / "results")).tables

    return find


def test_the_best_everywhere_has_rank_one(tables):
    found = rank(tables(3))
    assert [one.label for one in found.rows] == ["lmd", "crt", "ce"]
    assert [one.mean for one in found.rows] == [1, 2, 3]
    assert len(found.settings) == 3


def test_few_settings_have_no_intervals_and_say_why(tables):
    found = rank(tables(3))
    assert all(math.isnan(one.low) and math.isnan(one.high) for one in found.rows)
    assert "no intervals: 3 tables, fewer than 6" in found.note


def test_six_settings_have_intervals_that_are_no_points(tables):
    found = rank(tables(6, {"ce": 0.5, "lmd": 4.0}))
    assert "Student's t over the tables" in found.note
    lmd, ce = found.rows
    assert (lmd.low, ce.high) == (1, 2)
    assert 1.3 < lmd.high < 1.6
    assert ce.low == pytest.approx(3 - lmd.high)


def test_friedmans_p_of_three_settings_is_exact(tables):
    # 3 methods in the same order in 3 settings: 1 in 36.
    assert "χ² = 6.0, p = 0.028 (exact)" in rank(tables(3)).caveats


def test_won_neither_and_lost_are_of_the_test_against_the_reference(tables):
    lmd, crt, ce = rank(tables(2)).rows
    assert (lmd.wins, lmd.neither, lmd.losses) == (None, None, None)  # never against itself
    for one in (crt, ce):
        assert one.wins == 0
        assert one.neither + one.losses == 2
    assert ce.losses == 2


def test_few_settings_are_called_exploratory_with_the_critical_difference(tables):
    note = rank(tables(3)).note
    critical = nemenyi_critical_difference(3, 3)
    assert "Exploratory" in note
    assert f"{critical:.1f} of at most 2 ranks" in note


def test_from_eight_settings_on_the_critical_difference_is_given(tables):
    note = rank(tables(8, {"ce": 0.5, "lmd": 4.0})).note
    assert "Exploratory" not in note
    assert f"{nemenyi_critical_difference(2, 8):.2f}" in note


def test_methods_that_are_not_everywhere_are_named_and_not_ranked(tables):
    found = rank(tables(2, leave_out={(1, "crt")}))
    assert {one.label for one in found.rows} == {"ce", "lmd"}
    assert "not ranked: crt" in found.caveats


def test_only_tables_with_a_test_are_won_neither_or_lost(fake_run, tmp_path):
    for name, seeds in (("skin0", 3), ("skin1", 1)):
        for method, skill in SKILLS.items():
            for seed in range(seeds):
                fake_run(method, seed, skill=skill, dataset=name)
    comparison = compare(read_results(tmp_path / "results"))
    for one in comparison.ranks.rows:
        counts = (one.wins, one.neither, one.losses)
        assert counts == (None, None, None) if one.label == "lmd" else sum(counts) == 1
    rows = {row["label"]: row for row in json.loads(json_text(comparison))["ranks"]["rows"]}
    assert rows["lmd"]["wins"] is None
    assert rows["ce"]["losses"] == 1
    assert re.search(r"^\| lmd \| 1.00 \| – \| – \| – \|$", markdown(comparison), re.MULTILINE)


def test_tables_of_one_data_set_are_told_to_share_images(fake_run, tmp_path, tables):
    assert "share images" not in rank(tables(2)).caveats
    for method, skill in SKILLS.items():
        for seed in range(3):
            split = {"name": "plain", "seed": 42, "fingerprint": "e" * 64}
            fake_run(
                method, seed, skill=skill, dataset="skin0", split=split,
                record={"split_label": "plain"},
            )  # fmt: skip
    found = rank(compare(read_results(tmp_path / "results")).tables)
    assert len(found.settings) == 3
    assert "2 tables are of skin0: tables of one data set share images" in found.caveats


def test_one_table_or_nothing_in_common_has_no_ranks(tables):
    assert rank(tables(1)) is None


def test_nothing_in_common_has_no_ranks(tables):
    assert rank(tables(2, {"ce": 1.0, "lmd": 2.0}, leave_out={(0, "ce"), (1, "lmd")})) is None


def test_of_losses_the_smaller_is_the_better(fake_run, tmp_path):
    for name in ("skin0", "skin1"):
        for method, skill in SKILLS.items():
            fake_run(method, skill=skill, dataset=name)
    found = compare(read_results(tmp_path / "results"), names=["nll"])
    assert np.argmin([one.mean for one in rank(found.tables).rows]) == 0
    assert rank(found.tables).rows[0].label == "lmd"
