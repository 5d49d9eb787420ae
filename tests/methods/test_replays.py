"""Replayed training equals plain training to the bit, method by method, also after a checkpoint.

On the CPU, where the calls of a captured step are made again; see ``played_graphs``.
"""

import copy

import pytest
import torch

from lmdbench.core.randomness import Streams
from lmdbench.runs.model import fit_last, logits_of, train_epoch
from lmdbench.training.method import METHODS, Start, built_in_methods
from lmdbench.training.task import Images, Task

from .played_graphs import played_graphs

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LATE = {"ldam-drw": 5, "rrl": 5, "ride": 5}  # epochs until what they begin late acts
SHORT = {
    "batch_size": 8,
    "rounds": 2,
    "virtual_per_class": 40,
    "head_batch_size": 16,
    "networks": 2,
}
# Their noise is drawn within the step, which is replayed on a GPU only.
DRAWING = {"gcl", "gcl-stage1", "glmc"}
NAMES = [
    method.name
    for method in built_in_methods()
    if method.replayable and method.epochs != 0 and method.name not in DRAWING
]


def make_task(mode: str) -> Task:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=generator)
    rows, labels = torch.arange(21), torch.arange(21) % 3 % 2
    images = [Images(pixels, rows[:n], labels[:n], CPU) for n in (21, 6)]
    return Task(("a", "b"), *images, Streams(0, CPU), CPU, mode=mode)


@pytest.fixture
def make(make_staged_encoder):
    """Makes a method, ready to train, from an ancestor that was."""

    def made(name, mode, **settings):
        cls = METHODS.get(name)
        short = {**SHORT, "epochs": LATE.get(name, 2), "schedule": "cosine", "lr": 0.05}
        known = {k: v for k, v in short.items() if hasattr(cls.Settings, k)}
        task = make_task(mode)
        torch.manual_seed(0)
        method = cls(task, cls.Settings(**known, **settings), make_staged_encoder())
        method.to(memory_format=torch.channels_last)
        start = cls.starts_from.method if isinstance(cls.starts_from, Start) else cls.starts_from
        if start is not None:
            method.start(made(start, "plain").eval())
        method.start_training()
        return method

    return made


def train(method, first=0, last=None):
    logs = []
    for number in range(first, method.epochs if last is None else last):
        logs.append(train_epoch(method, method.task, number))
        logits_of(method, method.task, method.task.validation)
    return logs


def content(method):
    """All that a checkpoint has of it."""
    optimizers = {name: o.state_dict() for name, o in method.running_optimizers.items()}
    return copy.deepcopy((method.state_dict(), optimizers))


def load(method, checkpoint):
    state, optimizers = checkpoint
    method.load_state_dict(state)
    for name, optimizer in method.running_optimizers.items():
        optimizer.load_state_dict(optimizers[name])


@pytest.mark.parametrize("name", NAMES)
def test_replayed_equals_plain_to_the_bit(make, name, caplog):
    with played_graphs():
        plain, replayed, resumed = (make(name, m) for m in ("plain", "compiled", "compiled"))
        logs = train(plain)
        half = train(replayed, last=1)
        load(resumed, content(replayed))
        assert logs == half + train(replayed, first=1) == half + train(resumed, first=1)
        for method in (plain, replayed, resumed):
            fit_last(method, method.task)
    assert not [r for r in caplog.records if r.name == "lmdbench" and r.levelname == "WARNING"]
    assert replayed.stepper.replays
    assert all(r.captured for m in (replayed, resumed) for r in m.stepper.replays.values())
    for key, value in plain.state_dict().items():
        assert torch.equal(value, replayed.state_dict()[key]), key
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_other_optimizers_are_replayed(make):
    """Also with clipped gradients, rates that rise, and rates of their own layer by layer."""
    settings = {"optimizer": "adamw", "warmup": 0.5, "clip_norm": 0.5, "layer_decay": 0.8}
    with played_graphs():
        plain, replayed, resumed = (
            make("ce", mode, **settings) for mode in ("plain", "compiled", "compiled")
        )
        logs = train(plain)
        half = train(replayed, last=1)
        load(resumed, content(replayed))
        assert logs == half + train(replayed, first=1) == half + train(resumed, first=1)
    assert all(r.captured for m in (replayed, resumed) for r in m.stepper.replays.values())
    for key, value in plain.state_dict().items():
        assert torch.equal(value, replayed.state_dict()[key]), key
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize("settings", [{"accumulate": 2}, {"grad_checkpointing": True}])
def test_steps_that_differ_are_not_replayed(make, settings):
    with played_graphs():
        plain, compiled = (make("ce", mode, **settings) for mode in ("plain", "compiled"))
        assert train(plain) == train(compiled)
    assert not compiled.stepper.replays
    for key, value in plain.state_dict().items():
        assert torch.equal(value, compiled.state_dict()[key]), key
