"""Settings of the optimisation that all methods share do what they say, whatever the method."""

import copy
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.core.settings import recorded
from lmdbench.models.classifier import Encoder
from lmdbench.models.small import SmallNet
from lmdbench.training.method import METHODS, Method, Start, built_in_methods
from lmdbench.training.optimisation import Optimisation, Place, of_encoder, places, warmup_factor

SHORT = {"epochs": 1, "batch_size": 4, "rounds": 1, "virtual_per_class": 8, "head_batch_size": 16}
ALL = {"optimizer": "adamw", "warmup": 0.5, "clip_norm": 1.0, "accumulate": 2, "layer_decay": 0.75}
TRAINING = [m for m in built_in_methods() if m.epochs != 0]
OWN_STEPS = {  # whose updates can't be of several batches
    m.name
    for m in TRAINING
    if not m.accumulates and (m.step is not Method.step or m.epoch is not Method.epoch)
}


class Plain(Method):
    name = "plain"
    views = ("test",)

    def loss(self, batch):
        return F.cross_entropy(self.model(batch.images), batch.labels)


class OwnOptimizer(Plain):
    name = "own-optimizer"

    def optimizers(self):
        return {"adagrad": torch.optim.Adagrad(self.parameters())}


def without_batch_norm() -> Encoder:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return Encoder(body, 6)


def small() -> Encoder:
    torch.manual_seed(0)
    return Encoder(SmallNet(), SmallNet.out_features)


def prepared(cls, task, encoder, **settings) -> Method:
    torch.manual_seed(0)
    method = cls(task, cls.Settings(**settings), encoder)
    method.start_training()
    return method


def gradients(method: Method) -> list[torch.Tensor]:
    return [p.grad.clone() for p in method.model.parameters()]


def test_an_update_of_several_batches_is_that_of_one(make_task, train):
    """19 images: three batches of 4 and two of 4 and 3 are batches of 12 and 7, at the rates of
    both schedules."""
    common = {"epochs": 3, "lr": 0.3, "schedule": "cosine", "warmup": 0.4, "weight_decay": 0.01}
    one = prepared(Plain, make_task(), without_batch_norm(), batch_size=12, **common)
    several = prepared(
        Plain, make_task(), without_batch_norm(), batch_size=4, accumulate=3, **common
    )
    start = copy.deepcopy(several.state_dict())
    train(one)
    train(several)
    for name, value in one.state_dict().items():
        assert torch.allclose(several.state_dict()[name], value, atol=1e-5), name
        assert not torch.allclose(start[name], value, atol=1e-3)


def test_batches_of_an_update_are_weighted_by_their_images():
    assert places([4, 4, 4, 4, 3], 3) == [
        Place(True, False, 4 / 12),
        Place(False, False, 4 / 12),
        Place(False, True, 4 / 12),
        Place(True, False, 4 / 7),
        Place(False, True, 3 / 7),
    ]
    assert places([4, 3], 1) == [Place(), Place()]


def test_the_rate_rises_in_a_line_update_by_update():
    """Over the first half of eight updates: 1/4, 2/4, 3/4, 1."""
    factors = [warmup_factor(n / 8, 0.5, None, 1 / 8) for n in range(8)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])


def test_a_method_rises_over_the_updates_that_it_makes(make_task, train):
    method = prepared(
        Plain, make_task((5, 3)), small(), epochs=2, batch_size=2, accumulate=2, warmup=1.0, lr=0.4
    )
    rates = []
    step = method.running_optimizers["sgd"].step
    method.running_optimizers["sgd"].step = lambda *a: (
        rates.append(method.running_optimizers["sgd"].param_groups[0]["lr"]),
        step(*a),
    )
    train(method)
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_clipped_steps_are_as_long_as_they_may_be(make_task):
    """Of plain SGD a step is rate × gradient, of which no more than the norm asked for is left."""
    task = make_task()
    batch = next(task.batches("instance", ("test",), 8))
    for most, expected in ((1e-3, 1e-3), (0.0, None), (1e6, None)):
        method = prepared(Plain, task, small(), lr=1.0, momentum=0.0, clip_norm=most)
        before = [p.detach().clone() for p in method.parameters()]
        method.train()
        method.step(batch)
        moved = torch.cat(
            [(a - b).flatten() for a, b in zip(before, method.parameters(), strict=True)]
        )
        whole = torch.cat([p.grad.flatten() for p in method.parameters()]).norm()
        assert moved.norm().item() == pytest.approx(expected or whole.item(), rel=1e-3)


def test_adamw_is_torchs_with_norms_biases_and_tokens_undecayed(make_task):
    task = make_task()
    batch = next(task.batches("instance", ("test",), 8))
    method = prepared(
        Plain, task, small(), optimizer="adamw", lr=0.01, momentum=0.8, weight_decay=0.1
    )
    other = copy.deepcopy(method.model)
    named = dict(other.named_parameters())
    flat = [p for name, p in named.items() if name.startswith("encoder.") and p.ndim < 2]
    decayed = [p for p in named.values() if not any(p is q for q in flat)]
    theirs = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": flat, "weight_decay": 0.0}],
        lr=0.01,
        betas=(0.8, 0.999),
    )
    method.train()
    other.train()
    for _ in range(3):
        method.step(batch)
        theirs.zero_grad()
        F.cross_entropy(other(batch.images), batch.labels).backward()
        theirs.step()
    assert len(flat) == 8
    for mine, its in zip(method.model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, its, atol=1e-6)


