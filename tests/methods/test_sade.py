"""SADE's loss by the official code's values, its limits, and the reversed prior."""

import pytest
import torch
import torch.nn.functional as F

from lmdbench.methods.balpoe import balpoe_loss
from lmdbench.methods.sade import reversed_prior, sade_loss

from .helpers import moved, randn, random_counts, snapshot, train_and_resume
from .released import B, Case, cases, gradient_norm


@pytest.fixture
def make_encoder(make_staged_encoder):
    return make_staged_encoder


def drawn(classes=4, seed=0):
    labels = torch.randint(classes, (6,), generator=torch.Generator().manual_seed(seed))
    return 3 * randn(3, 6, classes, seed=seed), labels


@cases("sade")
def test_official_values(released):
    case = Case(*released)
    z, y = case.normal(3, B, case.C, scale=3).requires_grad_(), case.labels(B)
    for tau in (1, 2):
        loss = sade_loss(z, y, case.counts, tau)
        assert loss.item() == pytest.approx(case.values[f"loss_tau{tau}"], rel=1e-10)
        expected = case.values[f"grad_tau{tau}"]
        assert gradient_norm(loss, z) == pytest.approx(expected, rel=1e-10)
    reverse = reversed_prior(case.counts)
    assert reverse.tolist() == pytest.approx(case.values["inverse_prior"], rel=1e-12)


def test_reversed_prior_by_hand():
    """The same numbers in another order, and no inverse: of tied classes the first has more."""
    counts = torch.tensor([50.0, 1.0, 30.0, 1.0])
    expected = torch.tensor([1.0, 50.0, 1.0, 30.0]) / 82
    torch.testing.assert_close(reversed_prior(counts), expected)
    expected = torch.tensor([1.0, 40.0, 1.0, 40.0]) / 82
    torch.testing.assert_close(reversed_prior(counts, mean_of_ties=True), expected)


def test_with_means_of_ties_the_order_of_classes_does_not_matter():
    counts, order = torch.tensor([7.0, 1.0, 3.0, 1.0]).double(), torch.tensor([3, 1, 0, 2])
    z, y = drawn()
    one = sade_loss(z, y, counts, 2.0, mean_of_ties=True)
    back = order.argsort()
    other = sade_loss(z[..., back], order[y], counts[back], 2.0, mean_of_ties=True)
    torch.testing.assert_close(one, other)


def test_equal_counts_are_cross_entropy_of_each_expert():
    z, y = drawn()
    expected = sum(F.cross_entropy(own, y) for own in z)
    torch.testing.assert_close(sade_loss(z, y, torch.full((4,), 9.0).double(), 2.0), expected)


def test_without_tau_the_third_expert_is_as_the_second():
    z, y = drawn()
    counts, swapped = random_counts(4), z[[0, 2, 1]]
    torch.testing.assert_close(sade_loss(z, y, counts, 0.0), sade_loss(swapped, y, counts, 0.0))


@pytest.mark.parametrize("classes", [2, 5, 100])
def test_geometric_counts_make_it_balpoe(classes):
    z, y = drawn(classes)
    counts = 1e3 * 0.93 ** torch.arange(classes).double()
    expected = 3 * balpoe_loss(z, y, y, 1.0, counts, torch.tensor([0.0, 1.0, 2.0]).double())
    torch.testing.assert_close(sade_loss(z, y, counts, 1.0), expected, rtol=1e-6, atol=0)


def test_only_ratios_of_counts_matter():
    z, y = drawn()
    counts = random_counts(4)
    torch.testing.assert_close(sade_loss(z, y, counts, 2.0), sade_loss(z, y, 7 * counts, 2.0))


def test_loss_is_of_the_experts_and_the_prediction_their_mean(make_task, make_method):
    task = make_task((12, 5, 1, 1))
    method = make_method("sade", task, ties="mean").eval()
    _, batch = next(method.batches())
    z = method.model.head.each(method.model.encoder(batch.images))
    assert z.shape[0] == 3
    expected = sade_loss(z, batch.labels, task.class_counts, 2.0, mean_of_ties=True)
    torch.testing.assert_close(method.loss(batch), expected)
    torch.testing.assert_close(method.predict(batch.images), z.mean(dim=0))


def test_a_resumed_training_ends_the_same(make_task, make_method, train):
    whole, resumed = (make_method("sade", make_task((12, 5, 1)), epochs=2) for _ in range(2))
    train_and_resume(train, whole, resumed, after=1)
    assert moved(resumed, snapshot(whole)) == set()
