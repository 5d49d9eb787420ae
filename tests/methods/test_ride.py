"""RIDE's losses against loops from the paper, its limits, and what its experts share."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax, softmax

from lmdbench.core.settings import resolve
from lmdbench.methods.ldam_drw import ldam_loss, margins
from lmdbench.methods.ride import ExpertHeads, Experts, divergence_from_mean, temperatures


@pytest.fixture
def make_encoder(make_staged_encoder):
    return make_staged_encoder


def random_logits(experts=3, batch=5, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(experts, batch, classes, generator=generator, dtype=torch.float64)


def test_temperatures_by_hand():
    T = temperatures(torch.tensor([6.0, 3.0, 1.0]), 0.1)  # C π = 1.8, .9, .3
    torch.testing.assert_close(T, torch.tensor([1.08, 0.99, 0.93]) / 1.08)
    assert torch.equal(temperatures(torch.tensor([6.0, 1.0]), 0.0), torch.ones(2))


@pytest.mark.parametrize("seed", range(3))
def test_divergence_is_that_of_the_paper(seed):
    logits, T = random_logits(seed=seed), np.array([1.0, 0.9, 0.7, 0.65])
    z = logits.numpy()
    expected = 0.0
    for e in range(len(z)):
        for i in range(z.shape[1]):
            mean = softmax(z[:, i].mean(axis=0) / T)
            own = softmax(z[e, i] / T)
            expected += np.sum(mean * np.log(mean / own)) / z.shape[1]
    ours = divergence_from_mean(logits, torch.from_numpy(T)).item()
    assert ours == pytest.approx(T.mean() ** 2 * expected, rel=1e-12)


def test_divergence_is_torchs_and_0_where_all_agree():
    logits = random_logits()
    mean = logits.mean(dim=0).softmax(dim=1)
    expected = sum(F.kl_div(z.log_softmax(dim=1), mean, reduction="batchmean") for z in logits)
    torch.testing.assert_close(divergence_from_mean(logits, torch.ones(4).double()), expected)
    same = logits[:1].expand(3, -1, -1)
    assert divergence_from_mean(same, torch.ones(4).double()).item() == pytest.approx(0, abs=1e-15)


def test_gradient_does_not_pass_through_the_mean():
    logits = random_logits(experts=2, batch=1).requires_grad_()
    divergence_from_mean(logits, torch.ones(4).double()).backward()
    p = logits.detach().softmax(dim=2)
    mean = logits.detach().mean(dim=0).softmax(dim=1)
    torch.testing.assert_close(logits.grad, p - mean)


@pytest.mark.parametrize("progress", [0.5, 0.8])
def test_loss(make_task, make_method, progress):
    """Σ over experts of LDAM, less the diversity; weights and temperatures from 80 % on."""
    task = make_task((12, 5, 1))
    method = make_method("ride", task).eval()
    method.progress = progress
    _, batch = next(method.batches())
    y = batch.labels.numpy()
    with torch.no_grad():
        z = method.model.head.each(method.model.encoder(batch.images)).double().numpy()
        ours = method.loss(batch).item()

    n, C = np.array([12, 5, 1]), 3
    delta = n**-0.25 / n[-1] ** -0.25 / 2
    weights, T = np.ones(C), np.ones(C)
    if progress >= 0.8:
        weights = (1 - 0.9999) / (1 - 0.9999**n)
        weights *= C / weights.sum()
        T = C * n / n.sum() * 0.05 + 0.95
        T /= T.max()
    expected = 0.0
    mean = z.mean(axis=0)
    for own in z:
        losses = []
        for i, c in enumerate(y):
            lowered = own[i].copy()
            lowered[c] -= 30 * delta[c]
            losses.append(-log_softmax(lowered)[c] * weights[c])
        expected += sum(losses) / weights[y].sum()
        q, p = softmax(mean / T, axis=1), softmax(own / T, axis=1)
        expected -= 0.2 * T.mean() ** 2 * np.mean(np.sum(q * np.log(q / p), axis=1))
    assert ours == pytest.approx(expected, rel=1e-4)


def test_one_expert_is_ldam(make_task, make_method):
    task = make_task((12, 5, 1))
    method = make_method("ride", task, experts=1).eval()
    _, batch = next(method.batches())
    expected = ldam_loss(
        method.model(batch.images), batch.labels, 30 * margins(task.class_counts, 0.5)
    )
    torch.testing.assert_close(method.loss(batch), expected)


def test_prediction_is_the_experts_mean():
    heads, features = ExpertHeads(6, 4, 30.0, 3), torch.randn(5, 18)
    by_hand = torch.stack([h(features[:, 6 * i : 6 * i + 6]) for i, h in enumerate(heads.heads)])
    torch.testing.assert_close(heads(features), by_hand.mean(dim=0))
    assert by_hand.abs().max() <= 30 + 1e-4


def test_experts_share_the_first_stages_and_own_the_last_two(make_encoder):
    encoder = make_encoder()
    images = torch.randn(2, 3, 32, 32)
    expected = encoder.eval()(images)
    experts = Experts(encoder.body, 3).eval()
    assert torch.allclose(experts(images), expected.repeat(1, 3), atol=1e-5)  # at first all alike
    own = [{id(p) for p in branch.parameters()} for branch in experts.branches]
    assert all(own[i].isdisjoint(own[j]) for i in range(3) for j in range(i))
    assert {id(p) for p in encoder.body.layer2.parameters()} <= own[0]
    assert {id(p) for p in encoder.body.layer1.parameters()} <= {
        id(p) for p in experts.shared.parameters()
    }


def test_experts_come_to_differ(make_task, make_method, train):
    method = make_method("ride", make_task((12, 5, 1)), epochs=3, lr=0.05)
    logs = train(method)
    assert all(math.isfinite(row["loss"]) for row in logs)
    one, other, _ = method.model.encoder.body.branches
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert any(not torch.allclose(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "wrong", [{"experts": "0"}, {"beta": "1"}, {"scale": "0"}, {"spread": "2"}]
)
def test_settings_out_of_bounds(wrong):
    from lmdbench.core.errors import UserError
    from lmdbench.methods.ride import RIDE

    with pytest.raises(UserError, match=f"{next(iter(wrong))} is"):
        resolve("ride", RIDE.Settings, [], wrong)
