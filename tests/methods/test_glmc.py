import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lmdbench.methods.glmc import (
    PowerSampler,
    box_mask,
    glmc_loss,
    power_weights,
    soft_cross_entropy,
)

from .helpers import moved, randn, train_and_resume
from .released import B, Case, D, cases, gradient_norm


def drawn(case):
    """Logits, balanced logits, h and u of both views, and the labels of both batches."""
    views = [
        [
            *(case.normal(B, case.C, scale=3) for _ in range(2)),
            *(case.normal(B, D) for _ in range(2)),
        ]
        for _ in range(2)
    ]
    parts = [torch.stack(pair).requires_grad_() for pair in zip(*views, strict=True)]
    return parts, F.one_hot(case.labels(B), case.C), F.one_hot(case.labels(B), case.C)


@cases("glmc")
def test_official_values(released):
    case = Case(*released)
    parts, y, others = drawn(case)
    share = case.uniform()
    assert share.item() == pytest.approx(case.values["lam"], rel=1e-12)
    weights = power_weights(case.counts, 1.2)
    assert weights.tolist() == pytest.approx(case.values["weights"], rel=1e-12)
    targets = share * y + (1 - share) * others
    loss = glmc_loss(*parts, targets, weights, 1 - (60 / 200) ** 2, 4.0)
    assert loss.item() == pytest.approx(case.values["loss"], rel=1e-12)
    z, balanced, _, u = parts  # h is met only without gradient
    assert gradient_norm(loss, z, balanced, u) == pytest.approx(case.values["grad"], rel=1e-12)


@cases("glmc")
def test_official_mixtures(make_task, make_method, monkeypatch, released):
    """The method's own mixing, given the official draws."""
    from lmdbench.training.task import Batch

    case = Case(*released)
    _, y, others = drawn(case)
    share = case.uniform()
    centre = torch.tensor([case.random.randint(12), case.random.randint(12)])
    x1, x2, other1, other2 = (case.normal(B, 1, 12, 12) for _ in range(4))
    box = box_mask(share, centre, 12)
    rows, columns = box.any(1).nonzero().flatten(), box.any(0).nonzero().flatten()
    corners = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
    assert [int(c) for c in corners] == case.values["box"]
    assert box.double().mean().item() == pytest.approx(case.values["cut_share"])

    method = make_method("glmc", make_task((3,) * case.C)).double()
    numbers = torch.cat([share[None], (centre + 0.5) / 12])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: numbers)
    one, two = (
        Batch(views, labels.argmax(1), torch.arange(B))
        for views, labels in (((x1, x2), y), ((other1, other2), others))
    )
    (mixed, pasted), targets = method.mixed(one, two)
    assert mixed.sum().item() == pytest.approx(case.values["mix_sum"], rel=1e-10)
    assert pasted.sum().item() == pytest.approx(case.values["cut_sum"], rel=1e-10)
    torch.testing.assert_close(targets, share * y + (1 - share) * others)
    assert torch.equal(one.views[1], x2)  # not written over


def test_box_by_hand():
    """Of side ⌈8 √.4⌉ = 6 around (1, 4): rows −2 … 3, of which 0 … 3, and columns 1 … 6."""
    box = box_mask(torch.tensor(0.6), torch.tensor([1, 4]), 8)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[0:4, 1:7] = True
    assert torch.equal(box, expected)
    assert not box_mask(torch.tensor(1.0), torch.tensor([3, 3]), 8).any()


def test_soft_labels_that_are_hard_are_cross_entropy():
    z, y = randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    expected = F.cross_entropy(z, y)
    torch.testing.assert_close(soft_cross_entropy(z, F.one_hot(y, 4)), expected)


def parts_of(classes=5):
    widths = (classes, classes, 8, 8)
    return [randn(2, 6, n, seed=seed).requires_grad_() for seed, n in enumerate(widths)]


def test_in_the_first_epoch_class_counts_and_the_balanced_head_do_not_matter():
    parts, targets = parts_of(), randn(6, 5).softmax(1)
    one, other = (glmc_loss(*parts, targets, w, 1.0, 4.0) for w in randn(2, 5).exp())
    torch.testing.assert_close(one, other)
    assert not torch.autograd.grad(one, parts[1])[0].any()


def test_without_consistency_the_projection_learns_nothing_and_no_other_view_is_learned_from():
    parts, targets, weights = parts_of(), randn(6, 5).softmax(1), torch.ones(5).double()
    for gamma, learns in ((0.0, [False, False]), (4.0, [False, True])):
        loss = glmc_loss(*parts, targets, weights, 0.5, gamma)
        gradients = torch.autograd.grad(loss, parts[2:], materialize_grads=True)
        assert [bool(g.any()) for g in gradients] == learns  # h is only met without gradient


def test_weights_of_equal_classes_are_1():
    torch.testing.assert_close(power_weights(torch.full((4,), 7.0), 1.2), torch.ones(4))


@pytest.mark.parametrize(("power", "rates"), [(0.0, (8, 2, 1)), (1.0, (1, 1, 1))])
def test_the_second_batch_is_drawn_by_a_power_of_the_class_counts(power, rates):
    labels = torch.arange(3).repeat_interleave(torch.tensor([80, 20, 10]))
    drawn = PowerSampler(labels, power).draw(6000, torch.Generator().manual_seed(0))
    shares = torch.bincount(labels[drawn]) / 6000
    np.testing.assert_allclose(shares, np.array(rates) / sum(rates), atol=0.03)


def test_the_setting_reaches_the_sampler(make_task, make_method):
    method = make_method("glmc", make_task((60, 1)), resampling=1.0, batch_size=61)
    _, (one, other) = next(method.batches())
    assert (one.labels == 1).sum() == 1
    assert 15 < (other.labels == 1).sum() < 46


def test_the_weight_moves_epoch_by_epoch(make_task, make_method, train):
    method = make_method("glmc", make_task(), epochs=4)
    seen = []
    step = method.step
    method.step = lambda batches: seen.append(float(method.alpha)) or step(batches)
    train(method)
    assert sorted(set(seen), reverse=True) == [1 - (n / 4) ** 2 for n in range(4)]


def test_the_prediction_is_the_balanced_heads(make_task, make_method):
    method = make_method("glmc", make_task()).eval()
    _, (batch, _) = next(method.batches())
    z, balanced, _, _ = method.outputs(batch.images)
    assert torch.equal(method.predict(batch.images), balanced)
    assert not torch.equal(z, balanced)


def test_resumed_training_is_bit_identical(make_task, make_method, train):
    whole, resumed = (make_method("glmc", make_task(), epochs=3) for _ in range(2))
    train_and_resume(train, whole, resumed, 2)
    assert not moved(resumed, whole.state_dict())
