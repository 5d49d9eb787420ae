"""`lmdbench bench` through its entry point."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lmdbench.cli import bench

TINY = (
    *("bench", "--backbone", "small", "--image-size", 32, "--batch-size", 4, "--images", 13),
    *("--classes", 3, "--seconds", 0, "--device", "cpu"),
)


def test_everything_as_json_and_as_tables(lmdbench, capfd):
    outcome = lmdbench(*TINY, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert all(line.startswith(("measuring", "on a CPU")) for line in outcome.err.splitlines())
    size = found["workload"]
    assert (size["backbone"], size["image_size_pixels"], size["images"]) == ("small", 32, 13)
    assert found["environment"]["execution"] == "plain"

    def rate(*path):
        part = found
        for key in path:
            part = part[key]
        return part["images_per_second"]

    for method, share, over, under in (
        ("ce", "share_of_ceiling", "training", "ceiling"),
        ("rrl", "share_of_ceiling", "training", "ceiling"),
        (
            "rrl",
            "share_of_ceiling_before_relations",
            "training_before_relations",
            "ceiling_student_alone",
        ),
    ):
        assert found[method][share] == pytest.approx(rate(method, over) / rate(method, under))
    assert found["peak_memory_of_process_mib"] > 0

    bench.show(found)
    shown = capfd.readouterr().out
    for words in ("rrl with the relation losses", "strong", "backward", "peak memory"):
        assert words in shown
    assert shown.rstrip().endswith(found["verdict"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backbone", "resnet19"), "unknown backbone 'resnet19'. Did you mean resnet1"),
        (("--device", "cuda:99"), "--device cuda:99: this machine shows"),
        (("--image-size", "big"), "--image-size 'big': give a number of pixels"),
        (("--images", 8, "--batch-size", 16), "--images 8 is less than one batch"),
        (("--images", 5, "--batch-size", 2, "--classes", 9), "--classes 9: more than there are"),
        (("--batch-size", 1), "--batch-size"),
        (("--batch-size", 10**7, "--images", 10**7, "--device", "cpu"), "try --batch-size"),
    ],
)
def test_bad_input_gets_one_line(lmdbench, words, message):
    outcome = lmdbench("bench", *words)
    assert outcome.code == 2
    said = outcome.err.strip().splitlines()[-1]
    assert message in said
    assert "Traceback" not in outcome.err


def test_it_can_be_stopped(tmp_path):
    words = [str(word) for word in TINY]
    words[words.index("--seconds") + 1] = "60"  # of ce alone: it is never over by then
    process = subprocess.Popen(
        [sys.executable, "-m", "lmdbench", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("measuring: ce"):
            break
    time.sleep(0.3)  # a print that is interrupted as it returns prints once more at the end
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip() == "lmdbench: interrupted"
