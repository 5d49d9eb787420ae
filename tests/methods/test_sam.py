from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.sam import SharpnessAware, ascent, displaced
from lmdbench.training.scaling import LossScaler

from .helpers import moved, randn, snapshot, train_and_resume
from .linear import gradient_of_step, linear_method
from .released import Case, cases


@cases("sam")
@pytest.mark.parametrize("rho", [0.05, 0.5])
def test_official_values(make_task, released, rho):
    case = Case(*released)
    method, batch = linear_method(make_task, case, "sam", rho=rho, loss="balanced-softmax")
    loss = method.loss(batch)
    assert loss.item() == pytest.approx(case.values["loss"], rel=1e-6)  # 1e-9 in its logarithm
    logs_of = method.step
    method.step = lambda batch: logs.update(logs_of(batch)) or logs
    logs = {}
    gradient = gradient_of_step(method, batch)
    assert gradient == pytest.approx(case.values[f"sam_rho{rho:g}.grad"], rel=1e-6)
    expected = case.values[f"sam_rho{rho:g}.loss_perturbed"]
    assert float(logs["perturbed_loss"]) == pytest.approx(expected, rel=1e-6)


def test_ascent_is_of_length_rho_over_all_tensors_together():
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    epsilon = ascent(gradients, 0.1)
    torch.testing.assert_close(epsilon[0], torch.tensor([0.06, 0.0]))
    torch.testing.assert_close(epsilon[1], torch.tensor([[0.08]]))


def test_no_ascent_without_a_gradient_or_with_one_that_is_not_finite():
    for first in (0.0, torch.inf, torch.nan):
        epsilon = ascent([torch.tensor([first, 1.0 if first else 0.0]), torch.zeros(3)], 0.1)
        assert all((e == 0).all() for e in epsilon)


def test_what_was_displaced_is_back_to_the_bit_also_after_an_error():
    tensors = [randn(5).float(), 1e-3 * randn(3, seed=1).float()]
    before = [t.clone() for t in tensors]

    def fail():
        with displaced(tensors, [randn(5).float(), randn(3).float()]):
            assert not any(torch.equal(t, b) for t, b in zip(tensors, before, strict=True))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(torch.equal(t, b) for t, b in zip(tensors, before, strict=True))


@pytest.mark.parametrize("loss", ["ce", "balanced-softmax", "ldam-drw"])
def test_rho_0_is_the_method_of_the_loss(make_task, make_method, train, loss):
    """To the bit where both take the mean alike."""
    settings = {"epochs": 5, "lr": 0.05}
    other = {"warmup": 0.0} if loss == "ldam-drw" else {}
    torch.manual_seed(0)
    base = make_method(loss, make_task(), **settings, **other)
    torch.manual_seed(0)
    sam = make_method("sam", make_task(), rho=0.0, loss=loss, **settings)
    train(base)
    train(sam)
    for (key, a), b in zip(base.state_dict().items(), sam.state_dict().values(), strict=True):
        if loss != "ldam-drw":
            assert torch.equal(a, b), key
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_weight_decay_and_momentum_belong_to_the_step_alone(make_task, make_method):
    """By hand: the gradient at θ + ρ g/‖g‖, to which SGD adds its decay of θ."""
    method = make_method("sam", make_task(), rho=0.3, weight_decay=0.5).double()
    _, batch = next(method.batches())
    batch = replace(batch, views=(batch.images.double(),))
    theta = [p.detach().clone() for p in method.optimized]

    def gradients():
        loss = F.cross_entropy(method.model(batch.images), batch.labels)
        return torch.autograd.grad(loss, method.optimized)

    g = gradients()
    norm = torch.cat([x.flatten() for x in g]).norm()
    with torch.no_grad():
        for p, x in zip(method.optimized, g, strict=True):
            p.add_(0.3 * x / norm)
    above = gradients()
    with torch.no_grad():
        for p, value in zip(method.optimized, theta, strict=True):
            p.copy_(value)
    method.step(batch)
    for p, value, x in zip(method.optimized, theta, above, strict=True):
        expected = value - method.settings.lr * (x + 0.5 * value)
        torch.testing.assert_close(p.detach(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("which", "times"), [("first", 1), ("both", 2)])
def test_batch_norm_is_updated_as_often_as_the_setting_says(make_task, make_method, which, times):
    method = make_method("sam", make_task(), statistics=which)
    _, batch = next(method.batches())
    (norm,) = (m for m in method.modules() if isinstance(m, nn.BatchNorm2d))
    method.step(batch)
    assert norm.num_batches_tracked == times


def test_in_float16_the_ascent_is_that_of_the_unscaled_loss(make_task, make_method, train):
    """A power of two is taken out again without rounding."""
    methods = []
    for precision in (None, torch.float16):
        task = make_task()
        torch.manual_seed(0)
        methods.append(make_method("sam", task, rho=0.5))
        task.scaler = LossScaler(torch.device("cpu"), precision)
        train(methods[-1])
    assert not moved(methods[1], methods[0].state_dict())


def test_a_step_that_overflows_is_left_out(make_task, make_method):
    method = make_method("sam", make_task())
    method.task.scaler = LossScaler(torch.device("cpu"), torch.float16)
    _, batch = next(method.batches())
    before = snapshot(method)
    losses = method.losses
    method.losses = lambda batch: losses(batch) * torch.inf
    method.step(batch)
    assert not {name for name in moved(method, before) if name in dict(method.named_parameters())}
    assert all(value.isfinite().all() for value in method.state_dict().values())
    assert method.task.scaler.state_dict()["scale"] == 2.0**15


def test_resumed_training_is_bit_identical(make_task, make_method, train):
    whole, resumed = (make_method("sam", make_task(), epochs=3) for _ in range(2))
    train_and_resume(train, whole, resumed, 2)
    assert not moved(resumed, whole.state_dict())


def test_a_negative_radius_is_refused():
    with pytest.raises(UserError, match="rho is -1"):
        resolve("sam", SharpnessAware.Settings, [], {"rho": "-1"})
