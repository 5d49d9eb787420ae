"""RRL: its losses against reference values, its teacher against the formula by hand."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lmdbench.methods import rrl
from lmdbench.methods.rrl import RRL, Teacher
from lmdbench.models.classifier import Classifier

from .helpers import moved, snapshot, train_and_resume

# As the released code computes them: (seed, N, D, C) → L_prob, L_batch, L_channel.
REFERENCE = {
    (0, 16, 32, 5): (0.5414711230826814, 0.5410316949649197, 2.6243795953345197),
    (1, 8, 64, 8): (0.7773140983775115, 0.24736231647325757, 14.330380709515758),
}


@pytest.mark.parametrize("case", REFERENCE)
def test_reference_values(case):
    seed, N, D, C = case
    random = np.random.RandomState(seed)
    z_student, z_teacher, logits_student, logits_teacher = (
        torch.from_numpy(random.standard_normal(shape)) for shape in 2 * [(N, D)] + 2 * [(N, C)]
    )
    prob, batch, channel = REFERENCE[case]
    got = rrl.prediction_consistency_loss(logits_student, logits_teacher)
    assert got.item() == pytest.approx(prob, abs=1e-9)
    assert rrl.batch_relation_loss(z_student, z_teacher).item() == pytest.approx(batch, abs=1e-9)
    got = rrl.channel_relation_loss(z_student, z_teacher)
    assert got.item() == pytest.approx(channel, abs=1e-9)


@pytest.mark.parametrize("loss", [rrl.batch_relation_loss, rrl.channel_relation_loss])
def test_relation_losses(loss):
    z, other = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert loss(z, z) == 0
    torch.testing.assert_close(loss(z, other), loss(3 * z, 0.5 * other))  # rows are normalised
    assert torch.autograd.gradcheck(lambda z: loss(z, other), z.clone().requires_grad_())


def test_a_dead_channel_and_an_empty_image_do_no_harm():
    before_relu = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    before_relu[:, 1] = -1.0
    before_relu[2] = -1.0
    before_relu.requires_grad_()
    teacher = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
    for loss in rrl.batch_relation_loss, rrl.channel_relation_loss:
        value = loss(before_relu.relu(), teacher)
        (gradient,) = torch.autograd.grad(value, before_relu)
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 10


def test_teacher_by_hand(make_encoder):
    student = Classifier(make_encoder(), nn.Linear(8, 3))
    teacher = Teacher(student, decay=0.6)
    expected = [p.detach().clone() for p in student.parameters()]
    for step in range(4):
        with torch.no_grad():
            for p in student.parameters():
                p.add_(torch.randn_like(p))
            student.encoder.body[1].running_mean.add_(1)
        teacher.follow(student)
        alpha = min(1 - 1 / (step + 1), 0.6)  # 0, 1/2, 0.6, 0.6
        expected = [
            alpha * old + (1 - alpha) * p.detach()
            for old, p in zip(expected, student.parameters(), strict=True)
        ]
        for mine, wanted in zip(teacher.model.parameters(), expected, strict=True):
            torch.testing.assert_close(mine.detach(), wanted)
    assert teacher.steps == 4
    assert teacher.model.encoder.body[1].running_mean.abs().max() == 0  # buffers not averaged
    assert not any(p.requires_grad for p in teacher.parameters())


def test_losses_start_after_21_percent(make_task, make_method):
    method = make_method("rrl", make_task(), epochs=100)
    _, batch = next(method.batches())
    method.train()
    loss, alone = {}, {}
    for epoch in (0, 20, 21, 99):
        method.progress = epoch / 100
        buffers = copy.deepcopy(method.state_dict())
        loss[epoch] = method.loss(batch).item()
        method.load_state_dict(buffers)
        alone[epoch] = F.cross_entropy(method.model(batch.images), batch.labels).item()
        method.load_state_dict(buffers)
    assert [loss[epoch] == alone[epoch] for epoch in (0, 20, 21, 99)] == [True, True, False, False]


def test_loss_is_the_weighted_sum(make_task, make_method):
    """The teacher sees the weak view, in training mode, and gets no gradient."""
    task = make_task()
    method = make_method("rrl", task, relations_after=0.0)
    _, batch = next(method.batches())
    method.train()
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.mul_(1.1)
    strong, weak = batch.views
    assert not torch.equal(strong, weak)
    student, teacher = copy.deepcopy(method.model), copy.deepcopy(method.teacher.model)
    z_s, z_t = student.encoder(strong), teacher.encoder(weak)
    logits_s, logits_t = student.head(z_s), teacher.head(z_t)
    expected = (
        F.cross_entropy(logits_s, batch.labels)
        + 10 * rrl.batch_relation_loss(z_s, z_t)
        + 10 * rrl.channel_relation_loss(z_s, z_t)
        + 5 * rrl.prediction_consistency_loss(logits_s, logits_t)
    )
    loss = method.loss(batch)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.model.parameters())


def test_without_relations_it_is_cross_entropy(make_task, make_method, train):
    """Bit for bit the same student, as the teacher then has no part in it."""
    task = make_task((5, 3))
    torch.manual_seed(0)
    ce = make_method("ce", task)
    ce.views = RRL.views  # so that the weak view's random numbers are drawn there as well
    torch.manual_seed(0)
    off = make_method(
        "rrl", task, batch_weight=0.0, channel_weight=0.0, prob_weight=0.0, relations_after=0.0
    )
    train(ce)
    train(off)
    assert not moved(off.model, ce.model.state_dict())


def test_training_moves_the_teacher_and_resumes_bit_identically(make_task, make_method, train):
    task = make_task((5, 3))
    whole, resumed = (make_method("rrl", task, epochs=4, relations_after=0.25) for _ in range(2))
    before = snapshot(whole)
    train_and_resume(train, whole, resumed, after=2)
    assert not moved(resumed, whole.state_dict())
    assert "teacher.model.head.weight" in moved(whole, before)


def test_the_teacher_is_not_saved():
    assert "teacher" in RRL.scaffolding
