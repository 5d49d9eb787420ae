import io
import math
from dataclasses import dataclass, fields

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.training.method import (
    METHODS,
    MeanLogs,
    Method,
    built_in_methods,
    register_method,
)
from lmdbench.training.optimisation import warmup_factor
from lmdbench.training.scaling import LossScaler
from lmdbench.training.task import Batch, Task

TRAINED = ("ce", "focal", "crt", "lws", "balms")


class Plain(Method):
    name = "plain"

    def loss(self, batch):
        return F.cross_entropy(self.model(batch.images), batch.labels)


def same_state(one: Method, other: Method) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def make_trained(make_task, make_method, train):
    """Makes a method on its own copy of one task, from its own copy of one cross-entropy run."""

    def make(name: str, **settings) -> Method:
        task = make_task((12, 5, 1))
        ancestor = None
        if METHODS.get(name).starts_from:
            ancestor = make_method("ce", task, epochs=1)
            train(ancestor)
        return make_method(name, task, ancestor, **settings)

    return make


@pytest.mark.parametrize("name", TRAINED)
def test_interrupted_and_resumed_is_bit_identical(make_trained, train, name):
    straight = make_trained(name, epochs=4, schedule="cosine")
    logs = train(straight)

    killed = make_trained(name, epochs=4, schedule="cosine")
    train(killed, last=2)
    file = io.BytesIO()
    optimizers = {k: o.state_dict() for k, o in killed.running_optimizers.items()}
    torch.save({"method": killed.state_dict(), "optimizers": optimizers}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    resumed = make_trained(name, epochs=4, schedule="cosine")
    resumed.load_state_dict(saved["method"])
    for key, optimizer in resumed.running_optimizers.items():
        optimizer.load_state_dict(saved["optimizers"][key])
    assert train(resumed, first=2) == logs[2:]
    assert same_state(resumed, straight)
    assert not same_state(killed, straight)


@pytest.mark.parametrize("name", TRAINED)
def test_tells_who_it_is(name):
    cls = METHODS.get(name)
    assert cls.title
    assert cls.source
    assert all(text.endswith(".") for text in cls.deviations)
    assert cls.__doc__


@pytest.mark.parametrize("name", TRAINED)
def test_global_random_numbers_do_not_matter(make_trained, train, name):
    logs = []
    for disturbance in (0, 1):
        method = make_trained(name)
        method.task.streams.start_epoch(1)
        torch.manual_seed(disturbance)
        logs.append(method.train().epoch(0))
    assert logs[0] == logs[1]


def test_a_task_has_no_test_images():
    assert {f.name for f in fields(Task)} == {
        "classes",
        "train",
        "validation",
        "streams",
        "device",
        "precision",
        "tick",
        "alive",
        "mode",
    }


def test_loss_alone_makes_a_method(make_task, make_method, train):
    method = make_method(Plain, make_task())
    before = [p.detach().clone() for p in method.parameters()]
    logs = train(method)
    assert len(logs) == 2
    assert all(math.isfinite(row["loss"]) for row in logs)
    moved = zip(before, method.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in moved)


def test_without_loss_the_error_names_the_class(make_task, make_method, train):
    class Nothing(Method):
        pass

    with pytest.raises(NotImplementedError, match="Nothing defines neither loss"):
        train(make_method(Nothing, make_task()))


def test_an_epoch_is_as_many_images_as_there_are(make_task, make_method):
    task = make_task((12, 5, 2))
    seen = []
    task.tick = lambda done, total: seen.append((done, total))
    method = make_method(Plain, task)
    steps = list(method.batches())
    assert [len(batch) for _, batch in steps] == [4, 4, 4, 4, 3]
    assert [share for share, _ in steps] == [start / 19 for start in (0, 4, 8, 12, 16)]
    assert seen == [(k, 5) for k in range(1, 6)]
    positions = torch.cat([batch.positions for _, batch in steps])
    assert sorted(positions.tolist()) == list(range(19))


def test_several_samplers_give_a_batch_each(make_task, make_method):
    class Pair(Plain):
        sampler = ("instance", "class-balanced")
        views = ("weak", "strong")

    method = make_method(Pair, make_task((12, 5, 1)))
    steps = [batches for _, batches in method.batches()]
    for one, other in steps:
        assert isinstance(one, Batch)
        assert len(one) == len(other)
        assert len(one.views) == len(other.views) == 2
        assert not torch.equal(one.views[0], one.views[1])
    labels = [torch.bincount(torch.cat([pair[k].labels for pair in steps])) for k in (0, 1)]
    assert labels[0].tolist() == [12, 5, 1]
    assert labels[1].tolist() == [6, 6, 6]


def test_a_sampler_may_be_a_plain_function_of_the_labels(make_task, make_method, train):
    class Rarest:
        def __init__(self, labels):
            (self.places,) = torch.nonzero(labels == 2, as_tuple=True)

        def draw(self, n, generator):
            return self.places[torch.randint(len(self.places), (n,), generator=generator)]

    def rarest(labels):
        return Rarest(labels)

    class Named(Plain):
        sampler = rarest

    class InPlace(Plain):
        sampler = lambda labels: Rarest(labels)  # noqa: E731

    class Both(Plain):
        sampler = ("instance", rarest)

        def loss(self, batches):
            assert set(batches[1].labels.tolist()) == {2}
            return super().loss(batches[0])

    for cls in (Named, InPlace):
        method = make_method(cls, make_task((12, 5, 2)))
        assert {k for _, batch in method.batches() for k in batch.labels.tolist()} == {2}
        train(method)
    train(make_method(Both, make_task((12, 5, 2))))


def test_progress_goes_from_0_towards_1(make_task, make_method, train):
    seen = []

    class Watching(Plain):
        def step(self, batch):
            seen.append(self.progress)
            return super().step(batch)

    train(make_method(Watching, make_task((8,)), epochs=3))
    assert seen == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [("constant", [1, 1, 1, 1]), ("cosine", [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])],
)
def test_schedule(make_task, make_method, train, schedule, factors):
    rates = []

    class Watching(Plain):
        def update(self, loss, *names):
            super().update(loss, *names)
            rates.append(self.running_optimizers["sgd"].param_groups[0]["lr"])

    train(make_method(Watching, make_task((8,)), epochs=2, lr=0.2, schedule=schedule))
    assert rates == pytest.approx([0.2 * factor for factor in factors])


