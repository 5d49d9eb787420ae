"""ECL's losses by the official code's values, and their limits; its curriculum; its proxies."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score

from lmdbench.core.errors import UserError
from lmdbench.methods.bcl import balanced_contrastive_loss
from lmdbench.methods.ecl import (
    curriculum_weights,
    f1_by_class,
    hybrid_proxy_loss,
    proxies_of,
)
from lmdbench.training.scaling import LossScaler

from .helpers import assert_finite, moved, randn, snapshot, train_and_resume, unit_rows
from .released import B, Case, D, cases, gradient_norm

T = 0.1
ENDS = 20.0, 50.0, 100.0


def owners_of(counts: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(counts)).repeat_interleave(proxies_of(counts))


@cases("ecl")
def test_official_values(released):
    case = Case(*released)
    numbers, owners = proxies_of(case.counts), owners_of(case.counts)
    assert numbers.tolist() == case.values["proxies"]
    f = case.unit(2, B, D).requires_grad_()
    proxies = case.unit(len(owners), D).requires_grad_()
    z, y = case.normal(B, case.C, scale=3), case.labels(B)
    f1 = case.uniform(case.C)
    contrast = hybrid_proxy_loss(f.flatten(0, 1), y.repeat(2), proxies, owners, case.C, T)
    assert contrast.item() == pytest.approx(case.values["bhp"], rel=1e-9)
    expected = case.values["bhp_grad"]
    assert gradient_norm(contrast, f, proxies) == pytest.approx(expected, rel=1e-9)
    z.requires_grad_()
    for epoch in (10, 35, 75):
        weights = curriculum_weights(epoch, ENDS, case.counts, f1)
        ce = F.cross_entropy(z, y, weight=weights)
        assert ce.item() == pytest.approx(case.values[f"ce_{epoch}"], rel=1e-9)
        loss = 2 * ce + contrast
        assert loss.item() == pytest.approx(case.values[f"loss_{epoch}"], rel=1e-9)
        expected = case.values[f"grad_{epoch}"]
        assert gradient_norm(loss, f, proxies, z) == pytest.approx(expected, rel=1e-9)


def test_proxies_by_hand():
    counts = torch.tensor([1000.0, 1000.0, 999.0, 101.0, 100.0, 1.0])
    assert proxies_of(counts).tolist() == [1, 1, 2, 2, 3, 102]


def contrast_by_loops(f, y, temperature: float) -> float:
    """f: features and proxies, y: their classes."""
    losses = []
    for i in range(len(f)):
        others = [j for j in range(len(f)) if j != i]
        positives = [j for j in others if y[j] == y[i]]
        total = sum(
            np.mean([np.exp(f[i] @ f[j] / temperature) for j in others if y[j] == c])
            for c in {y[j] for j in others}
        )
        if positives:
            log_p = [f[i] @ f[j] / temperature - np.log(total) for j in positives]
            losses.append(-np.mean(log_p))
    return float(np.mean(losses))


@pytest.mark.parametrize("classes", [2, 4, 100])
def test_contrast_is_that_by_loops(classes):
    """Also of a single proxy whose class has no image."""
    rng = np.random.default_rng(classes)
    y = torch.from_numpy(rng.integers(0, classes - 1, 3)).repeat(2)
    owners = torch.cat([torch.arange(classes), torch.zeros(2, dtype=torch.int64)])
    f, proxies = unit_rows(6, 5), unit_rows(len(owners), 5, 1)
    ours = hybrid_proxy_loss(f, y, proxies, owners, classes, 0.3).item()
    expected = contrast_by_loops(
        torch.cat([f, proxies]).numpy(), torch.cat([y, owners]).tolist(), 0.3
    )
    assert ours == pytest.approx(expected, rel=1e-10)


def test_with_a_proxy_a_class_features_lose_as_in_bcl():
    """There only features are anchors."""
    f, y, proxies = unit_rows(6, 5), torch.tensor([0, 1, 2] * 2), unit_rows(3, 5, 1)
    both = hybrid_proxy_loss(f, y, proxies, torch.arange(3), 3, T)
    loops = contrast_by_loops(torch.cat([f, proxies]).numpy(), [0, 1, 2] * 3, T)
    assert both.item() == pytest.approx(loops, rel=1e-10)
    features_alone = balanced_contrastive_loss(f, y, proxies, T)
    assert not torch.isclose(both, features_alone)


def test_the_order_of_proxies_and_of_classes_does_not_matter():
    f, y, proxies = unit_rows(6, 5), torch.tensor([0, 1, 2] * 2), unit_rows(6, 5, 1)
    owners = torch.tensor([0, 1, 1, 2, 2, 2])
    loss = hybrid_proxy_loss(f, y, proxies, owners, 3, T)
    within = torch.tensor([0, 2, 1, 5, 3, 4])
    torch.testing.assert_close(hybrid_proxy_loss(f, y, proxies[within], owners, 3, T), loss)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(hybrid_proxy_loss(f, order[y], proxies, order[owners], 3, T), loss)


def test_an_anchor_alone_in_its_class_is_left_out():
    """The proxy of a class without an image in the batch."""
    f, y = unit_rows(4, 5).requires_grad_(), torch.tensor([1, 1, 1, 1])
    proxies = unit_rows(3, 5, 1).requires_grad_()
    assert_finite(hybrid_proxy_loss(f, y, proxies, torch.tensor([0, 1, 1]), 2, T), f, proxies)


def test_curriculum_by_hand():
    counts, f1 = torch.tensor([6.0, 3.0]).double(), torch.tensor([0.5, 0.25]).double()
    by_count = torch.tensor([2 / 3, 4 / 3]).double()  # ∝ 1/6, 1/3
    by_f1 = torch.tensor([2 / 3, 4 / 3]).double()  # ∝ 2, 4
    for epoch, expected in {
        1: torch.ones(2).double(),
        20: torch.ones(2).double(),
        35: by_count**0.5,
        50: by_count,
        51: by_f1**0.02,
        100: by_f1,
    }.items():
        torch.testing.assert_close(curriculum_weights(epoch, ENDS, counts, f1), expected)


@pytest.mark.parametrize("epoch", [21, 50, 75, 100])
def test_equal_counts_or_f1_have_equal_weights(epoch):
    equal = torch.full((4,), 0.3)
    weights = curriculum_weights(epoch, ENDS, 100 * equal, equal)
    torch.testing.assert_close(weights, torch.ones(4))
    assert proxies_of(100 * equal).tolist() == [1, 1, 1, 1]


def test_an_f1_of_0_has_a_weight():
    weights = curriculum_weights(100, ENDS, torch.ones(3), torch.tensor([0.0, 0.01, 1.0]))
    torch.testing.assert_close(weights, torch.tensor([300.0, 300.0, 3.0]) / 201)


def test_f1_is_that_of_sklearn_and_1_where_a_class_has_no_images():
    logits, labels = randn(40, 5), torch.randint(4, (40,), generator=torch.manual_seed(0))
    logits[:, 4] = -9.0  # neither images nor predictions
    f1 = f1_by_class(logits, labels)
    assert f1[4] == 1
    expected = f1_score(labels, logits.argmax(dim=1), average=None)
    assert f1[:4].tolist() == pytest.approx(expected.tolist(), rel=1e-6)


def test_weights_are_of_the_epoch_and_of_the_last_validation(make_task, make_method, train):
    task = make_task((30, 5, 1), validation=3)
    method = make_method("ecl", task, epochs=4, lr=0.05)  # E1 = .8, E2 = 2
    counts, ends = task.class_counts, (0.8, 2.0, 4.0)
    for number in range(4):
        f1 = f1_by_class(method.logits(task.validation), task.validation.labels)
        expected = curriculum_weights(number + 1, ends, counts, f1)
        train(method, number, number + 1)
        assert torch.equal(method.weights, expected)
    assert not torch.equal(method.weights, torch.ones(3))


def test_proxies_step_once_an_epoch_along_the_sum(make_task, make_method, train):
    task = make_task((9, 4, 1))
    settings = {"epochs": 5, "batch_size": 5, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.01}
    method = make_method("ecl", task, **settings)
    start, seen = method.proxies.detach().clone(), []
    step = method.step

    def watched(batch):
        assert torch.equal(method.proxies, start)  # it waits for the last batch
        seen.append(torch.autograd.grad(method.loss(batch), method.proxies)[0])
        return step(batch)

    method.step = watched
    train(method, last=1)
    assert len(seen) == 3
    torch.testing.assert_close(method.gradient, sum(seen), rtol=1e-4, atol=1e-6)
    expected = start - 0.1 * (sum(seen) + 0.01 * start)
    torch.testing.assert_close(method.proxies.detach(), expected)


def test_a_scaled_loss_has_the_same_sum(make_task, make_method, train):
    """As in float16; gradients that are not finite are left out of it."""
    methods = [make_method("ecl", make_task((9, 4, 1)), epochs=5, lr=0.01) for _ in range(2)]
    methods[1].task.scaler = LossScaler(torch.device("cpu"), torch.float16)
    for method in methods:
        train(method, last=1)
    torch.testing.assert_close(methods[1].gradient, methods[0].gradient, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(methods[1].proxies, methods[0].proxies, rtol=1e-3, atol=1e-5)

    before = methods[1].gradient.clone()
    with torch.no_grad():
        methods[1].projector[-1].weight.fill_(torch.nan)
    _, batch = next(methods[1].batches())
    methods[1].step(batch)
    assert torch.equal(methods[1].gradient, before)


def test_loss_is_put_together(make_task, make_method):
    """Cross-entropy of the first view with the epoch's weights; the contrast of both views, each
    by its own statistics."""
    task = make_task((30, 5, 1))
    method = make_method("ecl", task, ce_weight=0.5, contrast_weight=3.0).eval()
    method.weights.copy_(torch.tensor([0.2, 0.8, 2.0]))
    _, batch = next(method.batches())
    z = [method.model.encoder(view) for view in batch.views]
    ce = F.cross_entropy(method.model.head(z[0]), batch.labels, weight=method.weights)
    f = F.normalize(method.projector(torch.cat(z)), dim=1)
    proxies = F.normalize(method.proxies, dim=1)
    contrast = hybrid_proxy_loss(f, batch.labels.repeat(2), proxies, method.owners, 3, 0.1)
    torch.testing.assert_close(method.loss(batch), 0.5 * ce + 3 * contrast)
    assert method.owners.tolist() == [0, 1, 1, 2, 2, 2, 2, 2]
    torch.testing.assert_close(method.predict(batch.images), method.model.head(z[0]))


def test_a_split_without_validation_images_is_refused(make_task, make_method):
    with pytest.raises(UserError, match="ecl looks at validation images"):
        make_method("ecl", make_task((12, 5, 1), validation=0))


@pytest.mark.parametrize("after", [1, 3])
def test_a_resumed_training_ends_the_same(make_task, make_method, train, after):
    """Before the weights are by F1, and after."""
    whole, resumed = (
        make_method("ecl", make_task((12, 5, 1)), epochs=4, lr=0.05) for _ in range(2)
    )
    train_and_resume(train, whole, resumed, after=after)
    assert moved(resumed, snapshot(whole)) == set()
