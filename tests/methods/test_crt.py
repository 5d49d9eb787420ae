import torch
import torch.nn.functional as F
from torch import nn

from .helpers import drawn_by_class, moved, recall, snapshot


def test_starts_with_the_encoder_and_a_new_head(stage1, make_method):
    method = make_method("crt", stage1.task, stage1)
    assert not moved(method.model.encoder, stage1.model.encoder.state_dict())
    assert isinstance(method.model.head, nn.Linear)
    assert not torch.equal(method.model.head.weight, stage1.model.head.weight)


def test_only_the_head_is_trained(stage1, make_method, train):
    method = make_method("crt", stage1.task, stage1)
    before = snapshot(method)
    train(method)
    assert moved(method, before) == {"model.head.weight", "model.head.bias"}
    assert [len(g["params"]) for g in method.running_optimizers["sgd"].param_groups] == [2]


def test_batches_are_class_balanced_and_augmented(stage1, make_method):
    method = make_method("crt", stage1.task, stage1, batch_size=6)
    task = stage1.task
    assert drawn_by_class(method) == [6, 6, 6]
    plain = []
    for _, batch in method.batches():
        unchanged = task.train.batch(batch.positions, ("test",), task.streams.get("unused")).images
        plain.append((batch.images == unchanged).flatten(1).all(1))
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
    assert recall(crt, 1) > recall(ce, 1)
