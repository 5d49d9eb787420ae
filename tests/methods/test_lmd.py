"""LMD's rounds: what each step moves, the ablations, and how lmd-released differs."""

import copy
import dataclasses
import logging

import pytest
import torch
import torch.nn.functional as F

from lmdbench.core.errors import UserError
from lmdbench.core.settings import recorded, resolve
from lmdbench.methods.lmd import LMD
from lmdbench.methods.lmd_released import LMDReleased
from lmdbench.training import gaussians as cal

from .helpers import moved, train_and_resume

QUICK = {"rounds": 3, "virtual_per_class": 40, "head_batch_size": 16, "batch_size": 4}
VISIBLE = {"head_lr": 0.01, "encoder_lr": 1e-3}  # steps that float32 does not round away


@pytest.fixture
def make_lmd(make_task, make_method):
    """An LMD or a variant of it that starts from an untrained stage 1."""

    def make(name="lmd", counts=(12, 5, 2), mode="plain", **settings):
        task = dataclasses.replace(make_task(counts), mode=mode)
        rrl = make_method("rrl", task)
        return make_method(name, task, rrl, **{**QUICK, **VISIBLE, **settings})

    return make


def state_of(method, part):
    return copy.deepcopy(getattr(method.model, part).state_dict())


def equal(one, other, names=None):
    return all(torch.equal(one[name], other[name]) for name in names or one)


def parameters(method):
    return [name for name, _ in method.model.encoder.named_parameters()]


def test_defaults_are_the_papers():
    assert recorded(LMD.Settings()) == {
        "rounds": 200,
        "calibration": "virtual",
        "virtual_per_class": 50_000,
        "gaussians": "training-set",
        "ridge": 0.01,
        "head_lr": 1e-5,
        "head_batch_size": 352,
        "encoder_lr": 1e-6,
        "batch_size": 128,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "label_loss": "ce",
        "gce_q": 0.7,
        "through_head": True,
        "fdc_weight": 1e-4,
    }
    ours, released = recorded(LMD.Settings()), recorded(LMDReleased.Settings())
    assert {name: released[name] for name in released if released[name] != ours[name]} == {
        "gaussians": "balanced-draw",
        "label_loss": "gce",
        "through_head": False,
        "fdc_weight": -1e-4,
    }


def test_it_takes_the_encoder_and_a_new_head(make_task, make_method):
    task = make_task()
    rrl = make_method("rrl", task)
    with torch.no_grad():
        rrl.model.encoder.body[0].weight.add_(1)
        rrl.model.head.weight.add_(1)
    method = make_method("lmd", task, rrl, **QUICK)
    assert torch.equal(method.model.encoder.body[0].weight, rrl.model.encoder.body[0].weight)
    assert method.model.head.weight.abs().max() < 0.5
    assert method.epochs == 3


def drawn_features(method, means, covariances):
    """All features that an M-step trains on, with their labels, drawn as it draws them."""
    seen = []
    original = cal.HeadTraining.__call__

    def watch(training, features, labels):
        seen.append((features.clone(), labels.clone()))
        return original(training, features, labels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cal.HeadTraining, "__call__", watch)
        method.m_step(method.features(method.task.train), means, covariances)
    return seen


def test_each_step_moves_its_own_half(make_lmd):
    method = make_lmd()
    features = method.features(method.task.train)
    gaussians = method.gaussians(features)
    method.running.follow(*gaussians, 0)
    encoder, head = state_of(method, "encoder"), state_of(method, "head")
    method.train()
    method.m_step(features, *gaussians)
    assert equal(encoder, state_of(method, "encoder"))
    assert not equal(head, state_of(method, "head"))
    head = state_of(method, "head")
    method.e_step()
    assert equal(head, state_of(method, "head"))
    assert not any(equal(encoder, state_of(method, "encoder"), [name]) for name in encoder)


def moments(members):
    """Mean and covariance, the latter with the ridge."""
    return members.double().mean(0), torch.cov(members.double().T) + 0.01 * torch.eye(8)