WARMED_UP = (
    "balpoe",
    "bbn",
    "cb-focal",
    "cc-sam-stage1",
    "gcl-stage1",
    "ldam-drw",
    "ltrl",
    "proco",
    "ride",
    "sade",
    "tde",
    "vs",
)


def test_one_rule_for_warm_up():
    """The same share where the official settings begin with 5 of 200 epochs, and nowhere else."""
    methods = built_in_methods()
    warmed_up = [m.name for m in methods if issubclass(m.Settings, Method.WarmupSettings)]
    assert tuple(warmed_up) == WARMED_UP
    assert {m.Settings().warmup for m in methods if m.name in WARMED_UP} == {0.025}


def test_warm_up_is_the_official_one(make_task, make_method):
    """Of 200 epochs the first five, epoch by epoch: 1/5, 2/5, …"""
    method = make_method("ldam-drw", make_task(), epochs=200)
    for epoch in range(8):
        for share in (0.0, 0.5, 0.99):
            method.progress = (epoch + share) / method.epochs
            assert method.schedule_factor() == min(1.0, (epoch + 1) / 5)


@given(st.integers(1, 300), st.integers(1, 200), st.sampled_from([0.025, 0.1, 1 / 3, 1.0]))
@example(epochs=6, batches=20, share=0.025)
def test_warm_up_never_falls_and_ends_at_the_rate_that_was_set(epochs, batches, share):
    """Whatever its share comes to in epochs and batches."""
    progress = [(n + k / batches) / epochs for n in range(epochs) for k in range(batches)]
    factors = [warmup_factor(p, share, 5) for p in progress]
    assert factors[0] == 0.2
    assert factors == sorted(factors)
    assert set(factors) <= {n / 5 for n in range(1, 6)}
    assert all(factor == 1 for p, factor in zip(progress, factors, strict=True) if p >= share)


