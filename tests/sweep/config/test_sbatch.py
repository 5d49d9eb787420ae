"""sbatch's options and SLURM's times."""

import pytest

from lmdbench.sweep.config.sbatch import OPTIONS, OURS, asks_for_gpus, minutes, option_problem


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (90, 90),
        ("90", 90),
        ("90m", 90),
        ("8h", 480),
        ("1h30m", 90),
        ("1d 12h", 36 * 60),
        ("10:30", 11),  # minutes:seconds, rounded up
        ("8:00:00", 480),
        ("08:00:01", 481),
        ("1-12", 36 * 60),
        ("1-12:30", 36 * 60 + 30),
        ("1-12:00:00", 36 * 60),
        ("0-0:30", 30),
    ],
)
def test_times(written, expected):
    assert minutes(written) == expected


@pytest.mark.parametrize(
    "written", ["", "0", 0, -5, "soon", "8 hours", "1-", "1:2:3:4", "h", "1.5h"]
)
def test_no_times(written):
    with pytest.raises(ValueError, match="is no time"):
        minutes(written)


def test_options():
    assert not OPTIONS & OURS.keys()
    assert option_problem("partition", []) is None
    assert "Did you mean array-parallelism" in str(
        option_problem("array-paralelism", ["array-parallelism"])
    )
    for name, why in OURS.items():
        assert why in str(option_problem(name, []))


@pytest.mark.parametrize(
    ("options", "asks"),
    [
        ({"gpus_per_node": 1}, True),
        ({"gpus": "a100:2"}, True),
        ({"gres": "gpu:a100:1"}, True),
        ({"gres": "GPU:1"}, True),
        ({"gres": "tmpdisk:10,gpu"}, True),
        ({"gres": "shard:1"}, True),
        ({"tres-per-task": "gres/gpu:1,cpu:0"}, True),
        ({"gpus": 0}, False),
        ({"gpus": False}, False),
        ({"gres": "gpu:0,tmpdisk:10"}, False),
        ({"gres": "none"}, False),
        ({"partition": "gpu"}, False),
        ({}, False),
    ],
)
def test_whether_a_gpu_is_asked_for(options, asks):
    assert asks_for_gpus(options) == asks
