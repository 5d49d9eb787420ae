"""BPaCo's loss by the official code's values and its limits; averages over the queue by loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lmdbench.methods.bcl import balanced_contrastive_loss
from lmdbench.methods.logit_adjustment import log_prior
from lmdbench.methods.paco import parametric_contrastive_loss

from .helpers import assert_finite, moved, randn, snapshot, train_and_resume, unit_rows
from .released import B, Case, D, cases, gradient_norm

ALPHA, T = 0.05, 0.2


@cases("bpaco")
def test_official_values(released):
    case = Case(*released)
    q, k = (case.unit(B, D).requires_grad_() for _ in range(2))
    queue, z = case.unit(24, D), case.normal(2 * B, case.C, scale=3).requires_grad_()
    y, queued, c = case.labels(B), case.labels(24), case.unit(case.C, D).requires_grad_()
    anchors, values = torch.cat([q, k]), case.values
    balanced = balanced_contrastive_loss(anchors, y.repeat(2), c, T)
    assert balanced.item() == pytest.approx(values["balanced_part"], rel=1e-9)
    ce = F.cross_entropy(z[:B], y)
    assert ce.item() == pytest.approx(values["ce"], rel=1e-9)
    for name, logits, averaged in (
        ("released", z, False),
        ("with_prior", z + log_prior(case.counts), False),
        ("across_batch", z, True),
    ):
        contrast = balanced + parametric_contrastive_loss(
            logits, anchors, y.repeat(2), queue, queued,
            alpha=ALPHA, temperature=T, class_averaged=averaged,
        )  # fmt: skip
        assert contrast.item() == pytest.approx(values[f"bpaco_{name}"], rel=1e-6)
        loss = ce + 0.25 * contrast
        assert loss.item() == pytest.approx(values[f"loss_{name}"], rel=1e-6)
        expected = values[f"grad_{name}"]
        assert gradient_norm(loss, q, k, z, c) == pytest.approx(expected, rel=1e-6)


def averaged_by_loops(z, f, y, keys, key_labels, alpha: float, tau: float) -> float:
    samples = np.concatenate([f, keys])
    labels = np.concatenate([y, key_labels])
    N, C = z.shape
    losses = []
    for i in range(N):
        columns = [(z[i, c], c, float(c == y[i])) for c in range(C)]
        columns += [
            (f[i] @ samples[j] / tau, labels[j], alpha * (labels[j] == y[i]))
            for j in range(len(samples))
            if j != i and labels[j] >= 0
        ]
        total = sum(np.exp(s) / max(1, np.sum(labels == c) - w) for s, c, w in columns)
        weights = [w for _, _, w in columns]
        log_p = [s - np.log(total) for s, _, _ in columns]
        losses.append(-np.dot(weights, log_p) / sum(weights))
    return float(np.mean(losses))


@pytest.mark.parametrize("classes", [2, 5, 100])
def test_averages_over_batch_and_queue_by_loops(classes):
    """Also of classes without images, and of keys that are absent."""
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, classes, 4)).repeat(2)
    key_labels = torch.from_numpy(rng.integers(-1, classes, 7))
    z, f, keys = randn(8, classes), unit_rows(8, 5, 1), unit_rows(7, 5, 2)
    ours = parametric_contrastive_loss(
        z, f, y, keys, key_labels, alpha=0.3, temperature=0.4, class_averaged=True
    )
    arrays = (t.numpy() for t in (z, f, y, keys, key_labels))
    assert ours.item() == pytest.approx(averaged_by_loops(*arrays, 0.3, 0.4), rel=1e-10)


@pytest.mark.parametrize(
    ("settings", "prior"),
    [({}, 0), ({"prior": True}, 1), ({"prior": True, "across_batch": True}, 1)],
)
def test_loss_is_put_together(make_task, make_method, settings, prior):
    """Cross-entropy of the first view; the balanced part has the centres, and not the queue."""
    task = make_task((12, 5, 1))
    method = make_method("bpaco", task, width=5, **settings).eval()
    batches = [batch for _, batch in method.batches()]
    method.loss(batches[0])
    keys, key_labels = method.queue.keys.clone(), method.queue.labels.clone()
    batch, y = batches[1], batches[1].labels.repeat(2)
    assert (key_labels >= 0).sum() == len(batches[0])
    logits, anchors = method.encode(batch)
    parametric = parametric_contrastive_loss(
        logits + prior * log_prior(task.class_counts), anchors, y, keys, key_labels,
        alpha=ALPHA, temperature=T, class_averaged="across_batch" in settings,
    )  # fmt: skip
    c = F.normalize(method.prototypes(method.model.head.weight), dim=1)
    balanced = balanced_contrastive_loss(anchors, y, c, T)
    ce = F.cross_entropy(method.model.head(method.model.encoder(batch.views[0])), batch.labels)
    expected = ce + 0.25 * (parametric + balanced)
    torch.testing.assert_close(method.loss(batch), expected)


def test_without_contrast_it_is_cross_entropy(make_task, make_method):
    method = make_method("bpaco", make_task((12, 5, 1)), contrast_weight=0.0).eval()
    _, batch = next(method.batches())
    expected = F.cross_entropy(method.model(batch.images), batch.labels)
    torch.testing.assert_close(method.loss(batch), expected)


def test_averages_stay_finite_where_the_queue_is_empty():
    z, f, y = randn(4, 100).requires_grad_(), unit_rows(4, 5).requires_grad_(), torch.arange(2)
    nothing = torch.full((3,), -1)
    loss = parametric_contrastive_loss(
        z, f, y.repeat(2), torch.zeros(3, 5).double(), nothing,
        alpha=0.0, temperature=0.2, class_averaged=True,
    )  # fmt: skip
    assert_finite(loss, z, f)


def test_a_resumed_training_ends_the_same(make_task, make_method, train):
    whole, resumed = (
        make_method("bpaco", make_task((12, 5, 1)), epochs=2, queue=11) for _ in range(2)
    )
    train_and_resume(train, whole, resumed, after=1)
    assert moved(resumed, snapshot(whole)) == set()
