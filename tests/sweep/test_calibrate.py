"""How long runs will take, measured."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lmdbench.core.errors import UserError
from lmdbench.core.settings import describe
from lmdbench.models.small import SmallNet
from lmdbench.runs.request import Contexts, RunContext, RunRequest
from lmdbench.sweep import calibrate as measuring
from lmdbench.sweep.calibrate import calibrate, extrapolate, scaled_counts
from lmdbench.sweep.estimate import Estimate, kind_of, load_calibrations, save_calibrations
from lmdbench.training.method import METHODS, Method

CPU = torch.device("cpu")


@pytest.fixture
def planned(tmp_path):
    contexts = Contexts(tmp_path / "results", tmp_path / "cache", files=False)

    def planned(method, **settings):
        setup = RunContext("demo", image_size=16)
        texts = {key: str(value) for key, value in settings.items()}
        return RunRequest(setup, method, 0, texts).plan(contexts.of(setup))

    return planned


def test_a_line_through_two_measurements():
    assert extrapolate([100, 200], [3.0, 5.0], 1000) == pytest.approx(1.0 + 0.02 * 1000)
    assert extrapolate([100], [3.0], 100) == 3.0
    assert extrapolate([100, 200], [5.0, 4.0], 1000) == 4.0  # it can't get faster
    assert extrapolate([100, 200], [1.0, 4.0], 1000) == 20.0  # nor begin below nothing


@given(st.floats(0, 100), st.floats(0, 1), st.integers(1, 500), st.integers(1, 500))
def test_a_true_line_is_found(a, b, first, more):
    sizes = [first, first + more]
    seconds = [a + b * n for n in sizes]
    assert extrapolate(sizes, seconds, 10_000) == pytest.approx(a + b * 10_000, rel=1e-6, abs=1e-6)


def test_classes_keep_their_proportions():
    assert scaled_counts(np.array([600, 300, 90, 1]), 99) == [60, 30, 9, 1]


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_can_be_measured(planned, method):
    short = {"rounds": 7, "virtual_per_class": 50, "epochs": 7}
    known = describe(METHODS.get(method).Settings)
    run = planned(method, **{key: n for key, n in short.items() if key in known})
    guess = calibrate(run, CPU)
    assert 0 < guess.seconds < 600
    assert guess.device.startswith("cpu")
    assert guess.source == f"a measurement of {method}"
    assert not run.directory.exists()


def test_a_head_on_a_frozen_encoder_is_measured_on_features(tmp_path):
    torch.save(SmallNet().state_dict(), tmp_path / "weights.pt")
    backbone = {"backbone": "frozen/small", "weights": str(tmp_path / "weights.pt")}
    setup = RunContext("demo", image_size=16, **backbone)
    contexts = Contexts(tmp_path / "results", tmp_path / "cache", files=False)
    run = RunRequest(setup, "crt", 0, {"epochs": "7"}).plan(contexts.of(setup))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        forward = SmallNet.forward
        patch.setattr(SmallNet, "forward", lambda self, x: seen.append(x) or forward(self, x))
        assert calibrate(run, CPU).seconds > 0
    assert not seen  # the network itself


class Work(TorchDispatchMode):
    """A clock that goes by the numbers that PyTorch computes, on any machine alike."""

    def __init__(self):
        super().__init__()
        self.done = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        outcome = operation(*args, **(kwargs or {}))
        self.done += sum(x.numel() for x in tree_leaves(outcome) if isinstance(x, torch.Tensor))
        return outcome


def test_what_does_not_depend_on_images_is_counted_once_a_round(planned, monkeypatch):
    """Of LMD with more virtual features than images: what an eighth of the images tells is what all
    of them take."""
    run = planned("lmd", rounds=10, virtual_per_class=2000, batch_size=32)
    work = Work()
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: work.done))
    with work:
        from_few = calibrate(run, CPU).seconds
        monkeypatch.setattr(measuring, "MORE", 1000)  # batches, more than there are
        from_all = calibrate(run, CPU).seconds
    assert from_few == pytest.approx(from_all, rel=0.05)


class Timed(Method):
    """Takes a known time by a clock of its own: .1 s an epoch, 1 ms an image, .3 s to finish."""

    title = "Timed"
    now = 0.0

    def epoch(self, number):
        assert number in (0, 25)  # the first to warm up, then one of the middle
        Timed.now += 100.0 if number == 0 else 0.1 + 0.001 * len(self.task.train)
        return {}

    def finish(self):
        Timed.now += 0.3


@pytest.mark.parametrize(("batch_size", "images"), [(50, 1032), (1000, 1032)])
def test_a_known_time_is_found(planned, monkeypatch, batch_size, images):
    """Also of a set so small that all of it is measured."""
    run = planned("ce", epochs=50, batch_size=batch_size)
    assert run.context.prepared.split.counts("train").sum() == images
    monkeypatch.setattr(type(run), "method", Timed)
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: Timed.now))
    assert calibrate(run, CPU).seconds == pytest.approx(50 * (0.1 + 0.001 * images) + 0.3)


def test_a_method_that_fails_is_told_in_one_line(planned, monkeypatch):
    class Broken(Timed):
        def epoch(self, number):
            raise RuntimeError(f"no epoch {number}\nat all")

    run = planned("ce")
    monkeypatch.setattr(type(run), "method", Broken)
    with pytest.raises(UserError, match=r"^ce seed 0 can't be measured: RuntimeError: no epoch 0;"):
        calibrate(run, CPU)


def test_calibrations_are_kept(planned, tmp_path):
    path = tmp_path / "sweeps" / "demo" / "calibrations.json"
    assert load_calibrations(path) == {}
    known = {kind_of(planned("ce")): Estimate(12.25, "cpu (x)", "a measurement of ce")}
    save_calibrations(path, known)
    assert load_calibrations(path) == known
    path.write_text(json.dumps({"format": 0, "calibrations": 3}))
    assert load_calibrations(path) == {}
    for damaged in ("{", "[]", '{"format": 1, "calibrations": {"x": {}}}'):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"calibrations.json: damaged"):
            load_calibrations(path)
