"""CICL's second stage is classifier re-training on the contrastive encoder."""

import pytest
import torch

from lmdbench.training.method import METHODS

from .helpers import moved


@pytest.fixture
def stage1(trained):
    return trained("supcon")


def test_starts_from_the_contrastive_encoder_with_a_new_head(stage1, make_method):
    method = make_method("cicl", stage1.task, stage1)
    assert not moved(method.model.encoder, stage1.model.encoder.state_dict())
    assert not torch.equal(method.model.head.weight, stage1.model.head.weight)
    assert not hasattr(method, "projector")


def test_is_trained_as_crt_from_there(stage1, make_task, make_method, train):
    """The same numbers as crt started from the same run."""
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
