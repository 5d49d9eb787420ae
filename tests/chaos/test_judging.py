"""What the chaos script takes for lost, differing and done twice, on run directories made here."""

import importlib
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture
def chaos(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("chaos")


@pytest.fixture
def run(fake_run):
    """A finished run with weights and a log."""
    directory = fake_run(record={"digests": {"model": "0" * 64}})
    (directory / "model.safetensors").write_bytes(b"weights")
    (directory / "run.log").write_text(" INFO finished in 3 s\n")
    return directory


def outcome(chaos, run, expected, damaged=(), redone=()):
    return chaos.judge(
        expected, run.parents[3], SimpleNamespace(damaged=Counter(damaged), redone=set(redone))
    )


def test_a_sweep_that_ended_as_it_should(chaos, run):
    expected = chaos.contents(run.parents[3])
    assert list(expected) == [str(run.relative_to(run.parents[3]))]
    assert outcome(chaos, run, expected).passed


def test_what_is_not_there_is_lost(chaos, run):
    expected = chaos.contents(run.parents[3])
    (run / "done").unlink()
    assert outcome(chaos, run, expected).lost == list(expected)


def test_other_bits_differ(chaos, run):
    expected = chaos.contents(run.parents[3])
    with np.load(run / "predictions.npz") as arrays:
        content = dict(arrays)
    content["test_logits"] = np.nextafter(content["test_logits"], np.float32(9))
    np.savez(run / "predictions.npz", **content)
    assert outcome(chaos, run, expected).differs == list(expected)
    (run / "predictions.npz").write_bytes(b"PK")
    assert outcome(chaos, run, expected).differs == list(expected)


def test_only_damage_explains_a_run_that_was_done_twice(chaos, run):
    expected = chaos.contents(run.parents[3])
    (key,) = expected
    shutil.copytree(run, run.with_name(f"{run.name}.old-20260101-000000"))
    assert outcome(chaos, run, expected).redone == [key]
    assert outcome(chaos, run, expected, damaged=[key]).passed
    assert outcome(chaos, run, expected, damaged=[key], redone=[key]).redone == [key]


def test_a_log_that_tells_of_two_ends_is_one_too_many(chaos, run):
    expected = chaos.contents(run.parents[3])
    (run / "run.log").write_text(2 * " INFO finished in 3 s\n")
    assert outcome(chaos, run, expected).redone == list(expected)
