"""NCL's contrastive loss by the official code's values; its keys, their averages and queues."""

import pytest
import torch
import torch.nn.functional as F

from lmdbench.methods.ncl_contrast import instance_contrastive_loss

from .helpers import moved, snapshot, train_and_resume, unit_rows
from .released import B, Case, D, cases, gradient_norm


@cases("ncl")
def test_official_values(released):
    case = Case(*released)
    case.normal(3, B, case.C), case.labels(B)  # logits and labels of the loss without contrast
    q, k, queue = case.unit(B, D).requires_grad_(), case.unit(B, D), case.unit(24, D)
    loss = instance_contrastive_loss(q, k, queue, torch.ones(24, dtype=torch.bool), 0.2)
    assert loss.item() == pytest.approx(case.values["moco"], rel=1e-9)
    assert gradient_norm(loss, q) == pytest.approx(case.values["moco_grad"], rel=1e-9)


def test_absent_keys_are_as_if_they_were_not_there():
    q, k, queue = unit_rows(3, 4), unit_rows(3, 4, 1), unit_rows(5, 4, 2)
    present = torch.tensor([True, False, True, True, False])
    torch.testing.assert_close(
        instance_contrastive_loss(q, k, queue, present, 0.2),
        instance_contrastive_loss(q, k, queue[present], present[present], 0.2),
    )
    assert instance_contrastive_loss(q, k, queue, present & ~present, 0.2) == 0


def test_queries_keys_and_queues_of_two_batches(make_task, make_method):
    settings = {"batch_size": 6, "queue": 8, "width": 5, "temperature": 0.4, "contrast_weight": 2.0}
    method = make_method("ncl-contrast", make_task((12, 5, 1)), **settings).eval()
    with torch.no_grad():
        for p in method.averaged.parameters():  # other networks than the queries'
            p.mul_(1.1)
    earlier = [torch.zeros(0, 5)] * 3
    key_encoder, key_projectors = method.averaged
    for _, batch in method.batches():
        expected = method.nested_loss(
            method.model.head.each(method.model.encoder(batch.views[0])), batch.labels
        )
        for e, body in enumerate(method.model.encoder.body.bodies):
            q = F.normalize(method.projectors[e](body(batch.views[0])), dim=1)
            k = key_projectors[e](key_encoder.body.bodies[e](batch.views[1]))
            k = F.normalize(k, dim=1).detach()
            logits = torch.cat([(q * k).sum(1, keepdim=True), q @ earlier[e].T], dim=1) / 0.4
            expected = expected + 2 * F.cross_entropy(logits, torch.zeros(len(q)).long())
            earlier[e] = torch.cat([k, earlier[e]])[:8]
        torch.testing.assert_close(method.loss(batch), expected)
    for queue, keys in zip(method.queues, earlier, strict=True):
        torch.testing.assert_close(queue.keys, keys)


def test_the_averages_follow_before_each_step(make_task, make_method):
    method = make_method("ncl-contrast", make_task((12, 5, 1)), key_decay=0.9, lr=0.1).train()

    def parameters(*of) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for m in of for p in m.parameters()])

    expected = parameters(method.averaged)
    assert torch.equal(expected, parameters(method.model.encoder, method.projectors))
    for _, batch in list(method.batches())[:2]:
        network = parameters(method.model.encoder, method.projectors)
        expected = 0.9 * expected + 0.1 * network
        method.step(batch)
        torch.testing.assert_close(parameters(method.averaged), expected)


def test_a_resumed_training_ends_the_same(make_task, make_method, train):
    whole, resumed = (
        make_method("ncl-contrast", make_task((12, 5, 1)), epochs=2, queue=11) for _ in range(2)
    )
    train_and_resume(train, whole, resumed, after=1)
    assert moved(resumed, snapshot(whole)) == set()
