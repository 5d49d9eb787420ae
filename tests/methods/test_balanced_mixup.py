import pytest
import torch
import torch.nn.functional as F

from lmdbench.methods import balanced_mixup as module


def test_lambda_is_on_the_balanced_side(make_task, make_method, monkeypatch):
    """As in the official code: (1 − λ) of the instance batch, λ of the class-balanced one."""
    method = make_method("balanced-mixup", make_task((12, 5, 1)), batch_size=9)
    asked = []
    monkeypatch.setattr(module, "draw_beta", lambda a, b, _: asked.append((a, b)) or 0.25)
    seen = []
    method.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    _, (instance, balanced) = next(method.batches())
    assert torch.bincount(balanced.labels).tolist() == [3, 3, 3]
    loss = method.loss((instance, balanced))
    torch.testing.assert_close(seen[0], 0.75 * instance.images + 0.25 * balanced.images)
    target = 0.75 * F.one_hot(instance.labels, 3) + 0.25 * F.one_hot(balanced.labels, 3)
    expected = -(target * method.model(seen[0]).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    assert asked == [(0.1, 1.0)]


def test_alpha_0_is_cross_entropy(make_task, make_method):
    method = make_method("balanced-mixup", make_task((12, 5, 1)), alpha=0.0)
    _, (instance, balanced) = next(method.batches())
    method.eval()
    expected = F.cross_entropy(method.model(instance.images), instance.labels)
    torch.testing.assert_close(method.loss((instance, balanced)), expected)


def test_an_epoch_is_one_pass_over_the_instances(make_task, make_method):
    method = make_method("balanced-mixup", make_task((12, 5, 1)))
    positions, balanced = [], []
    for _, (one, other) in method.batches():
        assert len(one) == len(other)
        positions += one.positions.tolist()
        balanced.append(other.labels)
    assert sorted(positions) == list(range(18))
    assert torch.bincount(torch.cat(balanced)).tolist() == [6, 6, 6]


def test_the_share_of_the_balanced_batch(make_task, make_method, monkeypatch):
    """α/(α + 1) on average."""
    method = make_method("balanced-mixup", make_task((40, 2)), alpha=0.3, batch_size=2)
    drawn, original = [], module.draw_beta
    monkeypatch.setattr(
        module, "draw_beta", lambda *args: drawn.append(original(*args)) or drawn[-1]
    )
    _, batches = next(method.batches())
    for _ in range(600):
        with torch.no_grad():
            method.loss(batches)
    assert sum(drawn) / len(drawn) == pytest.approx(0.3 / 1.3, abs=0.04)
