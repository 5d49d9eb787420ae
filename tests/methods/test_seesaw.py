import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.ldam_drw import CosineHead
from lmdbench.methods.seesaw import Seesaw, log_seesaw_factors, seesaw_loss

from .helpers import assert_finite, random_batch

SEEN = torch.tensor([400.0, 90.0, 9.0, 0.0], dtype=torch.float64)


def factors_by_loops(z, labels, seen, p, q) -> np.ndarray:
    """S_yj from the paper's cases, eq. 6 to 8."""
    S = np.ones_like(z)
    for b, i in enumerate(labels):
        sigma = softmax(z[b])
        for j in range(z.shape[1]):
            if j == i:
                continue
            N_i, N_j = max(1, seen[i]), max(1, seen[j])
            M = 1.0 if N_i <= N_j else (N_j / N_i) ** p
            floor = max(sigma[i], 0.01)
            C = 1.0 if sigma[j] <= floor else (sigma[j] / floor) ** q
            S[b, j] = M * C
    return S


@given(
    st.integers(2, 20), st.sampled_from([0.0, 0.8, 1.2]), st.sampled_from([0.0, 1.0, 2.0]),
    st.integers(0, 10),
)  # fmt: skip
def test_factors_and_loss_against_the_papers_cases(classes, p, q, seed):
    logits, labels = random_batch(classes, seed=seed)
    seen = np.random.default_rng(seed).integers(0, 500, classes)
    z, y = logits.numpy(), labels.numpy()
    S = factors_by_loops(z, y, seen, p, q)
    ours = log_seesaw_factors(logits, labels, torch.tensor(seen).double(), p, q)
    np.testing.assert_allclose(ours.exp(), S, rtol=1e-8)
    loss = 0.0
    for b, i in enumerate(y):
        others = sum(S[b, j] * np.exp(z[b, j]) for j in range(classes) if j != i)
        loss -= np.log(np.exp(z[b, i]) / (others + np.exp(z[b, i])))
    mean = seesaw_loss(logits, labels, torch.tensor(seen).double(), p, q)
    assert mean.item() == pytest.approx(loss / len(y), rel=1e-8)


def test_without_factors_it_is_cross_entropy():
    logits, labels = random_batch()
    torch.testing.assert_close(
        seesaw_loss(logits, labels, SEEN, 0.0, 0.0), F.cross_entropy(logits, labels)
    )


def test_a_rarer_class_is_spared_and_a_larger_one_is_not():
    z, y = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([1])
    ours = log_seesaw_factors(z, y, SEEN, 0.8, 2.0).exp()
    np.testing.assert_allclose(ours, [[1, 1, 0.1**0.8, (1 / 90) ** 0.8]], rtol=1e-9)


def test_gradients_on_the_logits_are_those_of_equation_5():
    """∂L/∂z_j = S_ij e^{z_j} / e^{z_i} σ̂_i for j ≠ i: the factors carry no gradient themselves."""
    logits, labels = random_batch(batch=1)
    i, S = labels.item(), factors_by_loops(logits.numpy(), labels.numpy(), SEEN.numpy(), 0.8, 1.0)
    e = np.exp(logits.numpy()[0])
    share = e[i] / sum(S[0, j] * e[j] for j in range(4))
    logits.requires_grad_()
    seesaw_loss(logits, labels, SEEN, 0.8, 1.0).backward()
    expected = [S[0, j] * e[j] / e[i] * share if j != i else share - 1 for j in range(4)]
    np.testing.assert_allclose(logits.grad[0], expected, rtol=1e-9)


@pytest.mark.parametrize("size", [50.0, 1e4, 1e30])
def test_extreme_logits(size):
    logits = torch.tensor([[size, 0, -size], [-size, 0, size]], requires_grad=True)
    loss = seesaw_loss(logits, torch.tensor([0, 0]), torch.tensor([100.0, 1.0, 0.0]), 0.8, 2.0)
    assert_finite(loss, logits)


def test_the_order_of_classes_does_not_matter():
    logits, labels = random_batch()
    order = torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(
        seesaw_loss(logits[:, order], order.argsort()[labels], SEEN[order], 0.8, 1.0),
        seesaw_loss(logits, labels, SEEN, 0.8, 1.0),
    )


# The method


def test_images_are_counted_over_all_epochs_and_kept(make_task, make_method, train):
    task = make_task((12, 5, 1))
    method = make_method("seesaw", task)
    assert method.seen.tolist() == [0, 0, 0]
    train(method, 0, 1)
    assert method.seen.tolist() == [12, 5, 1]
    again = make_method("seesaw", task)
    again.load_state_dict(method.state_dict())
    train(again, 1, 2)
    assert again.seen.tolist() == [24, 10, 2]


def test_a_batch_is_counted_before_its_loss(make_task, make_method):
    method = make_method("seesaw", make_task((12, 5, 1))).train()
    _, batch = next(method.batches())
    logits = method.model(batch.images).detach()
    seen = torch.bincount(batch.labels, minlength=3).float()
    expected = seesaw_loss(logits, batch.labels, seen, 0.8, 1.0)
    torch.testing.assert_close(method.step(batch)["loss"], expected)


def test_the_head_is_a_scaled_cosine_with_bias(make_task, make_method):
    head = make_method("seesaw", make_task()).model.head
    assert isinstance(head, CosineHead)
    assert head.scale == 20
    assert head.bias is not None


@pytest.mark.parametrize(
    ("key", "text", "error"),
    [("p", "-1", "at least 0"), ("q", "-1", "at least 0"), ("scale", "0", "above 0")],
)
def test_settings_out_of_bounds_are_refused(key, text, error):
    with pytest.raises(UserError, match=error):
        resolve("seesaw", Seesaw.Settings, [], {key: text})
