"""A backbone as a chain of stages, for methods that divide it."""

from __future__ import annotations

from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.models.efficientnet_lite import EfficientNetLite
from lmdbench.models.normalisation import Affine
from lmdbench.models.small import SmallNet
from lmdbench.models.timm_stages import timm_stages


def stages_of(body: nn.Module) -> list[nn.Module]:
    """Modules that are the body when one follows the other: images (B, 3, H, W) to features (B, D).

    The first is the stem; the last one's output is what the mean over the image has made of it.
    They share the body's parameters and buffers. A network of one's own says them in a method
    ``stages()``; UserError for one that does not and whose architecture is not known here.
    """
    import torchvision.models as torchvision

    if says_stages(body):
        return list(body.stages())  # type: ignore[operator]
    if isinstance(body, torchvision.ResNet):
        stem = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool)
        return _averaged([stem, body.layer1, body.layer2, body.layer3, body.layer4])
    if isinstance(body, torchvision.EfficientNet):
        *stages, last, head = body.features
        return _averaged([*stages, nn.Sequential(last, head)])
    if isinstance(body, SmallNet):
        return _averaged(list(body))
    if isinstance(body, EfficientNetLite):
        blocks = iter(body._blocks)
        *stages, last = (nn.Sequential(*(next(blocks) for _ in range(n))) for n in body.repeats)
        converted = Affine(body._scale, body._shift)
        stem = nn.Sequential(converted, body._conv_stem, body._bn0, nn.ReLU6())
        head = nn.Sequential(last, body._conv_head, body._bn1, nn.ReLU6())
        return _averaged([stem, *stages, head])
    if type(body).__module__.startswith("timm."):
        return timm_stages(body)
    raise UserError(
        f"the stages of a {type(body).__name__} are not known; give the network a method stages() "
        "that lists them, or choose another --backbone"
    )


def says_stages(body: nn.Module) -> bool:
    """Whether the network's class has a method ``stages``. A submodule of that name is none."""
    return callable(getattr(type(body), "stages", None))


def _averaged(stages: list[nn.Module]) -> list[nn.Module]:
    *before, last = stages
    return [*before, nn.Sequential(last, nn.AdaptiveAvgPool2d(1), nn.Flatten())]
