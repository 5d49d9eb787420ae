"""Backbones as chains of stages."""

import pytest
import torch
from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.models.backbones import BACKBONES
from lmdbench.models.stages import stages_of


@pytest.mark.parametrize("name", sorted(BACKBONES))
@pytest.mark.parametrize("training", [False, True])
def test_one_after_the_other_they_are_the_body(name, training):
    encoder = BACKBONES[name].construct().double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout) or type(module).__name__ == "StochasticDepth":
            module.p = 0.0  # nothing by chance
    encoder.train(training)
    chain = nn.Sequential(*stages_of(encoder.body)).train(training)
    assert len(chain) >= 4
    torch.testing.assert_close(chain(images), encoder(images))


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_they_have_all_of_its_parameters(name):
    body = BACKBONES[name].construct().body
    theirs = {id(p) for stage in stages_of(body) for p in stage.parameters()}
    assert theirs == {id(p) for p in body.parameters()}


def test_an_unknown_architecture():
    with pytest.raises(
        UserError, match="stages of a Linear are not known; give the network a meth"
    ):
        stages_of(nn.Linear(2, 2))


def test_a_network_says_its_own():
    class Mine(nn.Sequential):
        def stages(self):
            return tuple(self)

    class WithAStageOfThatName(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = nn.Sequential(nn.Linear(2, 2))

    body = Mine(nn.Linear(2, 2), nn.Linear(2, 2))
    assert stages_of(body) == list(body)
    with pytest.raises(UserError, match="not known"):
        stages_of(WithAStageOfThatName())
