"""CICL's second stage is classifier re-training on the contrastive encoder."""

import torch

from lmdbench.method import METHODS


def test_starts_from_the_contrastive_encoder_with_a_new_head(make_task, make_method, train):
    stage1 = make_method("supcon", make_task((12, 5, 1)))
    train(stage1)
    method = make_method("cicl", stage1.task, stage1)
    theirs = stage1.model.encoder.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in method.model.encoder.state_dict().items())
    assert not torch.equal(method.model.head.weight, stage1.model.head.weight)
    assert not hasattr(method, "projector")


def test_is_trained_as_crt_from_there(make_task, make_method, train):
    """The same numbers as crt started from the same run."""
    stage1 = make_method("supcon", make_task((12, 5, 1)))
    train(stage1)
    states = []
    for name in ("cicl", "crt"):
        method = make_method(name, make_task((12, 5, 1)), stage1)
        logs = train(method)
        states.append((logs, method.model.head.weight))
    assert states[0][0] == states[1][0]
    assert torch.equal(states[0][1], states[1][1])


def test_its_chain():
    assert METHODS.get("cicl").starts_from == "supcon"
    assert METHODS.get("supcon").starts_from is None
