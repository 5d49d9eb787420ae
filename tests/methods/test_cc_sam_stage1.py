import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lmdbench.methods.cc_sam_stage1 import averaging, perturbed_logits, radii

from .helpers import moved, randn, snapshot
from .linear import linear_method
from .released import Case, cases


@cases("cc_sam")
@pytest.mark.parametrize("rho", [1e-6, 1e-2])
def test_official_values(make_task, released, rho):
    case = Case(*released)
    method, batch = linear_method(make_task, case, "cc-sam-stage1", rho=rho, alpha=0.0)
    x = batch.images.requires_grad_()
    loss = method.loss(batch)
    key = f"stage1_rho{rho:g}"
    assert loss.item() == pytest.approx(case.values[f"{key}.loss"], rel=1e-9)
    gradients = torch.autograd.grad(loss, [*method.model.head.parameters(), x])
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    assert norm.item() == pytest.approx(case.values[f"{key}.grad"], rel=1e-8)


def head_and_batch(classes=3, width=4, batch=6):
    head = nn.Linear(width, classes).double()
    with torch.no_grad():
        head.weight.copy_(randn(classes, width))
        head.bias.copy_(randn(classes, seed=1))
    return head, randn(batch, width, seed=2), torch.tensor([0, 1, 2, 0, 1, 0])


def test_the_head_is_moved_for_each_class_as_autograd_has_it():
    """W and b moved explicitly, by r g/‖g‖^1.5 each, class by class."""
    head, x, y = head_and_batch()
    radius = torch.tensor([0.1, 0.2, 0.3]).double()
    logits = head(x)
    slopes = logits.softmax(1) - F.one_hot(y, 3)
    found = perturbed_logits(logits, x, slopes, y, radius)
    losses = F.cross_entropy(head(x), y, reduction="none")
    for c in range(3):
        own = y == c
        g = torch.autograd.grad(losses[own].mean(), [head.weight, head.bias], retain_graph=True)
        W, b = (
            p + radius[c] * d / d.norm() ** 1.5
            for p, d in zip([head.weight, head.bias], g, strict=True)
        )
        torch.testing.assert_close(found[own], x[own] @ W.T + b)


def test_radii_by_hand():
    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 2.0], [2.0, 1.0]]))
        head.bias.copy_(torch.tensor([1.0, 2**0.5]))  # of norm 4, with the weights
    found = radii(torch.tensor([17.0, 2.0, 1.0]), head, 0.1)
    whole = 0.1 * 2 * 6**0.25 / 2**0.5
    torch.testing.assert_close(found, torch.tensor([whole / 2, whole, whole]))


def test_means_over_a_class():
    found = averaging(torch.tensor([0, 1, 0]), torch.float32) @ torch.tensor([[1.0], [5.0], [3.0]])
    assert found.flatten().tolist() == [2, 5, 2]


def test_classes_that_are_learned_perfectly_are_not_moved():
    head, x, y = head_and_batch()
    logits = head(x)
    found = perturbed_logits(logits, x, torch.zeros(6, 3).double(), y, torch.ones(3).double())
    assert torch.equal(found, logits)


def one_step(make_task, make_method, name, **settings):
    torch.manual_seed(0)
    method = make_method(name, make_task((9, 5, 1)), **settings)
    _, batch = next(method.batches())
    before = snapshot(method)
    method.step(batch)
    return {k: p.detach() - before[k] for k, p in method.named_parameters()}


def test_without_a_radius_or_a_share_it_is_cross_entropy_or_mixup(make_task, make_method):
    for ours, name, theirs in (
        ({"rho": 0.0, "alpha": 0.0}, "ce", {}),
        ({"flat": 0.0, "alpha": 0.4}, "mixup", {"alpha": 0.4}),
    ):
        found = one_step(make_task, make_method, "cc-sam-stage1", warmup=0.0, **ours)
        for key, value in one_step(make_task, make_method, name, **theirs).items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)


def test_resumed_training_draws_the_same(make_task, make_method, train):
    trained = []
    for _ in range(2):
        torch.manual_seed(0)
        trained.append(make_method("cc-sam-stage1", make_task((9, 5, 1))))
        train(trained[-1])
    assert not moved(trained[0], trained[1].state_dict())
