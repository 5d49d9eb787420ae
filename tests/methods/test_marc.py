import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lmdbench.errors import UserError
from lmdbench.methods.marc import MarginHead


@pytest.fixture
def stage1(make_task, make_method, train):
    """A task with a trained cross-entropy run on it."""
    method = make_method("ce", make_task((12, 5, 1)))
    train(method)
    return method


def random_head(seed: int = 0) -> MarginHead:
    generator = torch.Generator().manual_seed(seed)
    head = MarginHead(nn.Linear(4, 3)).double()
    with torch.no_grad():
        for p in head.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return head


@pytest.mark.parametrize("seed", range(3))
def test_logits_against_calibrated_margins(seed):
    """‖w‖ (ω d + β) with d the signed distance to the class's plane."""
    head = random_head(seed)
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    ours = head(features).detach().numpy()
    for i, x in enumerate(features.numpy()):
        for j in range(3):
            w, b = head.linear.weight[j].detach().numpy(), head.linear.bias[j].item()
            norm = np.sqrt((w**2).sum())
            distance = (w @ x + b) / norm
            calibrated = head.omega[j].item() * distance + head.beta[j].item()
            assert ours[i, j] == pytest.approx(norm * calibrated, rel=1e-9)


def test_it_begins_as_ce(stage1, make_method):
    method = make_method("marc", stage1.task, stage1).eval()
    (batch,) = stage1.task.in_order(stage1.task.train)
    assert torch.equal(method.predict(batch.images), stage1.predict(batch.images))


def test_only_omega_and_beta_are_trained(stage1, make_method, train):
    method = make_method("marc", stage1.task, stage1)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    train(method)
    after = method.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"model.head.omega", "model.head.beta"}
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == 2 * 3
    assert torch.equal(method.model.head.linear.weight, stage1.model.head.weight)


def test_batch_norm_in_training_mode_moves_buffers_too(stage1, make_method, train):
    method = make_method("marc", stage1.task, stage1, bn="train")
    before = {name: value.clone() for name, value in method.model.encoder.state_dict().items()}
    train(method)
    after = method.model.encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name, _ in method.model.encoder.named_buffers()}


def test_gradient():
    head = random_head()
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 1, 0])

    def loss(*_):
        return F.cross_entropy(head(features), labels)

    assert torch.autograd.gradcheck(loss, (head.omega, head.beta))


def test_instance_sampling_and_a_weighted_mean(stage1, make_method):
    method = make_method("marc", stage1.task, stage1, batch_size=18)
    ((_, batch),) = method.batches()
    assert torch.bincount(batch.labels).tolist() == [12, 5, 1]
    losses = F.cross_entropy(method.model(batch.images), batch.labels, reduction="none")
    w = torch.tensor([(1 / n) ** 1.2 for n in (12, 5, 1)])[batch.labels]
    torch.testing.assert_close(method.loss(batch), (w * losses).sum() / w.sum())


def test_rho_0_is_plain_cross_entropy(stage1, make_method):
    method = make_method("marc", stage1.task, stage1, rho=0.0)
    _, batch = next(method.batches())
    expected = F.cross_entropy(method.model(batch.images), batch.labels)
    torch.testing.assert_close(method.loss(batch), expected)


def test_wins_back_the_tail(make_task, make_method, train):
    task = make_task((40, 2), validation=10)
    ce = make_method("ce", task, epochs=2, batch_size=8, lr=0.003)
    train(ce)
    marc = make_method("marc", task, ce, epochs=40, batch_size=8, lr=0.5)
    train(marc)
    (images,) = task.in_order(task.validation)
    tail = images.labels == 1
    with torch.no_grad():
        recall = [
            (m.predict(images.images).argmax(1) == 1)[tail].float().mean() for m in (ce, marc)
        ]
    assert recall[1] > recall[0]


@pytest.mark.parametrize("counts", [(9, 1), (3,) + (1,) * 99])
def test_trains_with_2_and_100_classes(make_task, make_method, train, counts):
    task = make_task(counts, validation=1)
    method = make_method("marc", task, make_method("ce", task), epochs=1, batch_size=16)
    (logs,) = train(method)
    assert math.isfinite(logs["loss"])


def test_needs_a_linear_head_to_start_from(make_task, make_method):
    task = make_task()
    with pytest.raises(UserError, match="head of ldam-drw is a CosineHead"):
        make_method("marc", task, make_method("ldam-drw", task))
