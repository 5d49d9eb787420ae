"""ProCo's loss by exact values, Bessel functions by scipy, and the classes' running means."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import ive, ivp

from lmdbench.methods.logit_adjustment import log_prior, logit_adjusted_loss
from lmdbench.methods.proco import (
    ClassMeans,
    contrast_logits,
    log_bessel,
    probabilistic_contrastive_loss,
)

from .helpers import (
    assert_finite,
    moved,
    randn,
    random_counts,
    snapshot,
    train_and_resume,
    unit_rows,
)
from .released import B, Case, cases, gradient_norm

P, T = 128, 0.1  # of the values: width of the features, temperature


def started(directions: torch.Tensor) -> ClassMeans:
    means = ClassMeans(*directions.shape)
    means.reset(directions)
    return means


@cases("proco")
def test_official_values(released):
    """Of two epochs of two batches, with the Bessel function exact."""
    case = Case(*released)
    start, m = (case.unit(case.C, P) for _ in range(2))
    used, collected = started(start), started(start)
    for epoch in range(2):
        used.load_state_dict(collected.state_dict())
        collected.reset(start)
        for batch in range(2):
            y = case.labels(B)
            noisy = [m[y] + case.normal(B, P, scale=0.06) for _ in range(2)]
            views = [F.normalize(f, dim=1).requires_grad_() for f in noisy]
            loss = probabilistic_contrastive_loss(views, y, (used, collected), case.counts, T)
            expected = case.values[f"epoch{epoch}_batch{batch}"]
            assert loss.item() == pytest.approx(expected["loss"], rel=1e-7)
            assert gradient_norm(loss, *views) == pytest.approx(expected["grad"], rel=1e-7)
            assert used.counts.tolist() == expected["counts"]
            R = used.means.norm(dim=1)
            assert (P * R / (1 - R**2)).tolist() == pytest.approx(expected["kappa"], rel=1e-9)


@cases("proco")
def test_official_values_of_one_image_a_class(released):
    """Whose means are as long as a single feature: κ has its largest value."""
    case = Case(*released)
    f, y = case.unit(case.C, P).requires_grad_(), torch.arange(case.C)
    sets = started(f.detach()), started(f.detach())
    loss = probabilistic_contrastive_loss([f], y, sets, case.counts, T)
    assert loss.item() == pytest.approx(case.values["singleton"]["loss"], rel=1e-7)
    assert gradient_norm(loss, f) == pytest.approx(case.values["singleton"]["grad"], rel=1e-7)


@pytest.mark.parametrize(("width", "error"), [(32, 5e-8), (33, 5e-8), (128, 3e-11), (1024, 1e-11)])
def test_bessel_functions_are_scipys(width, error):
    """Where scipy's do not underflow; the gradient is the ratio of two of them."""
    nu = width / 2 - 1
    x = np.geomspace(nu / 4, 1e5, 60)
    scaled = ive(nu, x)
    x, scaled = x[scaled > 1e-290], scaled[scaled > 1e-290]
    z = torch.from_numpy(x).requires_grad_()
    ours = log_bessel(z**2, nu)
    expected = np.log(scaled) + x - nu * np.log(x)
    # Beside the error of the expansion: rounding of numbers of the size of x.
    assert np.abs(ours.detach().numpy() - expected).max() < error + 1e-15 * x.max()
    (ratio,) = torch.autograd.grad(ours.sum(), z)
    assert ratio.numpy() == pytest.approx(ive(nu + 1, x) / scaled, rel=1e-6)
    assert (ratio < 1).all()


def test_bessel_function_at_0():
    """I_ν(x) / x^ν → 1 / (2^ν Γ(ν + 1))."""
    expected = -63 * math.log(2) - math.lgamma(64)
    assert log_bessel(torch.tensor(0.0), 63).item() == pytest.approx(expected, abs=1e-9)


def test_ratio_near_0_is_scipys():
    x = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    (ratio,) = torch.autograd.grad(log_bessel(x**2, 15.0).sum(), x)
    at = x.detach().numpy()
    derivative = ivp(15, at) / (ive(15, at) * np.exp(at)) - 15 / at
    assert ratio.numpy() == pytest.approx(derivative, rel=1e-6)


