"""NCL's loss by the official code's values, and its limits; hard classes; its networks."""

import pytest
import torch
import torch.nn.functional as F

from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.methods.ncl import hard_classes, mutual_divergence, ncl_loss

from .helpers import assert_finite, moved, randn, random_counts, snapshot, train_and_resume
from .released import B, Case, cases, gradient_norm


def drawn(classes=5, networks=3, seed=0):
    labels = torch.randint(classes, (6,), generator=torch.Generator().manual_seed(seed))
    return 3 * randn(networks, 6, classes, seed=seed), labels, random_counts(classes, seed)


@cases("ncl")
def test_official_values(released):
    case = Case(*released)
    z, y = case.normal(3, B, case.C, scale=3).requires_grad_(), case.labels(B)
    for name, hard in (("3", 3), ("C", case.C)):
        loss = ncl_loss(z, y, case.counts, hard)
        assert loss.item() == pytest.approx(case.values[f"loss_hcm{name}"], rel=1e-9)
        expected = case.values[f"grad_hcm{name}"]
        assert gradient_norm(loss, z) == pytest.approx(expected, rel=1e-8)
    mutual = 0.6 * mutual_divergence(z + case.counts.log())
    assert mutual.item() == pytest.approx(case.values["nbod_full"], rel=1e-9)
    each = sum(balanced_softmax_loss(own, y, case.counts) for own in z)
    assert each.item() == pytest.approx(case.values["balanced_ce_sum"], rel=1e-9)


def test_hard_classes_by_hand():
    logits = torch.tensor([[5.0, 1.0, 4.0, 2.0], [5.0, 1.0, 4.0, 2.0]])
    hard = hard_classes(logits, torch.tensor([1, 0]), 2)
    assert hard.tolist() == [[True, True, False, False], [True, False, True, False]]


def test_divergence_is_torchs():
    z, _, _ = drawn()
    p, log_p = z.softmax(dim=2), z.log_softmax(dim=2)
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    expected = sum(F.kl_div(log_p[i], p[j], reduction="batchmean") for i, j in pairs) / 2
    torch.testing.assert_close(mutual_divergence(z), expected, rtol=1e-6, atol=0)


def test_networks_that_agree_do_not_diverge():
    z, _, _ = drawn(networks=1)
    assert mutual_divergence(z.expand(3, -1, -1)).item() == pytest.approx(0, abs=1e-7)
    assert mutual_divergence(z).item() == 0


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("classes", [2, 5, 100])
def test_with_all_classes_hard_both_halves_are_the_same(classes, restricted):
    """And the scale of the counts does not matter."""
    z, y, counts = drawn(classes)
    each = sum(balanced_softmax_loss(own, y, counts) for own in z)
    expected = 2 * (each + 0.6 * mutual_divergence(z + counts.log()))
    for scale in (1, 1e-3):
        loss = ncl_loss(z, y, scale * counts, classes, restricted=restricted)
        torch.testing.assert_close(loss, expected)


def test_one_network_is_balanced_softmax_and_its_hard_part():
    z, y, counts = drawn(networks=1)
    a = z[0] + counts.log()
    h = torch.zeros_like(a)
    for i in range(len(y)):
        rest = [c for c in z[0, i].argsort(descending=True).tolist() if c != y[i]][:2]
        for c in (y[i].item(), *rest):
            h[i, c] = a[i, c]
    expected = balanced_softmax_loss(z[0], y, counts) + F.cross_entropy(h, y)
    torch.testing.assert_close(ncl_loss(z, y, counts, 3), expected)


def test_zeroed_classes_keep_a_share_and_restricted_ones_have_none():
    z, y, counts = drawn(networks=1)
    others = ~hard_classes(z[0], y, 3)
    whole, part = (
        F.cross_entropy((z[0] + counts.log()).masked_fill(others, value), y)
        for value in (0.0, -torch.inf)
    )
    assert whole > part
    plain = balanced_softmax_loss(z[0], y, counts)
    torch.testing.assert_close(ncl_loss(z, y, counts, 3), plain + whole)
    torch.testing.assert_close(ncl_loss(z, y, counts, 3, restricted=True), plain + part)
    leaf = (30 * z).float().requires_grad_()
    assert_finite(ncl_loss(leaf, y, counts.float(), 3, restricted=True), leaf)


def test_the_order_of_the_other_networks_does_not_matter_that_of_the_first_does():
    z, y, counts = drawn()
    loss = ncl_loss(z, y, counts, 2)
    torch.testing.assert_close(ncl_loss(z[[0, 2, 1]], y, counts, 2), loss)
    assert not torch.isclose(ncl_loss(z[[1, 0, 2]], y, counts, 2), loss)


@pytest.mark.parametrize(("classes", "share", "hard"), [(3, 0.3, 2), (8, 0.3, 2), (8, 1.0, 8)])
def test_loss_is_of_whole_networks(make_task, make_method, classes, share, hard):
    task = make_task((9, *[2] * (classes - 1)))
    method = make_method("ncl", task, hard_share=share).eval()
    _, batch = next(method.batches())
    bodies, heads = method.model.encoder.body.bodies, method.model.head.heads
    z = torch.stack([h(b(batch.images)) for h, b in zip(heads, bodies, strict=True)])
    expected = ncl_loss(z, batch.labels, task.class_counts, hard)
    torch.testing.assert_close(method.loss(batch), expected)
    torch.testing.assert_close(method.predict(batch.images), z.mean(dim=0))
    own = [{id(p) for p in body.parameters()} for body in bodies]
    assert len(own) == 3
    assert all(own[i].isdisjoint(own[j]) for i in range(3) for j in range(i))


def test_a_resumed_training_ends_the_same(make_task, make_method, train):
    whole, resumed = (make_method("ncl", make_task((12, 5, 1)), epochs=2) for _ in range(2))
    train_and_resume(train, whole, resumed, after=1)
    assert moved(resumed, snapshot(whole)) == set()
