"""Tuned encoders and the settings of the optimiser on a GPU that computes nothing."""

import pytest


@pytest.fixture(scope="module")
def found(null_gpu):
    return null_gpu("tuned.py")


def test_none_falls_back(found):
    assert {name: row["told"] for name, row in found.items() if row["told"]} == {}


def test_steps_are_captured_but_where_they_differ(found):
    captured = {name: row["captured"] for name, row in found.items()}
    one_by_one = {"accumulate", "grad_checkpointing"}
    assert captured == {name: [] if name in one_by_one else [True] for name in captured}
