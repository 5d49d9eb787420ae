import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.cb_focal import class_balanced_weights
from lmdbench.methods.ldam_drw import LDAM, CosineHead, ldam_loss, margins

from .helpers import assert_finite, random_batch, random_counts

# Margins


@given(st.lists(st.integers(1, 20_000), min_size=2, max_size=100), st.floats(0.01, 1))
def test_margins_go_as_the_fourth_root_and_are_at_most_the_largest(counts, most):
    fourth_roots = [1 / math.sqrt(math.sqrt(n)) for n in counts]
    expected = [most * r / max(fourth_roots) for r in fourth_roots]
    ours = margins(torch.tensor(counts, dtype=torch.float64), most)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)
    assert ours.max().item() == pytest.approx(most)
    assert ours.argmax().item() in np.flatnonzero(np.array(counts) == min(counts))


# The loss


@given(st.integers(2, 20), st.integers(0, 10))
def test_formula(classes, seed):
    (logits, labels), counts = random_batch(classes, seed=seed), random_counts(classes, seed)
    m = margins(counts, 15.0).numpy()
    total = 0.0
    for z, y in zip(logits.numpy(), labels.tolist(), strict=True):
        lowered = [z[j] - m[j] if j == y else z[j] for j in range(classes)]
        total -= log_softmax(lowered)[y]
    ours = ldam_loss(logits, labels, margins(counts, 15.0))
    assert ours.item() == pytest.approx(total / len(labels), rel=1e-10)


def test_weights_give_a_weighted_mean():
    (logits, labels), counts = random_batch(), random_counts(4)
    weights = class_balanced_weights(counts, 0.9999)
    losses = torch.stack(
        [ldam_loss(z[None], y[None], margins(counts, 1.0)) for z, y in zip(logits, labels)]  # noqa: B905
    )
    expected = (weights[labels] * losses).sum() / weights[labels].sum()
    torch.testing.assert_close(ldam_loss(logits, labels, margins(counts, 1.0), weights), expected)


def test_no_margin_is_cross_entropy():
    logits, labels = random_batch()
    ours = ldam_loss(logits, labels, margins(random_counts(4), 0.0))
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels))


def test_gradient():
    logits, labels = random_batch()
    m = margins(random_counts(4), 15.0)
    assert torch.autograd.gradcheck(lambda x: ldam_loss(x, labels, m), logits.requires_grad_())


# The head


def test_logits_are_scaled_cosines():
    head = CosineHead(6, 3, 30.0)
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for i in range(4):
        for j in range(3):
            w, x = head.weight[j].detach().numpy(), features[i].numpy()
            cosine = (w @ x) / np.linalg.norm(w) / np.linalg.norm(x)
            assert head(features)[i, j].item() == pytest.approx(30 * cosine, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(head(7 * features), head(features))  # a linear head is wrong
    assert head(features).abs().max() <= 30.001


def test_a_bias_is_added_after_the_scale():
    head = CosineHead(6, 3, 30.0, bias=True)
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    plain = head(features).detach()
    with torch.no_grad():
        head.bias.copy_(torch.tensor([1.0, -2.0, 3.0]))
    torch.testing.assert_close(head(features), plain + torch.tensor([1.0, -2.0, 3.0]))


def test_dead_features_are_harmless():
    head = CosineHead(6, 3, 30.0)
    features = torch.zeros(2, 6, requires_grad=True)
    loss = F.cross_entropy(head(features), torch.tensor([0, 1]))
    assert_finite(loss, features, head.weight)


# The method


def test_margins_and_scale_of_the_method(make_task, make_method):
    method = make_method("ldam-drw", make_task((12, 5, 1))).eval()
    assert isinstance(method.model.head, CosineHead)
    assert not any(isinstance(part, nn.Linear) for part in method.model.head.modules())
    _, batch = next(method.batches())
    logits = method.model(batch.images)
    delta = torch.tensor([0.5 * 12**-0.25, 0.5 * 5**-0.25, 0.5])
    lowered = 30 * (logits / 30 - F.one_hot(batch.labels, 3) * delta)
    torch.testing.assert_close(method.loss(batch), F.cross_entropy(lowered, batch.labels))
    assert torch.equal(method.predict(batch.images), logits)  # no margin at test


def test_weights_set_in_after_80_percent_of_the_epochs(make_task, make_method):
    task = make_task((12, 5, 1))
    method = make_method("ldam-drw", task, epochs=10, beta=0.99).eval()
    batch = next(task.batches("class-balanced", ("strong",), 6))
    scaled = 30 * margins(task.class_counts, 0.5)
    logits = method.model(batch.images)
    plain = ldam_loss(logits, batch.labels, scaled)
    weighted = ldam_loss(
        logits, batch.labels, scaled, class_balanced_weights(task.class_counts, 0.99)
    )
    assert abs(plain - weighted) > 1e-3
    for progress, expected in ((0.0, plain), (0.79, plain), (0.8, weighted), (0.99, weighted)):
        method.progress = progress
        torch.testing.assert_close(method.loss(batch), expected)
    assert [n for n in range(10) if n / 10 >= method.settings.weights_after] == [8, 9]


@pytest.mark.parametrize("counts", [(9, 1), (3,) + (1,) * 99])
def test_trains_with_2_and_100_classes(make_task, make_method, train, counts):
    task = make_task(counts, validation=1)
    logs = train(make_method("ldam-drw", task, epochs=5, batch_size=16))
    assert all(math.isfinite(row["loss"]) for row in logs)


@pytest.mark.parametrize(
    ("key", "text", "error"),
    [
        ("beta", "1", "below 1"),
        ("scale", "0", "above 0"),
        ("max_margin", "-1", "at least 0"),
        ("weights_after", "1.5", "at most 1"),
    ],
)
def test_settings_out_of_bounds_are_refused(key, text, error):
    with pytest.raises(UserError, match=error):
        resolve("ldam-drw", LDAM.Settings, [], {key: text})
