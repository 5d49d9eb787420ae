"""The sentence at the end."""

from lmdbench.bench.bench import verdict


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
