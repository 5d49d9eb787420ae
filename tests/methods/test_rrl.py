"""RRL: its losses against reference values, its teacher against the formula by hand."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lmdbench.methods import rrl
from lmdbench.methods.rrl import RRL, Teacher
from lmdbench.models.classifier import Classifier, Encoder

from . import released_rrl
from .helpers import moved, randn, snapshot, train_and_resume

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


def by_width(z_student, z_teacher):
    return rrl.channel_relation_loss(z_student, z_teacher, "width")


def test_the_channel_loss_by_width_is_the_released_one_for_as_many_images_as_channels():
    square, wide = randn(2, 6, 6), randn(2, 6, 24)
    released = rrl.channel_relation_loss
    assert by_width(*square).item() == pytest.approx(released(*square).item(), rel=1e-12)
    assert by_width(*wide).item() == pytest.approx(released(*wide).item() / 4, rel=1e-12)


@given(st.integers(2, 8), st.integers(1, 8), st.integers(2, 5), st.integers(0, 5))
def test_by_width_neither_more_images_nor_more_channels_count_more(images, width, times, seed):
    """Of the same images several times, or of the same channels."""
    z = randn(2, images, width, seed=seed)
    expected = by_width(*z).item()
    assert by_width(*z.repeat(1, times, 1)).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert by_width(*z.repeat(1, 1, times)).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_our_gradient_is_that_of_the_released_training_on_four_processes(tmp_path):
    """Of cross-entropy and each relation loss with its weight, on the same 512 images: their
    configuration's 10, 10, 5 on gathered features, and DDP's average; against one device here."""
    script = Path(__file__).with_name("released_rrl.py")
    subprocess.run([sys.executable, script, str(tmp_path)], check=True, timeout=300)
    theirs = torch.load(tmp_path / "gradients.pt", weights_only=True)

    s = RRL.Settings()
    images, labels, z_teacher, logits_teacher = released_rrl.everything()
    for name, loss_of in {
        "ce": lambda _, logits: F.cross_entropy(logits, labels),
        "batch": lambda z, _: s.batch_weight * rrl.batch_relation_loss(z, z_teacher),
        "channel": lambda z, _: (
            s.channel_weight * rrl.channel_relation_loss(z, z_teacher, s.channel_mean)
        ),
        "prob": lambda _, logits: (
            s.prob_weight * rrl.prediction_consistency_loss(logits, logits_teacher)
        ),
    }.items():
        student = released_rrl.network(synchronised=False)
        loss_of(*student(images)).backward()
        for parameter, wanted in zip(student.parameters(), theirs[name], strict=True):
            # The head has no part in relations between features.
            own = torch.zeros_like(wanted) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(own, wanted, rtol=1e-10, atol=1e-12)
        assert max(wanted.abs().max() for wanted in theirs[name]) > 1e-4


@pytest.mark.parametrize("loss", [rrl.batch_relation_loss, rrl.channel_relation_loss, by_width])
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
    """In updates of 512 images, as released."""
    student = Classifier(make_encoder(), nn.Linear(8, 3))
    teacher = Teacher(student, decay=0.6)
    expected = [p.detach().clone() for p in student.parameters()]
    for step in range(4):
        with torch.no_grad():
            for p in student.parameters():
                p.add_(torch.randn_like(p))
            student.encoder.body[1].running_mean.add_(1)
        teacher.follow(student, 512)
        alpha = min(1 - 1 / (step + 1), 0.6)  # 0, 1/2, 0.6, 0.6
        expected = [
            alpha * old + (1 - alpha) * p.detach()
            for old, p in zip(expected, student.parameters(), strict=True)
        ]
        for mine, wanted in zip(teacher.model.parameters(), expected, strict=True):
            torch.testing.assert_close(mine.detach(), wanted)
    assert teacher.images == 4 * 512
    assert teacher.model.encoder.body[1].running_mean.abs().max() == 0  # buffers not averaged
    assert not any(p.requires_grad for p in teacher.parameters())


@given(st.lists(st.integers(1, 700), min_size=1, max_size=8), st.sampled_from([0.0, 0.9, 0.999]))
def test_the_teachers_memory_is_counted_in_images(batches, decay):
    """However they are divided into batches; here behind its first, plain mean."""
    student = Classifier(Encoder(nn.Identity(), 4), nn.Linear(4, 2)).double()
    teacher = Teacher(student, decay).double()
    teacher.images.fill_(2**40)
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1.0)
    before = [p.clone() for p in teacher.model.parameters()]
    for size in batches:
        teacher.follow(student, size)
    left = decay ** (sum(batches) / 512)
    own = teacher.model.parameters()
    for old, new, aim in zip(before, own, student.parameters(), strict=True):
        torch.testing.assert_close(new, aim + left * (old - aim), rtol=1e-5, atol=1e-6)


def test_at_first_the_teacher_is_the_mean_over_images(make_encoder):
    student = Classifier(Encoder(nn.Identity(), 1), nn.Linear(1, 1))
    teacher = Teacher(student, decay=1.0)
    for value, size in (1.0, 100), (4.0, 50), (10.0, 150):
        with torch.no_grad():
            student.head.weight.fill_(value)
        teacher.follow(student, size)
    assert teacher.model.head.weight.item() == pytest.approx((100 + 4 * 50 + 10 * 150) / 300)


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
        + 2.5 * rrl.batch_relation_loss(z_s, z_t)
        + 2.5 * rrl.channel_relation_loss(z_s, z_t, "width")
        + 5 * rrl.prediction_consistency_loss(logits_s, logits_t)
    )
    loss = method.loss(batch)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.model.parameters())


def test_the_configuration_taken_at_its_word(make_task, make_method):
    """10, 10, 5 with L_channel divided by the images of a batch."""
    printed = {"batch_weight": 10.0, "channel_weight": 10.0, "channel_mean": "images"}
    method = make_method("rrl", make_task(), relations_after=0.0, **printed)
    _, batch = next(method.batches())
    method.train()
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.mul_(1.1)
    student, teacher = copy.deepcopy(method.model), copy.deepcopy(method.teacher.model)
    z_s, z_t = student.encoder(batch.views[0]), teacher.encoder(batch.views[1])
    expected = (
        F.cross_entropy(student.head(z_s), batch.labels)
        + 10 * rrl.batch_relation_loss(z_s, z_t)
        + 10 * rrl.channel_relation_loss(z_s, z_t)
        + 5 * rrl.prediction_consistency_loss(student.head(z_s), teacher.head(z_t))
    )
    torch.testing.assert_close(method.loss(batch), expected)


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