def test_logits_are_logs_of_means_over_samples():
    """E[exp(f·v/T)] over the von Mises–Fisher distribution, where f is μ: by integration over the
    cosine t of v and μ, whose density is ∝ e^{κ t} (1 − t²)^{(p − 3)/2}."""
    p, R, T = 32, 0.6, 0.3
    mu = F.normalize(randn(1, p, seed=1), dim=1)
    kappa = p * R / (1 - R**2)
    t = np.linspace(-1, 1, 200001)[1:-1]
    density = np.exp(kappa * (t - 1)) * (1 - t**2) ** ((p - 3) / 2)
    expected = np.log((density * np.exp(t / T)).sum() / density.sum())
    assert contrast_logits(mu, R * mu, T).item() == pytest.approx(expected, rel=1e-6)


def test_means_without_length_leave_the_prior():
    """κ = 0: all classes are alike, and the loss is the mean of −log π_y."""
    f, y, counts = unit_rows(5, P), torch.tensor([0, 2, 1, 1, 0]), random_counts(3)
    s = contrast_logits(f, torch.zeros(3, P).double(), T)
    loss = logit_adjusted_loss(s, y, counts, 1.0)
    torch.testing.assert_close(loss, -log_prior(counts)[y].mean())


def test_long_means_leave_the_cosine():
    """κ at its most: s is cos(f, μ) / T, but for what all classes share."""
    f, mu = unit_rows(5, P), unit_rows(4, P, seed=1)
    s, cosine = contrast_logits(f, mu, T), f @ mu.T / T
    centred = (m - m.mean(dim=1, keepdim=True) for m in (s, cosine))
    torch.testing.assert_close(*centred, rtol=0, atol=3e-3)


def test_rotating_everything_changes_nothing():
    f, means = unit_rows(5, P), 0.7 * unit_rows(4, P, seed=1)
    rotation = torch.linalg.qr(randn(P, P, seed=2))[0]
    torch.testing.assert_close(
        contrast_logits(f @ rotation, means @ rotation, T), contrast_logits(f, means, T)
    )


def test_running_means_by_hand():
    means = started(torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]))
    means.put(torch.tensor([[1.0, 1.0], [3.0, 1.0], [5.0, 5.0]]), torch.tensor([0, 0, 2]))
    assert means.means.tolist() == [[2, 1], [0, 0.9], [5, 5]]  # the second was not met
    means.put(torch.tensor([[5.0, 4.0], [7.0, 7.0]]), torch.tensor([0, 1]))
    assert means.means.tolist() == [[3, 2], [7, 7], [5, 5]]
    assert means.counts.tolist() == [3, 1, 1]


@pytest.mark.parametrize("classes", [2, 100])
def test_one_image_of_a_class_is_finite(classes):
    f, y = unit_rows(4, 32).float().requires_grad_(), torch.tensor([0, 1, 1, 1])
    sets = tuple(started(unit_rows(classes, 32, seed=s)) for s in (1, 2))
    loss = probabilistic_contrastive_loss([f, f], y, sets, torch.ones(classes), 0.07)
    assert loss.dtype == torch.float32
    assert_finite(loss, f)


def test_an_epoch_begins_with_the_means_of_the_last_one(make_task, make_method, train):
    """Each image is met twice in an epoch, and as often in what the next one begins with."""
    method = make_method("proco", make_task((12, 5, 1)), epochs=2, width=32)
    train(method, last=1)
    assert method.used.counts.tolist() == method.collected.counts.tolist() == [24, 10, 2]
    train(method, first=1)
    assert method.used.counts.tolist() == [48, 20, 4]
    assert method.collected.counts.tolist() == [24, 10, 2]
    assert not torch.equal(method.used.means, method.collected.means)


def test_the_head_sees_the_first_view_and_the_contrast_the_others(make_task, make_method):
    task = make_task((12, 5, 1))
    method = make_method("proco", task, width=32, contrast_weight=0.7).eval()
    _, batch = next(method.batches())
    sets = tuple(started(method.collected.means) for _ in range(2))
    method.used.load_state_dict(sets[0].state_dict())
    y, counts = batch.labels, task.class_counts
    logits = method.model.head(method.model.encoder(batch.views[0]))
    f = [F.normalize(method.projector(method.model.encoder(v)), dim=1) for v in batch.views[1:]]
    contrast = probabilistic_contrastive_loss(f, y, sets, counts, 0.1)
    expected = logit_adjusted_loss(logits, y, counts, 1.0) + 0.7 * contrast
    torch.testing.assert_close(method.loss(batch), expected)
    torch.testing.assert_close(method.predict(batch.images), logits)


def test_a_resumed_training_ends_the_same(make_task, make_method, train):
    whole, resumed = (
        make_method("proco", make_task((12, 5, 1)), epochs=2, width=32) for _ in range(2)
    )
    train_and_resume(train, whole, resumed, after=1)
    assert moved(resumed, snapshot(whole)) == set()
