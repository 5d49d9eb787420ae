"""Targets, judged; the length of a whole run."""

import pytest
from targets import NEEDS_A_GPU, TARGETS, judge, run_seconds


def rate(images_per_second):
    return {"images_per_second": images_per_second}


def test_more_is_better_or_less_is():
    share = judge("ce_share", 99.0)
    assert (share["ratio"], share["verdict"]) == (pytest.approx(1.1), "ok")
    assert judge("ce_share", 45.0)["verdict"] == "missed"
    start = judge("start", 2.5)
    assert (start["ratio"], start["verdict"]) == (2.0, "ok")
    assert judge("start", 10.0)["ratio"] == 0.5
    assert judge("start", 5.0)["verdict"] == "ok"


def test_what_was_not_measured_says_why():
    for key, target in TARGETS.items():
        said = judge(key, None)
        assert said["verdict"] == (NEEDS_A_GPU if target.measured_on == "GPU" else "not measured")
        assert said["ratio"] is None


def test_a_whole_run_is_the_sum_of_its_parts():
    ce = {"evaluation": rate(100)}
    rrl = {
        "epochs": 10,
        "epochs_before_relations": 2,
        "training_before_relations": rate(200),
        "training": rate(100),
        "checkpoint_seconds": 0.5,
    }
    icc = {"rounds": 20, "round_seconds": 3.0, "checkpoint_seconds": 0.25}
    # Validation: 50 images at 100 a second. Epochs: 2 of 1,000 / 200 s and 8 of 1,000 / 100 s.
    expected = 4 + (2 * 5 + 8 * 10) + 10 * (0.5 + 0.5) + 20 * (3 + 0.5 + 0.25)
    assert run_seconds(ce, rrl, icc, 4.0, 1000, 50) == expected
