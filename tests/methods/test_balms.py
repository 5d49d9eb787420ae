"""BALMS. Its meta-gradient is that of a straight-through estimator, so it is no derivative of the
hard draws: what finite differences can check are the two links of its chain, the meta loss by the
weights of the images drawn and the soft draws by the class rates, and that autograd joins them."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from torch import Tensor, nn

from lmdbench.methods import balms
from lmdbench.methods.balms import (
    balanced_softmax_loss,
    draw_images,
    gumbel_noise,
    initial_rates,
    meta_loss,
)

from .helpers import (
    assert_finite,
    drawn_by_class,
    moved,
    random_batch,
    random_counts,
    redrawn,
    snapshot,
)

COUNTS = torch.tensor([12, 5, 2], dtype=torch.float64)
LABELS = torch.arange(3).repeat_interleave(COUNTS.long())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def central_difference(function, x: Tensor, step: float = 1e-6) -> Tensor:
    """Jacobian of a function of x (K,) by central differences: (..., K)."""
    columns = []
    for k in range(len(x)):
        shift = torch.zeros_like(x)
        shift[k] = step
        columns.append((function(x + shift) - function(x - shift)) / (2 * step))
    return torch.stack(columns, dim=-1)


class Problem:
    """A draw of six images, a meta batch and a linear head, in float64."""

    def __init__(self, seed: int = 0) -> None:
        random = generator(seed)
        self.noise = gumbel_noise(6, len(LABELS), generator=random).double()
        self.rate_logits = torch.randn(3, generator=random, dtype=torch.float64)
        self.positions, _ = draw_images(self.rate_logits, LABELS, self.noise)
        self.head = redrawn(nn.Linear(4, 3), seed)
        all_features = torch.randn(len(LABELS), 4, generator=random, dtype=torch.float64)
        self.batch = (all_features[self.positions], LABELS[self.positions])
        meta = torch.randn(9, 4, generator=random, dtype=torch.float64)
        self.meta_batch = (meta, torch.arange(3).repeat(3))

    def meta_loss(self, weights: Tensor, lr: float = 0.7) -> Tensor:
        parameters = dict(self.head.named_parameters())
        return meta_loss(weights, self.head, parameters, self.batch, self.meta_batch, COUNTS, lr)

    def soft_draws(self, rate_logits: Tensor) -> Tensor:
        """Of the images drawn, (6,): written with softmax, as the paper does."""
        soft = F.softmax(torch.log(torch.sigmoid(rate_logits))[LABELS] + self.noise, dim=1)
        return soft.gather(1, self.positions[:, None]).squeeze(1)


# The meta-gradient


@pytest.mark.parametrize("seed", range(3))
def test_meta_loss_by_weights_against_finite_differences(seed):
    problem = Problem(seed)
    weights = torch.rand(6, generator=generator(seed), dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(problem.meta_loss(weights), weights)
    with torch.no_grad():
        numeric = central_difference(problem.meta_loss, weights.detach())
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-9)
    assert gradient.abs().max() > 1e-3
    assert torch.autograd.gradcheck(problem.meta_loss, weights)


@pytest.mark.parametrize("seed", range(3))
def test_straight_through_weights_against_finite_differences(seed):
    problem = Problem(seed)
    rate_logits = problem.rate_logits.clone().requires_grad_()
    positions, weights = draw_images(rate_logits, LABELS, problem.noise)
    assert torch.equal(weights, torch.ones(6, dtype=torch.float64))
    rows = [torch.autograd.grad(w, rate_logits, retain_graph=True)[0] for w in weights]
    numeric = central_difference(problem.soft_draws, problem.rate_logits)
    torch.testing.assert_close(torch.stack(rows), numeric, rtol=1e-6, atol=1e-9)
    assert torch.equal(positions, problem.positions)
    assert numeric.abs().max() > 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_autograd_joins_the_two(seed):
    problem = Problem(seed)
    rate_logits = problem.rate_logits.clone().requires_grad_()
    _, weights = draw_images(rate_logits, LABELS, problem.noise)
    problem.meta_loss(weights).backward(inputs=[rate_logits])
    with torch.no_grad():
        by_weights = central_difference(problem.meta_loss, torch.ones(6, dtype=torch.float64))
        by_rates = central_difference(problem.soft_draws, problem.rate_logits)
    torch.testing.assert_close(rate_logits.grad, by_weights @ by_rates, rtol=1e-6, atol=1e-9)
    assert all(p.grad is None for p in problem.head.parameters())


def test_step_ahead_is_one_of_sgd():
    problem = Problem()
    ours = problem.meta_loss(torch.ones(6, dtype=torch.float64))
    optimizer = torch.optim.SGD(problem.head.parameters(), lr=0.7)
    balanced_softmax_loss(problem.head(problem.batch[0]), problem.batch[1], COUNTS).backward()
    optimizer.step()
    after = F.cross_entropy(problem.head(problem.meta_batch[0]), problem.meta_batch[1])
    torch.testing.assert_close(ours, after, rtol=1e-13, atol=0)


def test_the_step_ahead_follows_the_schedule(stage1, make_method, monkeypatch):
    method = make_method("balms", stage1.task, stage1, lr=0.4, schedule="cosine")
    rates = []
    monkeypatch.setattr(balms, "meta_loss", lambda *a: rates.append(a[-1]) or meta_loss(*a))
    method.train()
    for method.progress in (0.0, 0.5, 0.75):
        method.step(next(method.batches())[1])
    assert rates == pytest.approx([0.4, 0.2, 0.2 * (1 - math.sqrt(0.5))])


def test_the_order_of_classes_does_not_matter():
    problem, order = Problem(), torch.tensor([2, 0, 1])
    place = order.argsort()
    head = nn.Linear(4, 3, dtype=torch.float64)
    head.load_state_dict({k: v[order] for k, v in problem.head.state_dict().items()})
    gradients = []
    for rates, labels, h, batches, counts in (
        (
            problem.rate_logits.clone(),
            LABELS,
            problem.head,
            (problem.batch, problem.meta_batch),
            COUNTS,
        ),
        (
            problem.rate_logits[order],
            place[LABELS],
            head,
            tuple((x, place[y]) for x, y in (problem.batch, problem.meta_batch)),
            COUNTS[order],
        ),
    ):
        rates.requires_grad_()
        _, weights = draw_images(rates, labels, problem.noise)
        meta_loss(weights, h, dict(h.named_parameters()), *batches, counts, 0.7).backward()
        gradients.append(rates.grad)
    torch.testing.assert_close(gradients[1], gradients[0][order], rtol=1e-10, atol=1e-14)


# The draws


def test_weights_are_those_of_hard_gumbel_softmax():
    rates = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    noise = gumbel_noise(5, len(LABELS), generator=generator(1)).double()
    positions, weights = draw_images(rates, LABELS, noise)
    soft = F.softmax(F.logsigmoid(rates)[LABELS] + noise, dim=1)
    hard = F.one_hot(soft.argmax(1), len(LABELS)) - soft.detach() + soft
    factors = torch.arange(1.0, 6, dtype=torch.float64)
    (ours,) = torch.autograd.grad((factors * weights).sum(), rates)
    drawn = hard.gather(1, positions[:, None]).squeeze(1)
    (theirs,) = torch.autograd.grad((factors * drawn).sum(), rates)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def test_images_are_drawn_at_the_rate_of_their_class():
    rates = torch.tensor([-1.0, 0.0, 2.0])
    noise = gumbel_noise(20_000, len(LABELS), generator=generator())
    positions, _ = draw_images(rates, LABELS, noise)
    r = expit(rates.numpy())[LABELS.numpy()]
    often = np.bincount(positions.numpy(), minlength=len(LABELS)) / len(positions)
    assert np.abs(often - r / r.sum()).max() < 0.008  # more than four standard deviations


def test_gumbel_noise_is_standard_and_finite():
    noise = gumbel_noise(1000, 200, generator=generator())
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.var().item() == pytest.approx(np.pi**2 / 6, abs=0.03)


def test_extreme_rates():
    rates = torch.tensor([-200.0, 0.0, 200.0], requires_grad=True)
    positions, weights = draw_images(rates, LABELS, gumbel_noise(50, 19, generator=generator()))
    assert (LABELS[positions] > 0).all()
    weights.sum().backward()
    assert rates.grad.isfinite().all()


def test_initial_rates():
    counts = torch.tensor([70.0, 20.0, 10.0], dtype=torch.float64)
    assert torch.equal(initial_rates(counts, 0.0), torch.full((3,), 0.5, dtype=torch.float64))
    v = np.array([0.7, 0.2, 0.1]) ** -0.3
    expected = v / (v.min() + v.max())
    np.testing.assert_allclose(initial_rates(counts, 0.3), expected, rtol=1e-12)
    mass = counts * initial_rates(counts, 1.0)
    torch.testing.assert_close(mass, mass[:1].expand(3))  # class-balanced
    assert torch.equal(initial_rates(torch.tensor([4.0]), 0.3), torch.tensor([0.5]))


# Balanced softmax


@given(st.integers(2, 100), st.integers(0, 5))
def test_balanced_softmax_formula(classes, seed):
    (logits, labels), counts = random_batch(classes, 4, seed), random_counts(classes, seed)
    p = softmax(logits.numpy(), axis=1) * counts.numpy()
    p = (p / p.sum(1, keepdims=True))[np.arange(4), labels.numpy()]
    ours = balanced_softmax_loss(logits, labels, counts)
    assert ours.item() == pytest.approx(-np.log(p).mean(), rel=1e-9)


@given(st.floats(1e-3, 1e3))
def test_only_the_ratios_of_counts_matter(factor):
    logits, labels = random_batch(3)
    ours = balanced_softmax_loss(logits, labels, factor * COUNTS)
    torch.testing.assert_close(
        ours, balanced_softmax_loss(logits, labels, COUNTS), rtol=1e-11, atol=0
    )


def test_balanced_softmax_with_equal_counts_is_cross_entropy():
    logits, labels = random_batch(3)
    logits.requires_grad_()
    ours = balanced_softmax_loss(logits, labels, torch.full((3,), 7.0, dtype=torch.float64))
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels), rtol=1e-13, atol=0)
    assert torch.autograd.gradcheck(lambda x: balanced_softmax_loss(x, labels, COUNTS), logits)


def test_balanced_softmax_with_extreme_logits():
    logits = torch.tensor([[1e4, 0.0], [-1e4, 1e4]], requires_grad=True)
    loss = balanced_softmax_loss(logits, torch.tensor([0, 0]), torch.tensor([1000.0, 1.0]))
    assert_finite(loss, logits)


# The method


def test_only_head_and_rates_are_trained(stage1, make_method, train):
    method = make_method("balms", stage1.task, stage1)
    before = snapshot(method)
    logs = train(method)
    assert moved(method, before) == {"model.head.weight", "model.head.bias", "rate_logits"}
    assert set(logs[0]) == {"loss", "meta_loss"}
    assert np.isfinite([value for row in logs for value in row.values()]).all()


def test_a_step_does_what_its_parts_do(stage1, make_method):
    """The rates' gradient, Adam's step and the head's SGD step, from the same random numbers."""
    task = stage1.task
    settings = {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.01, "batch_size": 6, "power": 0.3}
    expected, method = (make_method("balms", task, stage1, **settings) for _ in range(2))
    expected.load_state_dict(method.state_dict())

    task.streams.start_epoch(1)
    _, meta = next(expected.train().batches())
    batch, weights = expected.draw(len(meta))
    head = expected.model.head
    features, meta_features = expected.encode(batch), expected.encode(meta)
    loss = weights * balanced_softmax_loss(
        head(features), batch.labels, task.class_counts, reduction="none"
    )
    by_head = torch.autograd.grad(loss.mean(), list(head.parameters()), create_graph=True)
    weight, bias = (p - 0.3 * g for p, g in zip(head.parameters(), by_head, strict=True))
    ahead = F.cross_entropy(F.linear(meta_features, weight, bias), meta.labels)
    (by_rates,) = torch.autograd.grad(ahead, expected.rate_logits, retain_graph=True)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.3, momentum=0.9, weight_decay=0.01)
    balanced_softmax_loss(head(features), batch.labels, task.class_counts).backward()
    optimizer.step()

    task.streams.start_epoch(1)
    logs = method.train().step(next(method.batches())[1])
    torch.testing.assert_close(logs["meta_loss"], ahead.detach())
    torch.testing.assert_close(method.rate_logits.grad, by_rates)
    moved = method.rate_logits.detach() - expected.rate_logits.detach()
    torch.testing.assert_close(moved, -0.01 * by_rates.sign(), rtol=1e-2, atol=1e-5)  # Adam's first
    for ours, theirs in zip(method.model.head.parameters(), head.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_meta_batches_are_class_balanced_training_images(stage1, make_method, train):
    task = stage1.task
    method = make_method("balms", task, stage1, batch_size=6)
    assert drawn_by_class(method) == [6, 6, 6]
    task.validation = None  # nothing of it is needed
    train(method)


def test_power_1_starts_class_balanced(make_task, make_method):
    task = make_task((300, 30, 3), size=8)
    method = make_method("balms", task, power=1.0)
    batch, _ = method.draw(3000)
    often = torch.bincount(batch.labels) / 3000
    assert (often - 1 / 3).abs().max() < 0.04


def test_rates_rise_where_a_step_on_them_helps():
    """Two classes; the head is right on the one and untrained on the other."""
    features = torch.eye(2, dtype=torch.float64)
    labels = torch.tensor([0, 1])
    head = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[5.0, 0.0], [-5.0, 0.0]]))
    rates = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    total = torch.zeros(2, dtype=torch.float64)
    for seed in range(50):
        noise = gumbel_noise(4, 2, generator=generator(seed)).double()
        positions, weights = draw_images(rates, labels, noise)
        batch = (features[positions], labels[positions])
        ones = torch.ones(2, dtype=torch.float64)
        loss = meta_loss(
            weights, head, dict(head.named_parameters()), batch, (features, labels), ones, 0.1
        )
        total -= torch.autograd.grad(loss, rates)[0]
    assert total[1] > 0 > total[0]
