import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lmdbench.core.errors import UserError
from lmdbench.methods.gcl import EffectiveNumberSampler, focused

from .helpers import moved, snapshot


@pytest.fixture
def stage1(trained):
    return trained("gcl-stage1")


def test_images_are_drawn_by_the_effective_number_of_their_class():
    counts = [30_000, 300, 3]
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    sampler = EffectiveNumberSampler(labels)
    drawn = sampler.draw(60_000, torch.Generator().manual_seed(0))
    often = np.bincount(labels[drawn], minlength=3) / 60_000
    spread = [math.log(max(counts) / n) / math.log(max(counts) / min(counts)) for n in counts]
    betas = [0.9999 + 1e-5 * d for d in spread]
    mass = [n * (1 - b) / (1 - b**n) for n, b in zip(counts, betas, strict=True)]
    np.testing.assert_allclose(often, np.array(mass) / sum(mass), atol=0.01)
    assert often[0] > 1.5 * often[2]  # 30,000 images overlap, and still count for more
    assert torch.bincount(drawn[labels[drawn] == 2] - 30_300).min() > 2000  # and alike within


def test_few_images_are_drawn_class_by_class_equally_often():
    labels = torch.arange(3).repeat_interleave(torch.tensor([60, 12, 1]))
    drawn = EffectiveNumberSampler(labels).draw(30_000, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(np.bincount(labels[drawn]) / 30_000, 1 / 3, atol=0.012)


def test_focused_losses():
    losses = torch.tensor([0.1, 0.7, 3.0], dtype=torch.float64, requires_grad=True)
    p = np.exp([-0.1, -0.7, -3.0])
    assert focused(losses, 1.0).item() == pytest.approx(((1 - p) * [0.1, 0.7, 3.0]).mean())
    (gradient,) = torch.autograd.grad(focused(losses, 1.0), losses)
    np.testing.assert_allclose(gradient, (1 - p) / 3)  # of a factor held fixed
    torch.testing.assert_close(focused(losses, 0.0), losses.mean())


def test_it_goes_on_with_the_cosine_head(stage1, make_method):
    method = make_method("gcl", stage1.task, stage1).eval()
    assert torch.equal(method.model.head.weight, stage1.model.head.weight)
    (batch,) = stage1.task.in_order(stage1.task.train)
    ours, theirs = method.predict(batch.images), stage1.predict(batch.images)
    torch.testing.assert_close(ours / 20, theirs / 30)


def test_loss_has_margin_clouds_and_focus(stage1, make_method):
    task = stage1.task
    method = make_method("gcl", task, stage1)
    _, batch = next(method.batches())
    task.streams.start_epoch(3)
    loss = method.loss(batch)
    task.streams.start_epoch(3)
    with torch.no_grad():
        noise = torch.randn(len(batch), 3, generator=task.streams.get("cloud", on_device=True))
        cosines = method.model(batch.images).double().numpy() / 20
    noise = np.clip(np.abs(noise.double().numpy() / 3), 0, 1)
    delta = [math.log(12 / n) / math.log(12) for n in (12, 5, 1)]
    total = 0.0
    for i, y in enumerate(batch.labels.tolist()):
        z = [20 * (cosines[i, j] - 0.5 * delta[j] * noise[i, j] - 0.1 * (j == y)) for j in range(3)]
        ce = math.log(sum(map(math.exp, z))) - z[y]
        total += (1 - math.exp(-ce)) * ce
    assert loss.item() == pytest.approx(total / len(batch), rel=1e-4)


def test_only_the_head_is_trained(stage1, make_method, train):
    method = make_method("gcl", stage1.task, stage1)
    before = snapshot(method)
    train(method)
    assert moved(method, before) == {"model.head.weight"}


def test_without_extras_it_is_cross_entropy(stage1, make_method):
    off = {"cloud": 0.0, "margin": 0.0, "gamma": 0.0}
    method = make_method("gcl", stage1.task, stage1, **off)
    _, batch = next(method.batches())
    torch.testing.assert_close(
        method.loss(batch), F.cross_entropy(method.model(batch.images), batch.labels)
    )


def test_needs_a_cosine_head_to_start_from(make_task, make_method):
    task = make_task()
    with pytest.raises(UserError, match="is a Linear: start it from another method, such as gcl"):
        make_method("gcl", task, make_method("ce", task))