def test_warm_up_multiplies_the_schedule_and_can_be_left_out(make_task, make_method, train):
    method = make_method("ldam-drw", make_task(), schedule="cosine", warmup=0.5)
    method.progress = 0.25
    assert method.schedule_factor() == pytest.approx(3 / 5 * (1 + math.cos(0.25 * math.pi)) / 2)
    without = make_method("ldam-drw", make_task(), warmup=0.0)
    assert without.schedule_factor() == 1.0
    rates = []
    risen = make_method("ldam-drw", make_task((5, 3)), epochs=2, warmup=0.5, batch_size=4, lr=0.1)
    risen.update = lambda loss: (  # as it is, with a look at the rate
        type(risen).update(risen, loss),
        rates.append(risen.running_optimizers["sgd"].param_groups[0]["lr"]),
    )
    train(risen)
    assert rates == pytest.approx([0.02, 0.06, 0.1, 0.1])


def test_update_of_some_optimisers_only(make_task, make_method):
    class Two(Plain):
        def optimizers(self):
            return {
                "encoder": self.sgd(self.model.encoder.parameters()),
                "head": self.sgd(self.model.head.parameters()),
            }

    method = make_method(Two, make_task())
    _, batch = next(method.batches())

    def moved(*names):
        before = {name: value.detach().clone() for name, value in method.named_parameters()}
        method.update(method.loss(batch), *names)
        return {
            name.split(".")[1]
            for name, value in method.named_parameters()
            if not torch.equal(value, before[name])
        }

    assert moved("head") == {"head"}
    assert moved("encoder") == {"encoder"}
    assert moved() == {"encoder", "head"}


@pytest.mark.parametrize("precision", [None, torch.float16])
def test_an_update_along_gradients_is_an_update(make_task, make_method, precision):
    """To the bit, also of convolutions in another memory format, and of a loss that is scaled."""

    class Along(Plain):
        goes_back_twice = True

        def step(self, batch):
            loss = self.loss(batch)
            halves = self.gradients(loss / 2, again=True), self.gradients(loss / 2)
            self.update_along(a + b for a, b in zip(*halves, strict=True))
            return {"loss": loss.detach()}

    trained = []
    for cls in (Plain, Along):
        task = make_task()
        torch.manual_seed(0)
        method = make_method(cls, task).to(memory_format=torch.channels_last)
        task.scaler = LossScaler(torch.device("cpu"), precision)
        for _, batch in method.batches():
            method.step(batch)
        trained.append(method)
    assert same_state(*trained)


def test_an_update_along_gradients_may_be_of_one_optimiser(make_task, make_method):
    class Apart(Plain):
        def optimizers(self):
            model = self.model
            return {n: self.new_optimizer(getattr(model, n).parameters()) for n in model._modules}

    method = make_method(Apart, make_task(), lr=0.5, momentum=0.0)
    head = list(method.model.head.parameters())
    before = [p.detach().clone() for p in method.parameters()]
    method.update_along([torch.ones_like(p) for p in head], "head")
    for p, value in zip(method.parameters(), before, strict=True):
        step = 0.5 if any(p is one for one in head) else 0.0
        torch.testing.assert_close(p, value - step)


def test_logits_of_a_part_are_as_it_is_predicted(make_task, make_method):
    """In evaluation mode, without gradients; training goes on as it was."""
    task = make_task(validation=3)
    method = make_method(Plain, task).train()
    task.streams.start_epoch(1)
    logits = method.logits(task.validation)
    assert method.training
    assert method.model.encoder.training
    (batch,) = task.in_order(task.validation)
    with torch.no_grad():
        expected = method.eval().predict(batch.images)
    assert torch.equal(logits, expected)
    assert logits.shape == (9, 3)
    assert not logits.requires_grad


def test_a_method_that_looks_at_validation_images_needs_some(make_task, make_method):
    class Looking(Plain):
        uses_validation = True

    make_method(Looking, make_task())
    with pytest.raises(UserError, match=r"plain looks at validation images .* has none"):
        make_method(Looking, make_task(validation=0))


def test_a_parameter_that_does_not_matter_has_a_gradient_of_0(make_task, make_method):
    method = make_method(Plain, make_task())
    loss = method.model.head.weight.sum()
    gradients = dict(zip(method.optimized, method.gradients(loss), strict=True))
    assert (gradients[method.model.head.weight] == 1).all()
    assert (gradients[method.model.head.bias] == 0).all()


def test_settings_of_sgd(make_task, make_method):
    settings = {"lr": 0.3, "momentum": 0.8, "weight_decay": 0.02}
    method = make_method(Plain, make_task(), **settings)
    (group,) = method.running_optimizers["sgd"].param_groups
    assert {name: group[name] for name in settings} == settings
    assert len(group["params"]) == len(list(method.parameters()))


