"""GPaCo's loss by the official code's values and its limits; its anchors and its queue."""

import pytest
import torch
import torch.nn.functional as F

from lmdbench.methods.logit_adjustment import log_prior, logit_adjusted_loss
from lmdbench.methods.paco import parametric_contrastive_loss

from .helpers import moved, randn, random_counts, snapshot, train_and_resume, unit_rows
from .released import B, Case, D, cases, gradient_norm


@cases("gpaco")
def test_official_values(released):
    case = Case(*released)
    q, k = (case.unit(B, D).requires_grad_() for _ in range(2))
    queue, z = case.unit(24, D), case.normal(2 * B, case.C, scale=3).requires_grad_()
    y, queued = case.labels(B), case.labels(24)
    anchors = torch.cat([q, k])
    for name, settings in {
        "alpha.05_T.2": {"alpha": 0.05, "temperature": 0.2},
        "alpha.01_T.07": {"alpha": 0.01, "temperature": 0.07},
        "smooth.1": {"alpha": 0.05, "temperature": 0.2, "smoothing": 0.1},
    }.items():
        loss = parametric_contrastive_loss(
            z + log_prior(case.counts), anchors, y.repeat(2), queue, queued, **settings
        )
        # To 1e-6: the official code adds 1e-9 to π within the log.
        assert loss.item() == pytest.approx(case.values[f"loss_{name}"], rel=1e-6)
        expected = case.values[f"grad_{name}"]
        assert gradient_norm(loss, q, k, z) == pytest.approx(expected, rel=1e-6)


def drawn(classes=4, n=6):
    z, anchors, queue = randn(2 * n, classes), unit_rows(2 * n, 5, 1), unit_rows(9, 5, 2)
    generator = torch.Generator().manual_seed(0)
    y, queued = (torch.randint(classes, (m,), generator=generator) for m in (n, 9))
    return z, anchors, y.repeat(2), queue, queued


@pytest.mark.parametrize("averaged", [False, True])
def test_swapping_the_views_changes_nothing(averaged):
    z, anchors, y, queue, queued = drawn()
    settings = {"alpha": 0.05, "temperature": 0.2, "class_averaged": averaged}
    torch.testing.assert_close(
        parametric_contrastive_loss(z, anchors, y, queue, queued, **settings),
        parametric_contrastive_loss(z.roll(6, 0), anchors.roll(6, 0), y, queue, queued, **settings),
    )


@pytest.mark.parametrize("classes", [2, 100])
@pytest.mark.parametrize("averaged", [False, True])
def test_the_order_of_classes_does_not_matter(averaged, classes):
    z, anchors, y, queue, queued = drawn(classes)
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(1))
    settings = {
        "alpha": 0.05,
        "temperature": 0.2,
        "smoothing": 0.1,
        "class_averaged": averaged,
    }
    torch.testing.assert_close(
        parametric_contrastive_loss(z, anchors, y, queue, queued, **settings),
        parametric_contrastive_loss(
            z[:, order.argsort()], anchors, order[y], queue, order[queued], **settings
        ),
    )


def test_smoothing_by_hand():
    """Of an anchor alone with three centres: (1 − ε) on its own, ε/2 on each of the others."""
    z, y = randn(1, 3), torch.tensor([1])
    loss = parametric_contrastive_loss(
        z, unit_rows(1, 4), y, torch.zeros(0, 4).double(), y[:0],
        alpha=0.0, temperature=1.0, smoothing=0.3,
    )  # fmt: skip
    log_p = z.log_softmax(dim=1)[0]
    torch.testing.assert_close(loss, -(0.7 * log_p[1] + 0.15 * (log_p[0] + log_p[2])))


def test_without_images_beside_the_centres_it_is_logit_adjustment():
    """With α = 0, where the centres have next to all of the softmax."""
    z, anchors, y, queue, queued = drawn()
    counts = random_counts(4)
    loss = parametric_contrastive_loss(
        z + 50 + log_prior(counts), anchors, y, queue, queued, alpha=0.0, temperature=1e6
    )
    torch.testing.assert_close(loss, logit_adjusted_loss(z, y, counts, 1.0))


def test_both_views_are_anchors_and_the_second_is_queued(make_task, make_method):
    task = make_task((12, 5, 1))
    method = make_method("gpaco", task, alpha=0.3, temperature=0.4, batch_size=6, width=5).eval()
    earlier, earlier_labels = torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64)
    for _, batch in method.batches():
        z = [method.model.encoder(view) for view in batch.views]
        q, k = (F.normalize(method.projector(own), dim=1) for own in z)
        assert not torch.equal(q, k)
        logits = method.model.head(torch.cat(z)) + log_prior(task.class_counts)
        expected = parametric_contrastive_loss(
            logits, torch.cat([q, k]), batch.labels.repeat(2), earlier, earlier_labels,
            alpha=0.3, temperature=0.4,
        )  # fmt: skip
        torch.testing.assert_close(method.loss(batch), expected)
        earlier, earlier_labels = (
            torch.cat([k, earlier]),
            torch.cat([batch.labels, earlier_labels]),
        )
    assert torch.equal(method.queue.labels, earlier_labels)  # each image once, none of the queries
    torch.testing.assert_close(method.queue.keys, earlier)
    assert not method.queue.keys.requires_grad


def test_batch_norm_sees_each_view_alone(make_task, make_method):
    method = make_method("gpaco", make_task((12, 5, 1))).train()
    _, batch = next(method.batches())
    _, both = method.encode(batch)
    single = [F.normalize(method.projector(method.model.encoder(v)), dim=1) for v in batch.views]
    torch.testing.assert_close(both, torch.cat(single))


def test_prediction_is_the_heads_without_the_prior(make_task, make_method):
    method = make_method("gpaco", make_task((12, 5, 1))).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = method.model.head(method.model.encoder(images))
    torch.testing.assert_close(method.predict(images), expected)


def test_a_resumed_training_ends_the_same(make_task, make_method, train):
    whole, resumed = (
        make_method("gpaco", make_task((12, 5, 1)), epochs=2, queue=11) for _ in range(2)
    )
    train_and_resume(train, whole, resumed, after=1)
    assert moved(resumed, snapshot(whole)) == set()
