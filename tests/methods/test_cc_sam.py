import math

import pytest
import torch
import torch.nn.functional as F

from lmdbench.core.errors import UserError
from lmdbench.methods.cc_sam import adversarial_shift, rarity_weights

from .helpers import moved, randn, train_and_resume
from .linear import linear_method
from .released import Case, cases, gradient_norm


@cases("cc_sam")
@pytest.mark.parametrize("epoch", [0, 29])
def test_official_values(make_task, released, epoch):
    case = Case(*released)
    method, batch = linear_method(make_task, case, "cc-sam", epochs=30, most=0.3)
    weights = rarity_weights(case.counts)
    assert weights.tolist() == pytest.approx(case.values["class_weights"], rel=1e-12)
    losses = []
    method.step = lambda _: losses.append(method.loss(batch)) or {}
    method.epoch(epoch)
    key = f"stage2_epoch{200 + epoch}"
    assert losses[0].item() == pytest.approx(case.values[f"{key}.loss"], rel=1e-7)
    gradient = gradient_norm(losses[0], *method.model.head.parameters())
    assert gradient == pytest.approx(case.values[f"{key}.grad"], rel=1e-7)


def test_weights_by_hand():
    found = rarity_weights(torch.tensor([100.0, 10.0, 1.0]))
    expected = [math.log(r) / 2 for r in (1.01, 10.01, 100.01)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    equal = rarity_weights(torch.full((3,), 7.0))
    assert equal.tolist() == pytest.approx([math.log(1.01) / 2] * 3, rel=1e-4)


def test_shifts_are_the_gradient_of_the_class_by_the_features():
    W, y = randn(3, 4), torch.tensor([0, 1, 2, 0, 1, 0])
    features, weights = randn(6, 4, seed=1).requires_grad_(), torch.tensor([0.5, 1.0, 2.0]).double()
    found = adversarial_shift(features @ W.T, y, W, weights)
    assert not found.requires_grad
    losses = F.cross_entropy(features @ W.T, y, reduction="none")
    for c in range(3):
        (gradient,) = torch.autograd.grad(losses[y == c].mean(), features, retain_graph=True)
        expected = weights[c] * gradient / gradient.norm()
        torch.testing.assert_close(found[y == c], expected[y == c])


def test_goes_on_with_the_old_head_and_without_shifts_as_crt(
    make_task, make_method, trained, train
):
    ancestor = trained("cc-sam-stage1", (9, 5, 2))
    method = make_method("cc-sam", make_task((9, 5, 2)), ancestor, most=0.0)
    crt = make_method("crt", make_task((9, 5, 2)), ancestor)
    assert torch.equal(method.model.head.weight, ancestor.model.head.weight)
    crt.model.head.load_state_dict(ancestor.model.head.state_dict())
    train(method)
    train(crt)
    for (key, a), b in zip(crt.state_dict().items(), method.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=key)


def test_resumed_training_is_bit_identical(make_task, make_method, trained, train):
    ancestor, task = trained("cc-sam-stage1", (9, 5, 1)), make_task((9, 5, 1))
    whole, resumed = (make_method("cc-sam", task, ancestor, epochs=3) for _ in range(2))
    train_and_resume(train, whole, resumed, 2)
    assert not moved(resumed, whole.state_dict())


def test_a_head_of_another_kind_is_refused(make_task, make_method, trained):
    with pytest.raises(UserError, match="takes over a linear head"):
        make_method("cc-sam", make_task((12, 5, 1)), trained("ldam-drw"))
