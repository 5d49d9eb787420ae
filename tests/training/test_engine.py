"""Compiled execution: the same training as plainly, prepared without a trace, and without harm
where it fails. On the CPU all of it runs but the capture of a graph itself."""

import contextlib
import logging

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from lmdbench.core.randomness import Streams
from lmdbench.models.classifier import Encoder
from lmdbench.runs.model import logits_of, train_epoch
from lmdbench.training.engine import Execution, execution_mode
from lmdbench.training.method import METHODS
from lmdbench.training.scaling import LossScaler
from lmdbench.training.task import Images, Task

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
CLASSES, SIZE, BATCH = 3, 16, 4


class Tiny(nn.Sequential):
    """A convolution with batch norm, and dropout where asked for: every kind of state."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3, stride=4),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images)  # torch 2.11 compiles none that is inherited from it


def make_task(mode: str, images: int = 14) -> Task:
    generator = torch.Generator().manual_seed(0)
    shape = (images, 3, SIZE, SIZE)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.arange(images) % CLASSES
    train = Images(pixels, torch.arange(images), labels, CPU)
    validation = Images(pixels, torch.arange(3), labels[:3], CPU)
    return Task(("a", "b", "c"), train, validation, Streams(0, CPU), CPU, mode=mode)


def trained(name: str, mode: str, epochs: int = 3, **settings):
    cls = METHODS.get(name)
    torch.manual_seed(0)
    task = make_task(mode)
    method = cls(
        task, cls.Settings(batch_size=BATCH, epochs=epochs, **settings), Encoder(Tiny(), 4)
    )
    method.to(memory_format=torch.channels_last).start_training()
    return method, [train_epoch(method, task, number) for number in range(epochs)]


@pytest.mark.parametrize(("name", "phases"), [("ce", {None}), ("rrl", {False, True})])
def test_compiled_training_is_plain_training(name, phases, caplog):
    caplog.set_level(logging.WARNING, logger="lmdbench")
    plain, logs = trained(name, "plain", schedule="cosine", lr=0.05)
    compiled, theirs = trained(name, "compiled", schedule="cosine", lr=0.05)
    assert not told(caplog)
    assert set(compiled.stepper.replays) == phases
    assert plain.task.execution.came_to == {"training": "plain"}
    assert compiled.task.execution.came_to == {"training": "compiled"}
    for here, there in zip(logs, theirs, strict=True):
        assert here == pytest.approx(there, rel=1e-4)
    for name_, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name_], value, rtol=1e-3, atol=1e-5)
    images = plain.task.validation
    torch.testing.assert_close(
        torch.from_numpy(logits_of(plain, plain.task, images)),
        torch.from_numpy(logits_of(compiled, compiled.task, images)),
        rtol=1e-3,
        atol=1e-4,
    )


def test_preparing_leaves_no_trace():
    method, _ = steps_of(plugin(), "compiled", epochs=0, dropout=0.25)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    _, raws = next(iter(method.draws()))
    method.train()
    random = torch.get_rng_state()
    replay = method.task.execution.replay(
        lambda *tensors: method.stepper._replayed(raws, *tensors), method.stepper.tensors, "step"
    )
    replay._prepare(tuple(raws[0].tensors()))
    assert replay._inputs is not None
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in method.parameters())
    momenta = [s["momentum_buffer"] for s in method.running_optimizers["sgd"].state.values()]
    assert momenta
    assert not any(momentum.any() for momentum in momenta)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("mode", ["plain", "compiled"])
def test_a_scaled_loss_trains_alike(mode):
    """A power of two is taken out again without rounding, and preparing leaves it as it was."""
    method, _ = steps_of(plugin(), mode, epochs=0)
    method.task.scaler = LossScaler(CPU, torch.float16)
    train_epoch(method, method.task, 0)
    plain, _ = steps_of(plugin(), mode, epochs=1)
    for name, value in plain.state_dict().items():
        assert torch.equal(method.state_dict()[name], value)
    state = method.task.scaler.state_dict()
    assert (state["scale"], state["_growth_tracker"]) == (2.0**16, 4)  # an epoch's updates


def test_an_update_that_overflows_is_left_out_and_the_scale_halved():
    method, _ = steps_of(plugin(), "plain", epochs=0)
    scaler = method.task.scaler = LossScaler(CPU, torch.float16)
    before = {name: value.clone() for name, value in method.named_parameters()}
    method.update(sum(p.sum() for p in method.parameters()) * torch.inf)
    assert all(torch.equal(value, before[name]) for name, value in method.named_parameters())
    assert scaler.state_dict()["scale"] == 2.0**15
    assert LossScaler(CPU, None).tensors() == []


def test_inputs_lie_where_they_lay():
    addresses = []

    def double(x):
        addresses.append(x.data_ptr())
        return {"twice": 2 * x}

    replay = Execution(CPU, "compiled").replay(double, list, "doubling")
    for value in (1.0, 2.0, 3.0):
        assert replay(torch.full((2,), value))["twice"].tolist() == [2 * value] * 2
    assert len(addresses) == 4  # with the one to warm up
    assert len(set(addresses)) == 1


def plugin(**attributes):
    """Cross-entropy on plain images, and something of its own."""
    return type("Plugin", (METHODS.get("ce"),), {"views": ("test",), **attributes})


def steps_of(cls, mode, epochs=2, dropout=0.0):
    torch.manual_seed(0)
    task = make_task(mode)
    method = cls(task, cls.Settings(batch_size=BATCH, epochs=2), Encoder(Tiny(dropout), 4))
    method.start_training()
    return method, [train_epoch(method, task, number)["loss"] for number in range(epochs)]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (lambda self: self.progress, "its step reads progress and names no phases"),
        (
            lambda self: float(torch.rand(1, generator=self.task.streams.get("mine"))),
            "its step draws random numbers itself (mine)",
        ),
    ],
    ids=["progress", "random numbers"],
)
def test_a_step_that_can_not_be_replayed_is_not(extra, reason, caplog):
    caplog.set_level(logging.WARNING, logger="lmdbench")

    def loss(self, batch):
        return METHODS.get("ce").loss(self, batch) * (1 + extra(self))

    cls = plugin(loss=loss)
    _, plain = steps_of(cls, "plain")
    method, compiled = steps_of(cls, "compiled")
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert told(caplog) == [f"replaying step failed, the run goes on without: {reason}"]
    assert all(replay._inputs is None for replay in method.stepper.replays.values())


@pytest.fixture
def no_compiler():
    """As on a machine without a C++ compiler."""
    from torch._inductor import config

    absent = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    with config.patch(absent):
        yield


def test_a_function_that_can_not_be_compiled_is_called(no_compiler, caplog):
    caplog.set_level(logging.WARNING, logger="lmdbench")
    compiled = Execution(CPU, "compiled").compile(cubed)
    assert compiled(torch.full((5,), 2.0)).tolist() == [9.0] * 5
    assert compiled(torch.zeros(5)).tolist() == [1.0] * 5
    (text,) = told(caplog)
    assert text.startswith("compiling cubed failed, the run goes on without: ")


def cubed(x):
    return x**3 + 1


def test_training_without_a_compiler(no_compiler, caplog):
    caplog.set_level(logging.WARNING, logger="lmdbench")
    _, plain = steps_of(plugin(), "plain")
    method, logs = steps_of(plugin(), "compiled")
    assert logs == plain
    assert method.task.execution.came_to == {"training": "plain"}
    assert [text.partition(" failed")[0] for text in told(caplog)] == [
        "compiling plain",
        "compiling the encoder",
    ]


def told(caplog):
    """What the run's log says of it."""
    return [r.getMessage() for r in caplog.records if r.name == "lmdbench"]


