"""SHIKE's losses by the official code's values, and their limits; its experts; its two phases."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax, softmax

from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.methods.shike import (
    balanced_loss,
    divergence,
    shike_loss,
    teacher_of_the_rest,
)

from .helpers import moved, randn, random_counts, snapshot, train_and_resume
from .released import B, Case, cases, gradient_norm


@pytest.fixture
def make_encoder(make_staged_encoder):
    return make_staged_encoder


def drawn(classes=5, experts=3, seed=0):
    labels = torch.randint(classes, (6,), generator=torch.Generator().manual_seed(seed))
    return 30 * (0.4 * randn(experts, 6, classes, seed=seed)).tanh(), labels


@cases("shike")
def test_official_values(released):
    case = Case(*released)
    z = (30 * (0.4 * case.normal(3, B, case.C)).tanh()).requires_grad_()
    y = case.labels(B)
    for stage, loss in ((1, shike_loss(z, y)), (2, balanced_loss(z, y, case.counts))):
        assert loss.item() == pytest.approx(case.values[f"loss_stage{stage}"], rel=1e-9)
        expected = case.values[f"grad_stage{stage}"]
        assert gradient_norm(loss, z) == pytest.approx(expected, rel=1e-8)
    without = shike_loss(z, y, transfer=0.0, mutual=0.0)
    assert without.item() == pytest.approx(case.values["ce_sum"], rel=1e-9)


def test_teacher_by_hand():
    """The own class is 1; the hardest other one by the mean is 2, though 0 has the most once."""
    z = torch.tensor([[[9.0, 5.0, 4.0, 1.0]], [[-9.0, 7.0, 6.0, 2.0]]])
    assert teacher_of_the_rest(z, torch.tensor([1])).tolist() == [[9, 0, 5, 2]]


@pytest.mark.parametrize("classes", [2, 8, 100])
def test_divergence_is_a_mean_over_classes_too(classes):
    a, b = drawn(classes)[0][:2]
    p, q = softmax(a.numpy(), axis=1), log_softmax(b.numpy(), axis=1)
    expected = np.mean(p * (log_softmax(a.numpy(), axis=1) - q))
    assert divergence(a, b).item() == pytest.approx(expected, rel=1e-10)
    assert divergence(a, a).item() == 0


def test_experts_that_agree_teach_one_another_nothing():
    z, y = drawn(experts=1)
    z = z.expand(3, -1, -1)
    torch.testing.assert_close(shike_loss(z, y, mutual=5.0), shike_loss(z, y, mutual=0.0))


def test_of_two_classes_teacher_and_student_differ_at_the_own_class_alone():
    z, y = drawn(classes=2, experts=1)
    other = 1 - y
    teacher = teacher_of_the_rest(z, y)
    assert torch.equal(teacher.gather(1, y[:, None]), torch.zeros(6, 1).double())
    assert torch.equal(teacher.gather(1, other[:, None]), z[0].gather(1, other[:, None]))


@pytest.mark.parametrize("classes", [2, 100])
def test_the_order_of_experts_does_not_matter(classes):
    z, y = drawn(classes)
    torch.testing.assert_close(shike_loss(z[[2, 0, 1]], y), shike_loss(z, y))


def test_the_last_phase_is_balanced_softmax():
    z, y = drawn()
    counts = random_counts(5)
    expected = sum(balanced_softmax_loss(own, y, counts) for own in z)
    torch.testing.assert_close(balanced_loss(z, y, counts), expected)


@pytest.mark.parametrize(
    ("epochs", "after", "first"),
    [(200, 0.9, 180), (20, 0.9, 18), (25, 0.9, 22), (2, 0.9, 1), (1, 0.9, 1), (5, 0.0, 1)],
)
def test_when_new_heads_learn(make_task, make_method, epochs, after, first):
    method = make_method("shike", make_task(), epochs=epochs, heads_after=after)
    assert method.heads_from == first
    method.progress = (first - 1 + 0.99) / epochs
    assert not method.phase()
    method.progress = first / epochs
    assert method.phase()


def test_in_the_last_phase_new_heads_alone_learn(make_task, make_method, train):
    method = make_method("shike", make_task((12, 5, 1)), epochs=2, lr=0.05)
    train(method, last=1)
    before = snapshot(method)
    heads = {name for name, _ in method.named_parameters() if name.startswith("model.head.")}
    train(method, first=1)
    learned = moved(method, before) & dict(method.named_parameters()).keys()
    assert learned == heads
    assert not method.running_optimizers["heads"].state.keys() - set(method.model.head.parameters())
    cosines = [
        F.cosine_similarity(before[name], dict(method.named_parameters())[name]) for name in heads
    ]
    assert torch.cat(cosines).max() < 0.9  # new ones, and not the old ones a little further


def test_a_training_may_have_no_last_phase(make_task, make_method, train):
    method = make_method("shike", make_task((12, 5, 1)), epochs=2, heads_after=1.0)
    train(method)
    assert not method.running_optimizers["heads"].state


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_loss_is_of_the_experts_and_the_prediction_their_mean(make_task, make_method, progress):
    task = make_task((12, 5, 1))
    method = make_method("shike", task, epochs=10, transfer=3.0, mutual=0.5).eval()
    method.progress = progress
    _, batch = next(method.batches())
    z = method.model.head.each(method.model.encoder(batch.images))
    if progress:
        expected = balanced_loss(z, batch.labels, task.class_counts)
    else:
        expected = shike_loss(z, batch.labels, transfer=3.0, mutual=0.5)
    torch.testing.assert_close(method.loss(batch), expected)
    torch.testing.assert_close(method.predict(batch.images), z.mean(dim=0))


@pytest.mark.parametrize("after", [1, 2])
def test_a_resumed_training_ends_the_same(make_task, make_method, train, after):
    """Before its last phase begins, and within it."""
    whole, resumed = (
        make_method("shike", make_task((12, 5, 1)), epochs=3, heads_after=0.4) for _ in range(2)
    )
    assert whole.heads_from == 1
    train_and_resume(train, whole, resumed, after=after)
    assert moved(resumed, snapshot(whole)) == set()
