import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.cb_focal import (
    ClassBalancedFocal,
    class_balanced_weights,
    sigmoid_focal_loss,
)
from lmdbench.methods.focal import focal_loss

from .helpers import assert_finite, random_batch


@given(
    st.lists(st.integers(1, 20_000), min_size=2, max_size=100),
    st.sampled_from([0.0, 0.9, 0.99, 0.999, 0.9999]),
)
def test_weights_are_inverse_effective_numbers_and_sum_to_c(counts, beta):
    effective = [(1 - beta**n) / (1 - beta) for n in counts]
    expected = np.array([1 / e for e in effective])
    expected = expected / expected.sum() * len(counts)
    ours = class_balanced_weights(torch.tensor(counts, dtype=torch.float32), beta)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert ours.sum().item() == pytest.approx(len(counts), rel=1e-5)


def test_beta_0_weighs_all_alike_and_beta_near_1_by_frequency():
    counts = torch.tensor([100.0, 10.0, 1.0])
    assert class_balanced_weights(counts, 0.0).tolist() == [1, 1, 1]
    weights = class_balanced_weights(counts, 1 - 1e-9)
    torch.testing.assert_close(weights / weights[0], torch.tensor([1.0, 10.0, 100.0]))


@given(st.floats(0, 5), st.integers(2, 20), st.integers(0, 5))
def test_sigmoid_form_against_sums_of_binary_losses(gamma, classes, seed):
    logits, labels = random_batch(classes, 4, seed)
    ours = sigmoid_focal_loss(logits, labels, gamma)
    for i, y in enumerate(labels.tolist()):
        expected = 0.0
        for j in range(classes):
            p = expit(logits[i, j].item())
            p_t = p if j == y else 1 - p
            expected -= (1 - p_t) ** gamma * math.log(p_t)
        assert ours[i].item() == pytest.approx(expected, rel=1e-8)


def test_sigmoid_form_at_gamma_0_is_binary_cross_entropy():
    logits, labels = random_batch()
    targets = F.one_hot(labels, 4).double()
    plain = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    torch.testing.assert_close(sigmoid_focal_loss(logits, labels, 0.0), plain)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_gradient_of_the_sigmoid_form(gamma):
    logits, labels = random_batch()
    assert torch.autograd.gradcheck(
        lambda x: sigmoid_focal_loss(x, labels, gamma), logits.requires_grad_()
    )


@pytest.mark.parametrize("size", [50.0, 1e4, 1e30])
def test_extreme_logits_in_the_sigmoid_form(size):
    logits = torch.tensor([[size, 0, -size], [-size, size, size]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([0, 0]), 2.0).mean()
    assert_finite(loss, logits)


def test_each_image_of_the_softmax_form():
    logits, labels = random_batch(5)
    p_y = softmax(logits.numpy(), axis=1)[np.arange(6), labels.numpy()]
    ours = focal_loss(logits, labels, 2.0, reduction="none")
    np.testing.assert_allclose(ours, -((1 - p_y) ** 2) * np.log(p_y), rtol=1e-9)


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_p_is_taken_before_the_weights_and_the_sum_divided_by_the_batch(
    make_task, make_method, form
):
    task = make_task((12, 5, 1))
    method = make_method("cb-focal", task, form=form, beta=0.99).eval()
    _, batch = next(method.batches())
    with torch.no_grad():
        logits = method.model(batch.images).double().numpy()
    w = np.array([0.01 / (1 - 0.99**n) for n in (12, 5, 1)])
    w = w / w.sum() * 3
    total = 0.0
    for z, y in zip(logits, batch.labels.tolist(), strict=True):
        if form == "softmax":
            p = softmax(z)[y]
            total += w[y] * -((1 - p) ** 2) * np.log(p)
        else:
            p = expit(z)
            p = np.where(np.arange(3) == y, p, 1 - p)
            total += w[y] * (-((1 - p) ** 2) * np.log(p)).sum()
    assert method.loss(batch).item() == pytest.approx(total / len(batch), rel=1e-5)


def test_gamma_0_is_class_weighted_cross_entropy(make_task, make_method):
    method = make_method("cb-focal", make_task((12, 5, 1)), gamma=0.0).eval()
    _, batch = next(method.batches())
    weights = class_balanced_weights(torch.tensor([12.0, 5.0, 1.0]), 0.9999)
    losses = F.cross_entropy(method.model(batch.images), batch.labels, reduction="none")
    torch.testing.assert_close(method.loss(batch), (weights[batch.labels] * losses).mean())


def test_gamma_and_beta_0_train_as_ce(losses_of):
    ours = losses_of("cb-focal", gamma=0.0, beta=0.0, warmup=0.0)
    assert ours == pytest.approx(losses_of("ce"), rel=1e-5)


def test_the_sigmoid_form_begins_at_probability_1_over_c(make_task, make_method):
    head = make_method("cb-focal", make_task((9, 3, 1, 1, 1)), form="sigmoid").model.head
    torch.testing.assert_close(head.bias.sigmoid(), torch.full((5,), 0.2))
    plain = make_method("cb-focal", make_task((9, 3, 1, 1, 1))).model.head
    assert len(plain.bias.unique()) == 5


def test_the_order_of_classes_does_not_matter_to_the_sigmoid_form():
    logits, labels = random_batch(5, 7)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(
        sigmoid_focal_loss(logits[:, order], order.argsort()[labels], 2.0),
        sigmoid_focal_loss(logits, labels, 2.0),
    )


@pytest.mark.parametrize("counts", [(9, 1), (3,) + (1,) * 99])
def test_the_sigmoid_form_trains_with_2_and_100_classes(losses_of, counts):
    (loss,) = losses_of("cb-focal", counts, epochs=1, batch_size=16, form="sigmoid")
    assert math.isfinite(loss)


@pytest.mark.parametrize(
    ("key", "text", "error"),
    [("beta", "1", "below 1"), ("beta", "-0.1", "at least 0"), ("gamma", "-1", "at least 0")],
)
def test_settings_out_of_bounds_are_refused(key, text, error):
    with pytest.raises(UserError, match=error):
        resolve("cb-focal", ClassBalancedFocal.Settings, [], {key: text})