def test_a_frozen_encoder_is_compiled_once_whether_or_not_gradients_are_on():
    encoder, images = Encoder(Tiny(), 4).eval().requires_grad_(False), torch.rand(2, 3, SIZE, SIZE)
    expected = encoder(images)
    Execution(CPU, "compiled").compile_encoders([encoder], images, contextlib.nullcontext)
    graphs = counters["stats"]["unique_graphs"]
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            torch.testing.assert_close(encoder(images), expected)
    assert counters["stats"]["unique_graphs"] == graphs >= 1


def test_a_compiled_encoder_is_gone_back_through_twice():
    encoder, images = Encoder(Tiny(), 4), torch.rand(2, 3, SIZE, SIZE)
    execution = Execution(CPU, "compiled")
    execution.compile_encoders([encoder], images, contextlib.nullcontext, back_twice=True)
    assert execution.compiled_encoders
    parameters, loss = list(encoder.parameters()), encoder(images).square().sum()
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    second = torch.autograd.grad(loss, parameters)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_a_function_is_wrapped_once():
    execution = Execution(CPU, "compiled")
    assert execution.compile(cubed) is execution.compile(cubed)


def test_preparing_is_timed_and_logged_once(caplog):
    caplog.set_level(logging.INFO, logger="lmdbench")
    execution = Execution(CPU, "compiled")
    with execution.preparing("outer"), execution.preparing("inner"):
        pass
    assert [text[:15] for text in told(caplog)] == ["compiled: outer"]
    assert execution.preparing_seconds > 0


@pytest.mark.parametrize(
    ("asked", "device", "mode"),
    [
        ("auto", "cpu", "plain"),
        ("auto", "cuda", "compiled"),
        ("plain", "cuda", "plain"),
        ("compiled", "cpu", "compiled"),
    ],
)
def test_auto_is_compiled_on_a_gpu(asked, device, mode):
    assert execution_mode(asked, torch.device(device)) == mode