def test_rates_fall_layer_by_layer_from_the_head_down(make_task):
    method = prepared(Plain, make_task(), small(), lr=0.08, layer_decay=0.5, weight_decay=0.1)
    (optimizer,) = method.running_optimizers.values()
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates[p] for name, p in method.named_parameters() if name.endswith("weight")}
    body = "model.encoder.body"
    assert found == pytest.approx(
        {
            f"{body}.stem.0.weight": 0.08 / 16,
            f"{body}.stem.1.weight": 0.08 / 16,
            f"{body}.layer1.0.weight": 0.08 / 8,
            f"{body}.layer1.1.weight": 0.08 / 8,
            f"{body}.layer2.0.weight": 0.08 / 4,
            f"{body}.layer2.1.weight": 0.08 / 4,
            f"{body}.layer3.0.weight": 0.08 / 2,
            f"{body}.layer3.1.weight": 0.08 / 2,
            "model.head.weight": 0.08,
        }
    )
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}


@pytest.mark.parametrize("name", ["ride", "bbn", "paco"])
def test_copies_of_an_encoder_have_the_rates_of_what_they_copy(make_task, name):
    method = prepared(METHODS.get(name), make_task(), small(), lr=0.08, layer_decay=0.5)
    (optimizer,) = method.running_optimizers.values()
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    lasts = [
        rates[p]
        for name, p in method.named_parameters()
        if p in rates and p.ndim == 4 and p.shape[:2] == (96, 48)
    ]
    assert len(lasts) == {"ride": 3, "bbn": 2, "paco": 1}[name]
    assert set(lasts) == {0.04}


def test_checkpoints_change_no_bit(make_task, train):
    plain, saving = (
        prepared(Plain, make_task(), small(), epochs=2, batch_size=8, grad_checkpointing=on)
        for on in (False, True)
    )
    assert train(plain) == train(saving)
    for name, value in plain.state_dict().items():
        assert torch.equal(saving.state_dict()[name], value), name


@pytest.mark.parametrize("method", TRAINING, ids=lambda m: m.name)
def test_every_method_trains_with_all_of_them(make_task, train, method):
    task = make_task((9, 5, 1))
    asked = dict(ALL)
    if method.trains == "head" or method.keeps_encoder:
        del asked["layer_decay"]
    if method.name in OWN_STEPS:
        with pytest.raises(UserError, match=f"^{method.name} can't accumulate batches"):
            method(task, method.Settings(accumulate=2), small())
        del asked["accumulate"]

    def make(cls, **settings):
        known = {k: v for k, v in SHORT.items() if hasattr(cls.Settings, k)}
        made = cls(task, cls.Settings(**known, **settings), small())
        start = cls.starts_from
        if start is not None:
            made.start(make(METHODS.get(start.method if isinstance(start, Start) else start)))
        made.start_training()
        return made

    made = make(method, **asked)
    made.task.streams.start_epoch(0)
    logs = train(made)
    assert torch.tensor([list(row.values()) for row in logs]).isfinite().all()
    assert all(p.isfinite().all() for p in made.parameters())
    kinds = {type(o).__name__ for o in made.running_optimizers.values()}
    assert "AdamW" in kinds


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("crt", {"layer_decay": 0.5}, "crt.layer_decay=0.5 acts on the training of the encoder"),
        ("crt", {"drop_path": 0.1}, "crt.drop_path=0.1 acts on the training of the encoder"),
        ("ce", {"drop_path": 0.1}, "SmallNet has no stochastic depth"),
    ],
)
def test_what_can_do_nothing_is_refused(make_task, method, settings, message):
    cls = METHODS.get(method)
    with pytest.raises(UserError, match=message):
        cls(make_task(), cls.Settings(**settings), small())


def test_a_method_with_its_own_optimizers_refuses_another(make_task):
    assert prepared(OwnOptimizer, make_task(), small())
    with pytest.raises(UserError, match="own-optimizer makes its optimisers itself"):
        prepared(OwnOptimizer, make_task(), small(), optimizer="adamw")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate": 0}, "accumulate is 0, but must be at least 1"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0, but must be above 0"),
        ({"warmup": 1.5}, "warmup is 1.5, but must be at most 1"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0, but must be at least 0"),
        ({"drop_path": 1.0}, "drop_path is 1.0, but must be at most 0.9"),
    ],
)
def test_values_out_of_bounds_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Method.Settings(**settings)


@pytest.mark.parametrize("method", built_in_methods(), ids=lambda m: m.name)
def test_defaults_are_no_part_of_a_runs_identity(method):
    new = {field.name for field in fields(Optimisation)}
    had = {"warmup"} if issubclass(method.Settings, Method.WarmupSettings) else set()
    assert recorded(method.Settings()).keys() & new == had


def test_what_acts_on_an_encoder_is_told_from_what_is_left_as_it_is():
    changed = {"grad_checkpointing": True, "layer_decay": 0.65, "drop_path": 0.0}
    assert of_encoder(Method.Settings(**changed)) == changed
    assert of_encoder(Method.Settings(lr=1.0)) == {}
