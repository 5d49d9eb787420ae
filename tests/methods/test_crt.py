import pytest
import torch
import torch.nn.functional as F
from torch import nn


@pytest.fixture
def stage1(make_task, make_method, train):
    """A task with a trained cross-entropy run on it."""
    task = make_task((12, 5, 1))
    method = make_method("ce", task)
    train(method)
    return method


def test_starts_with_the_encoder_and_a_new_head(stage1, make_method):
    method = make_method("crt", stage1.task, stage1)
    theirs = stage1.model.encoder.state_dict()
    for name, value in method.model.encoder.state_dict().items():
        assert torch.equal(value, theirs[name])
    assert isinstance(method.model.head, nn.Linear)
    assert not torch.equal(method.model.head.weight, stage1.model.head.weight)


def test_only_the_head_is_trained(stage1, make_method, train):
    method = make_method("crt", stage1.task, stage1)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    train(method)
    after = method.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"model.head.weight", "model.head.bias"}
    assert [len(g["params"]) for g in method.running_optimizers["sgd"].param_groups] == [2]


def test_batch_norm_in_training_mode_moves_buffers_only(stage1, make_method, train):
    method = make_method("crt", stage1.task, stage1, bn="train")
    before = {name: value.clone() for name, value in method.model.encoder.state_dict().items()}
    train(method)
    buffers = {name for name, _ in method.model.encoder.named_buffers()}
    after = method.model.encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == buffers
    assert buffers


def test_batches_are_class_balanced_and_augmented(stage1, make_method):
    method = make_method("crt", stage1.task, stage1, batch_size=6)
    task = stage1.task
    labels, plain = [], []
    for _, batch in method.batches():
        labels.append(batch.labels)
        unchanged = task.train.batch(batch.positions, ("test",), task.streams.get("unused")).images
        plain.append((batch.images == unchanged).flatten(1).all(1))
    assert torch.bincount(torch.cat(labels)).tolist() == [6, 6, 6]
    assert not torch.cat(plain).all()


def test_loss_is_plain_cross_entropy(stage1, make_method):
    method = make_method("crt", stage1.task, stage1)
    _, batch = next(method.batches())
    logits = method.model.head(method.model.encoder(batch.images))
    assert torch.equal(method.loss(batch), F.cross_entropy(logits, batch.labels))


def test_wins_back_the_tail(make_task, make_method, train):
    task = make_task((40, 2), validation=10)
    ce = make_method("ce", task, epochs=2, batch_size=8, lr=0.003)
    train(ce)
    crt = make_method("crt", task, ce, epochs=10, batch_size=8, lr=0.5)
    train(crt)
    images = next(task.in_order(task.validation))
    tail = images.labels == 1
    with torch.no_grad():
        recall = [(m.predict(images.images).argmax(1) == 1)[tail].float().mean() for m in (ce, crt)]
    assert recall[1] > recall[0]
