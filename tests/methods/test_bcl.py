"""BCL's loss against loops from the paper; prototypes, views and what is trained."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.methods.bcl import balanced_contrastive_loss

from .helpers import moved, snapshot, unit_rows


def by_loops(f: np.ndarray, y: np.ndarray, c: np.ndarray, tau: float) -> float:
    losses = []
    for i in range(len(f)):
        members = [
            [f[j] for j in range(len(f)) if y[j] == k and j != i] + [c[k]] for k in range(len(c))
        ]
        total = sum(np.mean([np.exp(f[i] @ a / tau) for a in A]) for A in members)
        positives = members[y[i]]
        losses.append(-np.mean([np.log(np.exp(f[i] @ p / tau) / total) for p in positives]))
    return float(np.mean(losses))


@given(st.integers(1, 6), st.integers(2, 8), st.integers(0, 20))
def test_loss_is_that_of_the_paper(images, classes, seed):
    """Also with classes that have no image in the batch, or one."""
    f, c = unit_rows(2 * images, 5, seed), unit_rows(classes, 5, seed + 100)
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, classes, images)).repeat(2)
    ours = balanced_contrastive_loss(f, labels, c, 0.3).item()
    assert ours == pytest.approx(by_loops(f.numpy(), labels.numpy(), c.numpy(), 0.3), rel=1e-10)


def test_gradient():
    labels = torch.tensor([0, 1, 1, 0, 1, 1])
    f, c = unit_rows(6, 3, 0).requires_grad_(), unit_rows(3, 3, 1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f, c: balanced_contrastive_loss(f, labels, c, 0.5), (f, c)
    )


def test_a_class_counts_by_its_mean():
    """With n copies of a feature that is its class's prototype too, each image's loss stays: the
    sum of all losses grows by the same with each copy."""
    f, c = unit_rows(3, 4, 0), unit_rows(2, 4, 1)
    prototypes = torch.stack([c[0], f[2]])

    def summed(n: int) -> float:
        features, labels = torch.cat([f[:2], f[2:].repeat(n, 1)]), torch.tensor([0, 0] + [1] * n)
        return balanced_contrastive_loss(features, labels, prototypes, 0.5).item() * (2 + n)

    assert summed(3) - summed(2) == pytest.approx(summed(2) - summed(1))
    assert summed(9) - summed(8) == pytest.approx(summed(2) - summed(1))


def test_the_order_of_images_does_not_matter():
    f, c, labels = unit_rows(6, 4, 0), unit_rows(3, 4, 1), torch.tensor([0, 1, 2, 0, 1, 2])
    order = torch.tensor([5, 2, 0, 1, 4, 3])
    one, other = (balanced_contrastive_loss(f[o], labels[o], c, 0.1) for o in (slice(None), order))
    torch.testing.assert_close(one, other)


def test_both_branches(make_task, make_method):
    """The head learns in the first view, the contrast is of the other two."""
    task = make_task((12, 5, 1))
    method = make_method("bcl", task, ce_weight=0.7, contrast_weight=0.4).eval()
    _, batch = next(method.batches())
    assert len(batch.views) == 3
    z = [method.model.encoder(view) for view in batch.views]
    ce = balanced_softmax_loss(method.model.head(z[0]), batch.labels, task.class_counts)
    f = torch.cat([F.normalize(method.projector(z[i]), dim=1) for i in (1, 2)])
    c = F.normalize(method.prototypes(method.model.head.weight), dim=1)
    labels = batch.labels.repeat(2)
    contrast = balanced_contrastive_loss(f, labels, c, 0.07)
    torch.testing.assert_close(method.loss(batch), 0.7 * ce + 0.4 * contrast)


def test_without_contrast_it_is_logit_adjustment_of_cosines(make_task, make_method):
    task = make_task((12, 5, 1))
    method = make_method("bcl", task, contrast_weight=0.0).eval()
    _, batch = next(method.batches())
    expected = balanced_softmax_loss(method.model(batch.images), batch.labels, task.class_counts)
    torch.testing.assert_close(method.loss(batch), expected)


def test_both_projectors_and_the_head_learn(make_task, make_method, train):
    method = make_method("bcl", make_task((12, 5, 1)), epochs=1, ce_weight=0.0)
    before = snapshot(method)
    train(method)
    learned = moved(method, before) & dict(method.named_parameters()).keys()
    assert {name.split(".")[0] for name in learned} == {"model", "projector", "prototypes"}
    assert "model.head.weight" in learned  # by the prototypes
