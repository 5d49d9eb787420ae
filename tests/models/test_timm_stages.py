"""timm's networks in stages: together they are the network, in evaluation and in training."""

import copy

import pytest
import torch
from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.models.backbones import get_backbone
from lmdbench.models.stages import stages_of

pytest.importorskip("timm", reason="lmdbench[timm] missing")


@pytest.mark.parametrize(
    ("name", "size", "number"),
    [
        ("timm/test_resnet.r160_in1k", 32, 5),
        ("timm/resnet18.a1_in1k", 32, 5),
        ("timm/test_convnext.r160_in1k", 32, 5),
        ("timm/test_efficientnet.r160_in1k", 32, 6),
        ("timm/mobilenetv4_conv_small_035", 32, 6),
        ("timm/mobilenetv3_small_050", 32, 7),
        ("timm/regnety_002", 32, 5),
        ("timm/test_byobnet.r160_in1k", 32, 5),
        ("timm/swin_tiny_patch4_window7_224", 32, 5),
        ("timm/swinv2_tiny_window8_256", 32, 5),
        ("timm/test_maxvit.untrained", 32, 5),
        ("timm/test_vit.r160_in1k", 32, 4),
        ("timm/test_vit3.r160_in1k", 32, 4),
        ("timm/vit_tiny_patch16_224", 32, 5),
        ("timm/eva02_tiny_patch14_224", 28, 5),
        ("timm/vit_small_patch16_dinov3", 32, 5),
    ],
)
def test_one_after_the_other_they_are_the_network(name: str, size: int, number: int) -> None:
    torch.manual_seed(0)
    body = get_backbone(name, size).construct().body
    stages = stages_of(body)
    assert len(stages) == number
    theirs = [id(p) for stage in stages for p in stage.parameters()]
    assert sorted(theirs) == sorted(id(p) for p in body.parameters())
    chain = nn.Sequential(*stages)
    images = torch.randn(4, 3, size, size)
    for training in (False, True):
        body.train(training)
        torch.manual_seed(1)
        with torch.no_grad():
            expected = body(images)
        torch.manual_seed(1)
        with torch.no_grad():
            assert torch.equal(chain(images), expected)
    apart = copy.deepcopy(stages[-1])
    assert {id(p) for p in apart.parameters()}.isdisjoint(theirs)


def test_families_that_are_not_known() -> None:
    body = get_backbone("timm/test_nfnet.r160_in1k", 32).construct().body
    with pytest.raises(UserError, match="stages of a NormFreeNet of timm are not known; choose an"):
        stages_of(body)
