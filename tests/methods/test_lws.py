import pytest
import torch
from torch import nn

from lmdbench.errors import UserError
from lmdbench.methods.ce import CrossEntropy
from lmdbench.methods.lws import ScaledHead
from lmdbench.models.classifier import Classifier


@pytest.fixture
def stage1(make_task, make_method, train):
    """A task with a trained cross-entropy run on it."""
    method = make_method("ce", make_task((12, 5, 1)))
    train(method)
    return method


def test_scale_1_is_exactly_ce(stage1, make_method):
    method = make_method("lws", stage1.task, stage1).eval()
    (batch,) = stage1.task.in_order(stage1.task.train)
    assert torch.equal(method.predict(batch.images), stage1.predict(batch.images))


def test_logits_are_scaled_with_their_bias():
    head = ScaledHead(nn.Linear(4, 3))
    with torch.no_grad():
        head.scale.copy_(torch.tensor([2.0, 0.5, -1.0]))
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for j in range(3):
        plain = features @ head.linear.weight[j] + head.linear.bias[j]
        torch.testing.assert_close(head(features)[:, j], head.scale[j] * plain)


def test_only_the_scale_is_trained(stage1, make_method, train):
    method = make_method("lws", stage1.task, stage1)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    train(method)
    after = method.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"model.head.scale"}
    linear = method.model.head.linear
    assert torch.equal(linear.weight, stage1.model.head.weight)
    assert torch.equal(linear.bias, stage1.model.head.bias)


def test_batch_norm_in_training_mode_moves_buffers_only(stage1, make_method, train):
    method = make_method("lws", stage1.task, stage1, bn="train")
    before = {name: value.clone() for name, value in method.model.encoder.state_dict().items()}
    train(method)
    after = method.model.encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name, _ in method.model.encoder.named_buffers()}


def test_weight_decay_acts_on_the_scale(stage1, make_method):
    scales = []
    for decay in (0.0, 0.5):
        settings = {"lr": 0.1, "momentum": 0.0, "weight_decay": decay}
        method = make_method("lws", stage1.task, stage1, **settings)
        method.train()
        method.step(next(method.batches())[1])
        scales.append(method.model.head.scale.detach())
    torch.testing.assert_close(scales[1], scales[0] - 0.1 * 0.5 * torch.ones(3))


def test_five_epochs_of_class_balanced_batches(stage1, make_method):
    method = make_method("lws", stage1.task, stage1, batch_size=9)
    assert type(method).Settings().epochs == 5
    labels = torch.cat([batch.labels for _, batch in method.batches()])
    assert torch.bincount(labels).tolist() == [6, 6, 6]


def test_needs_a_linear_head_to_start_from(make_task, make_method):
    class DeepHead(CrossEntropy):
        def build(self, encoder):
            self.model = Classifier(encoder, nn.Sequential(nn.ReLU(), nn.Linear(8, 3)))

    DeepHead.name = "deep-head"
    task = make_task()
    with pytest.raises(UserError, match="head of deep-head is a Sequential"):
        make_method("lws", task, make_method(DeepHead, task))
