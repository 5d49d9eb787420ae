import numpy as np
import pytest
import torch
from numpy.linalg import norm

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.tde import CausalHead, TotalDirectEffect

from .helpers import assert_finite, moved, randn, snapshot, train_and_resume


def head_of(width=6, classes=3, parts=2, effect=1.5):
    head = CausalHead(width, classes, parts, 16.0, 1 / 32, effect).double()
    with torch.no_grad():
        head.weight.copy_(randn(classes, width))
        head.moving.copy_(randn(width, seed=1))
    return head


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_formula_part_by_part(mode):
    head, x = head_of(), randn(4, 6, seed=2)
    found = head.train(mode == "train")(x).detach().numpy()
    w, m, x = head.weight.detach().numpy(), head.moving.numpy(), x.numpy()
    for i in range(4):
        for j in range(3):
            total = 0.0
            for k in (slice(0, 3), slice(3, 6)):
                own = x[i, k] / norm(x[i, k])
                if mode == "eval":
                    cosine = x[i, k] @ m[k] / norm(x[i, k]) / norm(m[k])
                    own = own - 1.5 * cosine * m[k] / norm(m[k])
                total += own @ w[j, k] / (norm(w[j, k]) + 1 / 32)
            np.testing.assert_allclose(found[i, j], 8 * total, rtol=1e-10)


def test_without_effect_or_direction_test_is_as_training():
    x = randn(4, 6)
    for head in (head_of(effect=0.0), head_of()):
        if head.effect:
            head.moving.zero_()
        torch.testing.assert_close(head.eval()(x), head.train()(x))


def test_length_and_m_s_length_do_not_matter():
    head, x = head_of().eval(), randn(4, 6)
    expected = head(x)
    head.moving.mul_(9)
    torch.testing.assert_close(head(7 * x), expected)


def test_dead_features_and_weights_are_harmless():
    head, x = head_of(), torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    assert_finite(head(x).square().sum(), x, head.weight)
    assert head_of(width=7).eval()(randn(2, 7)).isfinite().all()  # parts of 4 and 3


def test_the_moving_sum_by_hand():
    head = head_of(width=2)
    head.moving.copy_(torch.tensor([1.0, 2.0]))
    head.follow(torch.tensor([[1.0, 0.0], [3.0, 2.0]]), 0.9)
    torch.testing.assert_close(head.moving, torch.tensor([2.9, 2.8]).double())


def test_training_follows_and_prediction_does_not(make_task, make_method):
    method = make_method("tde", make_task())
    _, batch = next(method.batches())
    method.loss(batch)
    before = snapshot(method)
    assert before["model.head.moving"].any()
    method.eval().predict(batch.images)
    assert not moved(method, before)


def test_resumed_training_is_bit_identical(make_task, make_method, train):
    whole, resumed = (make_method("tde", make_task(), epochs=3) for _ in range(2))
    train_and_resume(train, whole, resumed, 2)
    assert not moved(resumed, whole.state_dict())


def test_settings_out_of_bounds_are_refused():
    for key, text, error in (("parts", "0", "at least 1"), ("moving", "1", "below 1")):
        with pytest.raises(UserError, match=error):
            resolve("tde", TotalDirectEffect.Settings, [], {key: text})
