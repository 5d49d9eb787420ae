"""Targets, judged; the length of a whole run; the sentence at the end."""

import pytest

from lmdbench.bench.targets import NEEDS_A_GPU, TARGETS, judge, run_seconds, verdict


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


def found(ce=0.5, rrl=0.5, load=0.1, **step):
    costs = {"data_milliseconds": 1.0, "augmentation_milliseconds": 2.0, **step}
    return {
        "ce": {"share_of_ceiling": ce},
        "rrl": {"share_of_ceiling": rrl},
        "step": {"ce": costs},
        "environment": {"load_average": load, "processors": 2},
    }


def test_the_sentence_names_what_limits():
    assert "well used" in verdict(found(0.93, 0.9))
    assert "93 %" in verdict(found(0.93, 0.9))
    assert "unused" in verdict(found(0.93, 0.7))
    assert "augmentation" in verdict(found())
    assert "fetching images" in verdict(found(data_milliseconds=9.0))
    gaps = found(launch_gaps_milliseconds=9.0)
    assert "waiting for launches that takes most, 9 ms" in verdict(gaps)
    assert "Other work" in verdict(found(0.93, 0.9, load=3.0))
