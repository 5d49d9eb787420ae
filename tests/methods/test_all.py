"""What holds for every method in the registry."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lmdbench.core.settings import describe
from lmdbench.runs.code_digest import method_digest
from lmdbench.training.method import METHODS, Method, Start, built_in_methods
from lmdbench.training.task import Batch

from .helpers import moved, snapshot

NAMES = [method.name for method in built_in_methods()]
COUNTS = {
    "two classes, one image of the second": (9, 1),
    "a class of one image": (12, 5, 1),
    "a hundred classes": (5,) + (1,) * 99,
}
# What makes a run short, where a method has such a setting.
SHORT = {"epochs": 1, "batch_size": 8, "rounds": 1, "virtual_per_class": 8, "head_batch_size": 16}
# What may be left as it was by one epoch: a bias before a batch norm, and an encoder whose steps of
# 1e-6 are rounded away or begin later, as may a head. Everything else that an optimiser has moves.
ENCODER = "model.encoder."
STILL = {
    "bcl": "prototypes.0.bias",
    "bpaco": "prototypes.0.bias",
    "glmc": "model.head",
    "lmd": ENCODER,
    "lmd-released": ENCODER,
    "mrc-vfc": ENCODER,
}
READABLE = 90  # characters of a title: two lines of a list 80 columns wide


@pytest.fixture
def make_encoder(make_staged_encoder):
    return make_staged_encoder


@pytest.fixture
def prepare(make_task, make_method, train):
    """Makes a method ready to train, short, on a task, from ancestors trained for the purpose."""

    def make(name: str, task, **settings) -> Method:
        cls = METHODS.get(name)
        defaults = {s.name: s.default for s in describe(cls.Settings).values()}
        short = {k: v for k, v in SHORT.items() if defaults.get(k)}  # epochs=0 stays so
        start = cls.starts_from
        start = start.method if isinstance(start, Start) else start
        ancestor = make(start, task) if start else None
        if ancestor is not None:
            carry_out(ancestor, train)
        return make_method(name, task, ancestor, **{**short, **settings})

    return make


def carry_out(method: Method, train) -> list[dict[str, float]]:
    """As a run does: the epochs, then what finishes the method."""
    logs = train(method)
    method.finish()
    method.eval()
    return logs


def learned(method: Method) -> set[str]:
    """The names of the parameters that its optimisers have."""
    groups = [g for o in method.running_optimizers.values() for g in o.param_groups]
    ours = {p for group in groups for p in group["params"]}
    return {name for name, p in method.named_parameters() if p in ours}


def images_of(n: int) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits_of(method: Method) -> torch.Tensor:
    return method.eval().predict(images_of(3))


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("name", NAMES)
def test_trains_to_finite_losses_and_logits(make_task, prepare, train, name, counts):
    method = prepare(name, make_task(counts, validation=1))
    before, still = snapshot(method), STILL.get(name, ())
    logs = carry_out(method, train)
    assert torch.tensor([list(row.values()) for row in logs]).isfinite().all(), logs
    logits = logits_of(method)
    assert logits.shape == (3, len(counts))
    assert logits.isfinite().all()
    assert all(p.isfinite().all() for p in method.parameters())
    assert not [p for p in learned(method) - moved(method, before) if not p.startswith(still)]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_gives_the_same_logits(make_task, prepare, make_encoder, train, name):
    """A run saves the state but for the scaffolding, and builds the method anew to predict."""
    method = prepare(name, make_task((12, 5, 1)))
    carry_out(method, train)
    saved = {
        key: value.clone()
        for key, value in method.state_dict().items()
        if key.partition(".")[0] not in method.scaffolding
    }
    fresh = type(method)(method.task, method.settings, make_encoder())
    missing, unexpected = fresh.load_state_dict(saved, strict=False)
    assert not unexpected
    assert {key.partition(".")[0] for key in missing} <= set(method.scaffolding)
    assert torch.equal(logits_of(fresh), logits_of(method))


# With each mode that the batch norm of the frozen encoder can be in, where there is a choice.
FROZEN = [
    (name, mode)
    for name in NAMES
    if METHODS.get(name).trains == "head"
    for mode in (("eval", "train") if hasattr(METHODS.get(name).Settings, "bn") else ("fixed",))
]


@pytest.mark.parametrize(("name", "bn"), FROZEN)
def test_a_frozen_encoder_stays_as_it_was(make_task, prepare, train, name, bn):
    """But for the statistics of batch norm in training mode."""
    settings = {} if bn == "fixed" else {"bn": bn}
    method = prepare(name, make_task((12, 5, 1)), **settings)
    encoder = method.model.encoder
    before = snapshot(encoder)
    carry_out(method, train)
    statistics = {k for k, _ in encoder.named_buffers()}
    assert statistics
    assert moved(encoder, before) == (statistics if bn == "train" else set())


def relabelled(batch, order: torch.Tensor):
    """The batch, or each of several, with class c called order[c]."""
    if isinstance(batch, Batch):
        return dataclasses.replace(batch, labels=order[batch.labels])
    return tuple(relabelled(one, order) for one in batch)


def reordered(state: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    """A tensor of the state with its classes in another order, along every axis of that length."""
    for axis, size in enumerate(state.shape):
        if size == len(back):
            state = state.index_select(axis, back)
    return state


# Their loss draws a number for each class; or has several parameters for each, in their order.
ORDERED_BY_CLASS = {"gcl", "gcl-stage1", "ecl"}
WITH_LOSS = [
    n for n in NAMES if METHODS.get(n).loss is not Method.loss and n not in ORDERED_BY_CLASS
]


@pytest.mark.parametrize("name", WITH_LOSS)
def test_the_order_of_classes_does_not_matter_to_the_loss(make_task, make_encoder, prepare, name):
    """The same batch and network, of a task whose classes are called by other numbers."""
    counts = (9, 5, 1, 7, 3, 2, 4)  # as many as nothing else in the network has
    order = torch.tensor([3, 0, 6, 5, 1, 2, 4])  # class c → its new number
    back = order.argsort()
    one = prepare(name, make_task(counts))
    task = make_task(counts)
    task.train.labels, task.train.host_labels = (
        order[labels] for labels in (task.train.labels, task.train.host_labels)
    )
    task.class_counts = task.class_counts[back]
    other = type(one)(task, one.settings, make_encoder())
    other.load_state_dict({k: reordered(v, back) for k, v in one.state_dict().items()})

    for method in (one, other):
        method.progress = 0.9  # past what begins late
        method.train()
    one.task.streams.start_epoch(1)
    _, batch = next(one.batches())
    losses = []
    for method, its in ((one, batch), (other, relabelled(batch, order))):
        method.task.streams.start_epoch(2)
        losses.append(method.loss(its))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)


def convolutions(work) -> tuple[int, int]:
    """Floating-point operations of the convolutions in what is done, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        work()
    counts = {str(op): n for op, n in counter.get_flop_counts().get("Global", {}).items()}
    return counts.get("aten.convolution", 0), counts.get("aten.convolution_backward", 0)


