"""A backbone as experts on features of different depth."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.models.stages import stages_of

SOURCES = 3  # stages before the last one whose maps the experts take, one after the other
PROBE = 64  # px, of the image by which the sizes of the maps are found


class HeterogeneousExperts(nn.Module):
    """A body whose last stage exists several times, its map each time multiplied by one of another
    depth: images (B, 3, H, W) to features (B, experts · D).

    Expert e takes the map of the e-th of (at most) the three stages before the last, from the
    shallowest of them on and again from there, brought to the size of the last stage's map by
    convolutions of its own. UserError for a body without such maps.
    """

    def __init__(self, body: nn.Module, experts: int) -> None:
        super().__init__()
        stem, *stages, last = stages_of(body)
        self.stages = nn.ModuleList([nn.Sequential(stem, *stages[:-SOURCES]), *stages[-SOURCES:]])
        end = list(last) if isinstance(last, nn.Sequential) else [last]
        none = UserError(
            "it multiplies maps of several stages before their mean over the image, which a "
            f"{type(body).__name__} does not give of {PROBE} px: choose another --backbone"
        )
        try:
            shapes, outputs = self._shapes(end)
        except Exception as error:  # of a network made for one size
            raise none from error
        maps = _maps_among(outputs)
        if not shapes or not 0 < maps < len(end):
            raise none
        deep = nn.Sequential(*end[:maps])
        self.deep = nn.ModuleList([deep, *(copy.deepcopy(deep) for _ in range(experts - 1))])
        self.pool = nn.Sequential(*end[maps:])
        self.shallow = nn.ModuleList(
            aligned(shapes[e % len(shapes)], outputs[maps - 1]) for e in range(experts)
        )

    @torch.no_grad()
    def _shapes(self, end: list[nn.Module]) -> tuple[list[torch.Size], list[torch.Size]]:
        """Of the maps that experts take, and of what the parts of the last stage give."""
        parts = nn.ModuleList([self.stages, *end])
        training = [(module, module.training) for module in parts.modules()]
        parts.eval()
        maps = self._maps(torch.zeros(1, 3, PROBE, PROBE))
        x = maps[-1] if maps else self.stages[0](torch.zeros(1, 3, PROBE, PROBE))
        outputs = []
        for part in end:
            x = part(x)
            outputs.append(x.shape[1:])
        for module, mode in training:
            module.training = mode
        return [m.shape[1:] for m in maps], outputs

    def _maps(self, images: Tensor) -> list[Tensor]:
        x = self.stages[0](images)
        maps = []
        for stage in list(self.stages)[1:]:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        maps = self._maps(images)
        features = []
        for e, (deep, shallow) in enumerate(zip(self.deep, self.shallow, strict=True)):
            x, own = deep(maps[-1]), shallow(maps[e % len(maps)])
            if own.shape != x.shape:  # of a network that rounds sizes otherwise
                own = F.adaptive_avg_pool2d(own, x.shape[2:])
            features.append(self.pool(x * own))
        return torch.cat(features, dim=1)


def _maps_among(shapes: list[torch.Size]) -> int:
    """How many of the first shapes are those of maps (C, H, H) of one size."""
    first = shapes[0]
    if len(first) != 3 or first[1] != first[2]:
        return 0
    others = (n for n, shape in enumerate(shapes) if len(shape) != 3 or shape[1:] != first[1:])
    return next(others, len(shapes))


def aligned(source: torch.Size, target: torch.Size) -> nn.Sequential:
    """3×3 convolutions of stride 2, one each time the side halves from a map (C, H, H) to another,
    that double the channels, the last to those of the target; each with batch norm and, but for the
    second, ReLU. Where the side is the same, one of stride 1."""
    halvings = round(math.log2(source[1] / target[1]))
    channels = [source[0] * 2**k for k in range(max(1, halvings))] + [target[0]]
    layers: list[nn.Module] = []
    for k, (before, after) in enumerate(pairwise(channels)):
        conv = nn.Conv2d(before, after, 3, stride=2 if halvings else 1, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight)
        layers += [conv, nn.BatchNorm2d(after), *([] if k == 1 else [nn.ReLU()])]
    return nn.Sequential(*layers)