@pytest.mark.parametrize("mode", ["plain", "compiled"])
def test_a_round_is_its_four_steps(make_lmd, mode):
    """Encode, draw, train the head, train the encoder: done again here, by other means."""
    method = make_lmd(rounds=1, mode=mode)
    reference = copy.deepcopy(method.model).requires_grad_(True)
    task, s = method.task, method.settings
    task.streams.start_epoch(1)
    method.train()
    logs = method.epoch(0)

    task.streams.start_epoch(1)
    reference.eval()
    with torch.no_grad():
        z = torch.cat([reference.encoder(batch.images) for batch in task.in_order(task.train)])
    means, covariances = zip(*(moments(z[task.train.labels == c]) for c in range(3)), strict=True)
    means, covariances = torch.stack(means), torch.stack(covariances)
    random = task.streams.get("virtual")
    (counts,) = cal.shuffled_chunks([40] * 3, 10**6, random)
    roots = torch.linalg.cholesky(covariances).float()
    x, y = cal.shuffled(cal.virtual_features(counts, means.float(), roots, random), counts, random)
    sgd = torch.optim.SGD(reference.head.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    losses = []
    for x_batch, y_batch in zip(x.split(16), y.split(16), strict=True):
        loss = F.cross_entropy(reference.head(x_batch), y_batch)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item() * len(x_batch))
    assert logs["m_step_loss"] == pytest.approx(sum(losses) / 120, rel=1e-5)

    reference.train()
    sgd = torch.optim.SGD(reference.encoder.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    inverses = torch.linalg.inv(covariances)
    label_losses = []
    for batch in task.batches("instance", ("test",), 4):
        z = reference.encoder(batch.images)
        label_loss = F.cross_entropy(reference.head(z), batch.labels)
        d = z.double()[:, None] - means
        M = torch.einsum("bci,cij,bcj->bc", d, inverses, d)
        own = F.one_hot(batch.labels, 3).bool()
        loss = label_loss + s.fdc_weight * (M[own].mean() - M[~own].mean())
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        label_losses.append(label_loss.item())
    assert logs["label_loss"] == pytest.approx(sum(label_losses) / len(label_losses), rel=1e-5)
    for name, value in method.model.state_dict().items():
        torch.testing.assert_close(value, reference.state_dict()[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["lmd", "lmd-released"])
def test_compiled_rounds_are_the_plain_ones(make_lmd, train, name, caplog):
    """Whole replays and odd sizes in both steps, momentum from round to round."""
    settings = {"virtual_per_class": 250, "head_batch_size": 4}  # 11 replays, then 46 features
    plain, compiled = (make_lmd(name, mode=mode, **settings) for mode in ("plain", "compiled"))
    logs = [train(method) for method in (plain, compiled)]
    assert not [record for record in caplog.records if "failed" in record.message]
    assert compiled.task.execution.preparing_seconds > 0
    for one, other in zip(*logs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[key], value, rtol=1e-3, atol=1e-5)


def test_every_class_is_drawn_equally_often_in_chunks(make_lmd, monkeypatch):
    monkeypatch.setattr(cal, "CPU_CHUNK", 8 * 40)  # 40 features of width 8: two batches of 16
    method = make_lmd(virtual_per_class=50, head_batch_size=16)
    features = method.features(method.task.train)
    chunks = [labels for _, labels in drawn_features(method, *method.gaussians(features))]
    assert [len(labels) for labels in chunks] == [32, 32, 32, 32, 22]
    labels = torch.cat(chunks)
    assert torch.bincount(labels).tolist() == [50, 50, 50]
    assert not torch.equal(labels, labels.sort().values)


@pytest.mark.parametrize(("calibration", "total"), [("real", 120), ("real-once", 19)])
def test_real_features_instead_of_virtual_ones(make_lmd, calibration, total):
    method = make_lmd(calibration=calibration)
    real = method.features(method.task.train)
    seen = drawn_features(method, *method.gaussians(real))
    features, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    counts = torch.bincount(labels)
    assert counts.sum() == total
    assert counts.max() - counts.min() <= 1
    which = torch.cdist(features, real).argmin(1)
    assert torch.equal(features, real[which])
    assert torch.equal(labels, method.task.train.labels[which])


def test_without_fdc(make_lmd, train):
    method = make_lmd(fdc_weight=0.0, ridge=0.0)  # singular covariances are drawn from all the same
    logs = train(method)
    assert set(logs[0]) == {"m_step_loss", "feature_norm", "label_loss"}


def test_without_e_step(make_lmd, train):
    method = make_lmd(encoder_lr=0.0)
    encoder = state_of(method, "encoder")
    train(method)
    assert equal(encoder, state_of(method, "encoder"))


def test_fdc_draws_features_to_their_class(make_lmd, train):
    """And in the released code, whose sign is the opposite, pushes them away from it."""
    difference = {}
    for sign in (1, -1):
        method = make_lmd(
            "lmd", counts=(8, 8, 8), encoder_lr=1e-4, fdc_weight=sign * 0.1, through_head=False
        )
        logs = train(method)
        assert all(torch.isfinite(torch.tensor(list(log.values()))).all() for log in logs)
        difference[sign] = logs[-1]["attraction"] - logs[-1]["repulsion"]
    assert difference[1] < difference[-1]


def test_ridge_of_zero_needs_fdc_switched_off():
    with pytest.raises(UserError, match="ridge is 0"):
        resolve("lmd", LMD.Settings, [], {"ridge": "0"})


@pytest.mark.parametrize("name", ["lmd", "lmd-released"])
def test_one_image_is_no_failure_and_logged_once(make_lmd, train, caplog, name):
    method = make_lmd(name, counts=(12, 5, 1))
    with caplog.at_level(logging.INFO, logger="lmdbench"):
        train(method)
    lines = [record.message for record in caplog.records if "ridge alone" in record.message]
    assert lines == ["covariance is the ridge alone (one image): class 2"]
    torch.testing.assert_close(method.running.covariances[2], 0.01 * torch.eye(8).double())
    assert all(value.isfinite().all() for value in method.state_dict().values())


@pytest.mark.parametrize("mode", ["plain", "compiled"])
@pytest.mark.parametrize("name", ["lmd", "lmd-released"])
def test_resumed_bit_identically(make_lmd, train, name, mode):
    whole, resumed = (make_lmd(name, mode=mode) for _ in range(2))
    train_and_resume(train, whole, resumed, after=1)
    assert not moved(resumed, whole.state_dict())
    for which, optimizer in resumed.running_optimizers.items():
        state = whole.running_optimizers[which].state_dict()["state"]
        for key, value in optimizer.state_dict()["state"].items():
            assert torch.equal(value["momentum_buffer"], state[key]["momentum_buffer"])


def test_released_label_loss_never_moves_the_encoder(make_lmd, train):
    """Without FDC nothing but batch norm's statistics changes. (Nothing is updated, so neither does
    weight decay act; at 1e-6 · 1e-4 float32 would round it away.)"""
    method = make_lmd("lmd-released", fdc_weight=0.0)
    encoder = state_of(method, "encoder")
    train(method)
    assert equal(encoder, state_of(method, "encoder"), parameters(method))
    through = make_lmd("lmd-released", fdc_weight=0.0, through_head=True)
    train(through)
    assert not equal(encoder, state_of(through, "encoder"), parameters(through))


def test_released_sign_is_the_opposite(make_lmd):
    """Apart from weight decay, FDC's step is the mirror image of the published one."""
    moved = {}
    for name in ("lmd", "lmd-released"):
        method = make_lmd(name, through_head=False, weight_decay=0.0, batch_size=19)
        before = {n: p.detach().clone() for n, p in method.model.encoder.named_parameters()}
        features = method.features(method.task.train)
        method.running.follow(*cal.class_gaussians(features, method.places, 0.01), 0)
        method.train()
        method.e_step()
        moved[name] = method.model.encoder.body[1].bias.detach() - before["body.1.bias"]
    assert moved["lmd"].abs().max() > 0
    torch.testing.assert_close(moved["lmd"], -moved["lmd-released"], rtol=1e-3, atol=1e-9)


def test_released_head_belongs_to_the_encoder_it_is_scored_with(make_lmd, train):
    """After each round: the head was trained on features of the encoder that is there."""
    method = make_lmd("lmd-released")
    seen = []
    original = method.m_step

    def watch(features, *gaussians):
        seen.append(features)
        return original(features, *gaussians)

    method.m_step = watch
    for number in range(3):
        encoder = state_of(method, "encoder")
        logs = train(method, number, number + 1)
        assert torch.equal(seen[-1], method.features(method.task.train))
        assert ("label_loss" in logs[0]) == (number > 0)
        assert equal(encoder, state_of(method, "encoder")) == (number == 0)


def test_released_drops_the_last_incomplete_batch(make_lmd, monkeypatch):
    for name, batch_size, expected in (
        ("lmd", 4, [4, 4, 4, 4, 3]),
        ("lmd-released", 4, [4, 4, 4, 4]),
        ("lmd-released", 128, [19]),
    ):
        method = make_lmd(name, batch_size=batch_size)
        sizes = []
        original = method.model.encoder.forward
        method.running.follow(*method.gaussians(method.features(method.task.train)), 0)
        monkeypatch.setattr(
            method.model.encoder,
            "forward",
            lambda x, f=original, s=sizes: (s.append(len(x)), f(x))[1],
        )
        method.train()
        method.e_step()
        assert sizes == expected


def test_released_gaussians_are_of_a_balanced_draw(make_lmd, monkeypatch):
    method = make_lmd("lmd-released")
    seen = []
    original = cal.class_gaussians

    def watch(features, places, ridge):
        seen.append(places)
        return original(features, places, ridge)

    monkeypatch.setattr(cal, "class_gaussians", watch)
    method.gaussians(method.features(method.task.train))
    (places,) = seen
    assert [len(own) for own in places] == [6, 5, 5]  # 16 of 19 images, in batches of four
    for c, own in enumerate(places):
        assert (method.task.train.labels[own] == c).all()
