"""Experts on maps of different depth: which maps, how they are brought to one size, which networks
have none."""

import pytest
import timm
import torch
import torchvision.models as torchvision

from lmdbench.core.errors import UserError
from lmdbench.models.heterogeneous import HeterogeneousExperts
from lmdbench.models.small import SmallNet


def test_experts_multiply_maps_of_their_own_depth():
    """Of a ResNet: three, two and one convolutions, ReLU after all but the second."""
    body = torchvision.resnet18()
    body.fc = torch.nn.Identity()
    experts = HeterogeneousExperts(body, 3).eval()
    kinds = [[type(m).__name__ for m in branch] for branch in experts.shallow]
    conv, relu = ["Conv2d", "BatchNorm2d"], ["ReLU"]
    assert kinds == [conv + relu + conv + conv + relu, conv + relu + conv, conv + relu]
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        maps = [x := layer(x) for layer in (body.layer1, body.layer2, body.layer3)]
        deep = body.layer4(x)
        expected = [
            (deep * shallow(m)).mean(dim=(2, 3))
            for shallow, m in zip(experts.shallow, maps, strict=True)
        ]
        torch.testing.assert_close(experts(images), torch.cat(expected, dim=1))


def test_experts_are_three_of_two_depths_where_there_are_two():
    experts = HeterogeneousExperts(SmallNet(), 3).eval()
    assert experts(torch.randn(2, 3, 33, 33)).shape == (2, 3 * 96)
    inputs = [branch[0].in_channels for branch in experts.shallow]
    assert inputs == [48, 48, 48]
    own = [{id(p) for p in deep.parameters()} for deep in experts.deep]
    assert all(own[i].isdisjoint(own[j]) for i in range(3) for j in range(i))


def test_a_network_without_a_last_map_is_refused():
    class Flat(torch.nn.Module):
        def stages(self):
            return [torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten()]

    with pytest.raises(UserError, match="choose another --backbone"):
        HeterogeneousExperts(Flat(), 3)


@pytest.mark.parametrize("name", ["resnet10t", "test_efficientnet", "test_convnext"])
def test_networks_of_timm_have_maps(name):
    body = timm.create_model(name, num_classes=0)
    experts = HeterogeneousExperts(body, 3)
    assert experts.stages.training
    features = experts.eval()(torch.randn(2, 3, 70, 70))
    assert features.shape == (2, 3 * body.num_features)
    assert features.isfinite().all()


@pytest.mark.parametrize("size", [64, 160])
def test_a_transformer_is_refused(size):
    body = timm.create_model("test_vit", num_classes=0, img_size=size)
    with pytest.raises(UserError, match="a VisionTransformer does not give"):
        HeterogeneousExperts(body, 3)
