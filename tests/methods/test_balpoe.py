"""BalPoE's loss by the official code's values, its limits, and its experts' strengths."""

import pytest
import torch

from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.methods.balpoe import balpoe_loss
from lmdbench.methods.mixup import mix_up, mixed_cross_entropy

from .helpers import moved, randn, random_counts, snapshot, train_and_resume
from .released import B, Case, cases, gradient_norm


@pytest.fixture
def make_encoder(make_staged_encoder):
    return make_staged_encoder


def strengths(*of_experts: float) -> torch.Tensor:
    return torch.tensor(of_experts, dtype=torch.float64)


def drawn(classes=4, experts=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels, others = (torch.randint(classes, (6,), generator=generator) for _ in range(2))
    return 3 * randn(experts, 6, classes, seed=seed), labels, others


@cases("balpoe")
@pytest.mark.parametrize("of_experts", [(0, 1, 2), (0, 1.25, 2.5)])
def test_official_values(released, of_experts):
    case = Case(*released)
    z, y = case.normal(3, B, case.C, scale=3).requires_grad_(), case.labels(B)
    others, m = y[case.permutation(B)], case.uniform().item()
    assert m == case.values["lambda"]
    name = "_".join(map(str, of_experts))
    for share, loss_name, grad_name in ((1.0, "loss", "grad"), (m, "mixed", "mixed_grad")):
        loss = balpoe_loss(z, y, others, share, case.counts, strengths(*of_experts))
        assert loss.item() == pytest.approx(case.values[f"{loss_name}_{name}"], rel=1e-10)
        expected = case.values[f"{grad_name}_{name}"]
        assert gradient_norm(loss, z) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("classes", [2, 100])
def test_one_expert_without_mixup_is_balanced_softmax(classes):
    z, y, others = drawn(classes, experts=1)
    counts = random_counts(classes)
    expected = balanced_softmax_loss(z[0], y, counts)
    loss = balpoe_loss(z, y, others, 1.0, counts, strengths(1.0))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_one_expert_without_adjustment_is_mixup():
    z, y, others = drawn(experts=1)
    expected = mixed_cross_entropy(z[0], y, others, 0.3)
    torch.testing.assert_close(
        balpoe_loss(z, y, others, 0.3, random_counts(4), strengths(0.0)), expected
    )


def test_the_order_of_experts_does_not_matter():
    z, y, others = drawn()
    of_experts, order, counts = strengths(0, 1, 2), [2, 0, 1], random_counts(4)
    torch.testing.assert_close(
        balpoe_loss(z, y, others, 0.3, counts, of_experts),
        balpoe_loss(z[order], y, others, 0.3, counts, of_experts[order]),
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 1, 2]),
        ({"least": -1.0, "most": 3.0}, [-1, 1, 3]),
        ({"experts": 2}, [0, 2]),
        ({"experts": 1}, [1]),
        ({"experts": 1, "most": 0.0}, [0]),
    ],
)
def test_strengths_are_evenly_spaced(make_task, make_method, settings, expected):
    assert make_method("balpoe", make_task(), **settings).strengths().tolist() == expected


def test_loss_is_of_mixed_images(make_task, make_method):
    task = make_task((12, 5, 1))
    method = make_method("balpoe", task).eval()
    _, batch = next(method.batches())
    task.streams.start_epoch(1)
    mixed, others, share = mix_up(batch, 0.4, task.streams)
    assert 0 < share < 1
    z = method.model.head.each(method.model.encoder(mixed))
    task.streams.start_epoch(1)
    expected = balpoe_loss(
        z, batch.labels, others, share, task.class_counts, torch.tensor([0.0, 1.0, 2.0])
    )
    torch.testing.assert_close(method.loss(batch), expected)
    torch.testing.assert_close(method.predict(mixed), z.mean(dim=0))


def test_a_resumed_training_ends_the_same(make_task, make_method, train):
    whole, resumed = (make_method("balpoe", make_task((12, 5, 1)), epochs=2) for _ in range(2))
    train_and_resume(train, whole, resumed, after=1)
    assert moved(resumed, snapshot(whole)) == set()
