import pytest
import torch
import torch.nn.functional as F

from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.methods.ltrl import alike_labels, divided, review_loss, without_conflict

from .helpers import moved, randn, train_and_resume
from .linear import gradient_of_step, linear_method
from .released import B, Case, D, cases


def reviewed(make_task, case):
    """The method as the official values have it: with r and the features of the last epoch."""
    method, batch = linear_method(make_task, case, "ltrl", warmup=0.0)
    r = case.normal(B, case.C, scale=2)
    r[::2] += 6 * F.one_hot(batch.labels[::2], case.C)
    method.earlier[:B], method.seen[:B] = r, True
    rows = case.normal(4 * case.C, D).reshape(case.C, 4, D)
    method.medians.copy_(rows.median(dim=1).values)
    return method, batch


@cases("ltrl")
@pytest.mark.parametrize("which", ["epoch1", "later"])
def test_official_values(make_task, released, which):
    case = Case(*released)
    method, batch = reviewed(make_task, case)
    C, values = case.C, case.values
    assert method.medians.sum().item() == pytest.approx(values["median_sum"], rel=1e-12)
    cosines = F.normalize(method.medians, dim=1) @ F.normalize(method.medians, dim=1).T
    assert cosines.sum().item() == pytest.approx(values["cos_sum"], rel=1e-12)
    right = method.earlier[:B].argmax(1) == batch.labels
    assert right.sum() == values["right"]
    smoothed = 0.9 * torch.eye(C) + 0.1 / C
    soft = smoothed if which == "epoch1" else alike_labels(method.medians, 0.01)
    method.soft_labels.copy_(soft)
    step, logs = method.step, {}
    method.step = lambda batch: logs.update(step(batch))
    # The official logarithms have 1e-9 beside a count
    used = gradient_of_step(method, batch)
    assert used == pytest.approx(values[f"{which}.grad_used"], rel=1e-7)
    assert logs["loss"].item() == pytest.approx(values[f"{which}.loss"], rel=1e-7)
    assert logs["review"].item() == pytest.approx(values[f"{which}.kl"], rel=1e-9)
    stored = method.earlier[:B].norm().item()
    assert stored == pytest.approx(values[f"{which}.stored_norm"], rel=1e-9)


@cases("ltrl")
def test_official_projection(make_task, released):
    case = Case(*released)
    reviewed(make_task, case)
    case.normal(3, B, case.C)
    g, g1 = case.normal(40), case.normal(7)
    h, h1 = -0.5 * g + case.normal(40), g1 + 0.1 * case.normal(7)
    for key, one, other in (("first", g, h), ("second", g1, h1)):
        found = (one + without_conflict(one, other)).norm().item()
        assert found == pytest.approx(case.values[f"projection.norm_{key}"], rel=1e-12)


def test_without_conflict_by_hand():
    g = torch.tensor([2.0, 0.0])
    agreeing, opposed = torch.tensor([1.0, 1.0]), torch.tensor([-1.0, 1.0])
    assert torch.equal(without_conflict(g, agreeing), agreeing)
    torch.testing.assert_close(without_conflict(g, opposed), torch.tensor([0.0, 1.0]))
    assert not without_conflict(g, -g).any()
    assert torch.equal(without_conflict(torch.zeros(2), agreeing), agreeing)


def test_review_is_the_divergence_of_those_that_were_right():
    s, r, right = randn(3, 4), randn(3, 4, seed=1), torch.tensor([True, False, True])
    log_p, q = (s / 2).log_softmax(1)[right], (r / 2).softmax(1)[right]
    expected = 4 * F.kl_div(log_p, q, reduction="batchmean")
    torch.testing.assert_close(review_loss(s, r, right, 2.0), expected)
    assert review_loss(s, s, right, 2.0).abs() < 1e-12
    assert review_loss(s, r, torch.zeros(3, dtype=torch.bool), 2.0) == 0


def test_logits_over_the_class_s_images_in_the_batch():
    z = torch.ones(4, 2)
    found = divided(z, torch.tensor([0, 1, 0, 0]))
    assert found[:, 0].tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1 / 3])


def test_likeness_by_hand():
    medians = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    own = 0.9 + 0.1 * torch.e / (torch.e + 1)
    torch.testing.assert_close(
        alike_labels(medians, 0.1), torch.tensor([[own, 1 - own], [1 - own, own]])
    )


def test_the_first_epoch_is_balanced_softmax_with_smoothed_labels(make_task, make_method):
    """No image was seen: none is reviewed, also of class 0."""
    method = make_method("ltrl", make_task((9, 5, 1)))
    method.soft_labels.copy_(0.9 * torch.eye(3) + 0.1 / 3)
    _, batch = next(method.batches())
    logits = method.model(batch.images).detach()
    logs = method.step(batch)
    hard = balanced_softmax_loss(logits, batch.labels, method.task.class_counts)
    spread = -(logits + method.task.class_counts.log()).log_softmax(1).mean()
    torch.testing.assert_close(logs["loss"], 0.9 * hard + 0.1 * spread)
    assert logs["review"] == 0


def test_an_epoch_leaves_logits_and_medians_of_all_images(make_task, make_method, train):
    method = make_method("ltrl", make_task((7, 4, 1)), epochs=1)
    kept = {}
    remember = method.remember

    def watched(places, features, logits):
        kept.update(zip(places.tolist(), features.detach(), strict=True))
        remember(places, features, logits)

    method.remember = watched
    train(method)
    assert method.seen.all()
    labels = method.task.train.labels
    for c, n in enumerate((7, 4, 1)):
        own = torch.stack([kept[i] for i in range(12) if labels[i] == c])
        lower = own.sort(dim=0).values[(n - 1) // 2]
        assert torch.equal(method.medians[c], lower)


def test_resumed_training_is_bit_identical(make_task, make_method, train):
    whole, resumed = (make_method("ltrl", make_task(), epochs=4) for _ in range(2))
    train_and_resume(train, whole, resumed, 2)
    assert not moved(resumed, whole.state_dict())
