"""Steps that are not replayed, and why; and those that draw random numbers, which are."""

import pytest

NOT = "replaying step failed, the run goes on without: "


@pytest.fixture(scope="module")
def found(null_gpu):
    return null_gpu("captures.py")


def test_a_rate_that_changes_is_not_frozen(found):
    row = found["own-rate"]
    assert row["told"] == [f"{NOT}a number that it was captured with, as a rate, changed"]
    assert row["rate"] == pytest.approx(0.001)  # a tenth of what it was captured with


def test_a_step_that_waits_is_told_with_its_line(found):
    (text,) = found["waits"]["told"]
    error = "CUDA error: operation not permitted when stream is capturing"
    assert text.startswith(f"{NOT}{error} (waits at captures.py:")


def test_a_step_that_reads_the_epoch_is_not_replayed(found):
    assert found["reads-epoch"]["told"] == [f"{NOT}its step reads the epoch of its streams"]


@pytest.mark.parametrize("name", ["own-rate", "waits", "reads-epoch"])
def test_nothing_is_left_of_a_failed_capture(found, name):
    row = found[name]
    assert row["captured"] == [False]
    assert row["stream"]
    assert not row["memory"]


def test_replays_draw_as_far_as_plain_steps_do(found):
    """Of each generator the seed and how far it got: views, and the step's own noise."""
    assert len(found["replayed"]) == 2
    assert found["replayed"] == found["plain"]