TRAINED = [n for n in NAMES if METHODS.get(n).epochs != 0]
# Those whose epochs are all alike: not on a part of the images that grows.
STEADY = [n for n in TRAINED if METHODS.get(n).images_an_epoch is Method.images_an_epoch]


@pytest.mark.parametrize("name", STEADY)
def test_costs_what_its_card_says(make_task, prepare, make_encoder, train, name):
    """Measured in the last epoch, when everything acts, after the first."""
    task = make_task((16, 8))
    encoder, images = make_encoder(), images_of(len(task.train))
    one_pass = convolutions(lambda: encoder(images).sum().backward())
    cls = METHODS.get(name)
    longer = {"epochs": 5, "rounds": 2, "heads_after": 1.0, "trials": 0}
    settings = {k: n for k, n in longer.items() if hasattr(cls.Settings, k)}
    method = prepare(name, task, **settings)
    train(method, last=1)
    own = convolutions(lambda: train(method, first=method.epochs - 1))
    declared = cls.passes or ((1, 1) if cls.trains == "all" else (1, 0))
    measured = tuple(a / b for a, b in zip(own, one_pass, strict=True))
    assert measured == pytest.approx(declared, rel=0.25, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_tells_who_it_is(name):
    cls = METHODS.get(name)
    assert cls.title
    assert len(cls.title) <= READABLE
    assert cls.source
    assert cls.__doc__
    assert all(text.endswith(".") for text in cls.deviations)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_fixed_and_explained(name):
    cls = METHODS.get(name)
    assert dataclasses.is_dataclass(cls.Settings)
    assert cls.Settings.__dataclass_params__.frozen
    settings = describe(cls.Settings)
    own = [s for key, s in settings.items() if key not in describe(Method.Settings)]
    assert [s.name for s in own if not s.help] == []
    for key, theirs in cls.authors.items():
        assert settings[key].default != theirs, f"{key}: the same as ours"


def test_digests_are_the_same_in_another_process():
    code = (
        "from lmdbench.training.method import METHODS\n"
        "from lmdbench.runs.code_digest import method_digest\n"
        f"for name in {NAMES!r}: print(name, method_digest(METHODS.get(name)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    elsewhere = dict(line.split() for line in run.stdout.splitlines())
    assert elsewhere == {name: method_digest(METHODS.get(name)) for name in NAMES}