def test_start_takes_the_encoder_with_its_statistics(make_task, make_method, train):
    ancestor = make_method(Plain, make_task())
    train(ancestor)
    method = make_method(Plain, make_task(), ancestor)
    assert same_state(method.model.encoder, ancestor.model.encoder)
    assert not torch.equal(method.model.head.weight, ancestor.model.head.weight)


@pytest.mark.parametrize(
    ("trains", "bn", "encoder_trains"),
    [("all", None, True), ("head", "eval", False), ("head", "train", True)],
)
def test_mode_of_the_encoder(make_task, make_method, trains, bn, encoder_trains):
    class Sub(Plain):
        Settings = Method.HeadSettings if bn else Method.Settings

    Sub.trains = trains
    method = make_method(Sub, make_task(), **({"bn": bn} if bn else {}))
    assert method.train() is method
    assert method.training
    assert method.model.head.training
    assert method.model.encoder.training == encoder_trains
    frozen = not any(p.requires_grad for p in method.model.encoder.parameters())
    assert frozen == (trains == "head")
    assert not method.eval().model.encoder.training


def test_features_are_in_order_and_leave_no_trace(make_task, make_method):
    task = make_task()
    method = make_method(Plain, task).train()
    buffers = [buffer.clone() for buffer in method.buffers()]
    seen = []
    task.alive = lambda: seen.append(1)  # else a long look at many images is taken for hanging
    features = method.features(task.train)
    assert seen
    assert features.shape == (19, 8)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert method.model.encoder.training
    assert all(torch.equal(a, b) for a, b in zip(buffers, method.buffers(), strict=True))
    batch = task.train.batch(torch.tensor([5]), ("test",), task.streams.get("unused"))
    method.eval()
    torch.testing.assert_close(features[5:6], method.model.encoder(batch.images))


def test_mean_logs():
    logs = MeanLogs()
    for value in (1.0, 2.0, 6.0):
        logs.add({"loss": torch.tensor(value), "other": torch.tensor(2 * value)})
    assert logs.means() == {"loss": 3.0, "other": 6.0}


@pytest.mark.parametrize(
    ("reduced", "told"),
    [
        (lambda losses: losses, r"must be a scalar, but has the shape \(4,\): return its mean\(\)"),
        (lambda losses: losses.mean().item(), "must be a tensor, but is float"),
        (lambda losses: None, "must be a tensor, but is NoneType"),
    ],
)
def test_a_loss_that_is_no_scalar_tensor(make_task, make_method, train, reduced, told):
    class Odd(Method):
        def loss(self, batch):
            logits = self.model(batch.images)
            return reduced(F.cross_entropy(logits, batch.labels, reduction="none"))

    method = make_method(Odd, make_task())
    with pytest.raises(TypeError, match=f"^the loss of Odd {told}"):
        train(method)


def test_a_mistyped_optimizer_is_answered_with_those_there_are(make_task, make_method, train):
    class Odd(Method):
        def optimizers(self):
            parameters = {"encoder": self.model.encoder, "head": self.model.head}
            return {name: self.sgd(part.parameters()) for name, part in parameters.items()}

        def step(self, batch):
            loss = F.cross_entropy(self.model(batch.images), batch.labels)
            self.update(loss, "hed")
            return {"loss": loss.detach()}

    told = (
        r"^update\(loss, 'hed'\) of Odd: unknown optimizer 'hed'. Did you mean head\? "
        r"Known: encoder, head\.$"
    )
    with pytest.raises(UserError, match=told):
        train(make_method(Odd, make_task()))


def test_a_taken_name_and_a_wrong_base_are_refused():
    with pytest.raises(UserError, match="method 'ce' is built in; choose another name"):
        register_method("ce")(Plain)
    with pytest.raises(UserError, match="must be a subclass of Method"):
        register_method("no-method")(dataclass(type("No", (), {})))


@pytest.mark.parametrize(
    "name", ["balms", "ce", "crt", "focal", "lmd", "lmd-released", "lws", "rrl"]
)
def test_every_method_keeps_the_bounds_of_its_settings(name):
    with pytest.raises(UserError, match="batch_size is 0, but must be at least 1"):
        resolve(name, METHODS.get(name).Settings, [], {"batch_size": "0"})
