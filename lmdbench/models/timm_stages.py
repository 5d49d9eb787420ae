"""timm's networks as chains of stages, family by family."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.models.normalisation import NAME as RENORMALISE

GROUPS = 4  # of a plain transformer's blocks: as many as other networks have stages


@dataclass(frozen=True)
class Family:
    """The attributes of a network in the order in which they act: the modules of its stem, its
    stages (one attribute that holds them, or one each), and what comes before the head."""

    stem: tuple[str, ...]
    stages: tuple[str, ...]
    after: tuple[str, ...] = ()


# Class of timm's → where its stages are
FAMILIES: Mapping[str, Family] = {
    "ResNet": Family(("conv1", "bn1", "act1", "maxpool"), ("layer1", "layer2", "layer3", "layer4")),
    "ConvNeXt": Family(("stem",), ("stages",), ("norm_pre",)),
    "EfficientNet": Family(("conv_stem", "bn1"), ("blocks",), ("conv_head", "bn2")),
    "MobileNetV3": Family(("conv_stem", "bn1"), ("blocks",)),
    "RegNet": Family(("stem",), ("s1", "s2", "s3", "s4"), ("final_conv",)),
    "ByobNet": Family(("stem",), ("stages",), ("final_conv",)),
    "SwinTransformer": Family(("patch_embed",), ("layers",), ("norm",)),
    "SwinTransformerV2": Family(("patch_embed",), ("layers",), ("norm",)),
    "MaxxVit": Family(("stem",), ("stages",), ("norm",)),
}


def timm_stages(body: nn.Module) -> list[nn.Module]:
    """Modules that are the network when one follows the other, the stem first, the head in the
    last. They share its parameters. Raises UserError for a family that is not known."""
    kind = type(body).__name__
    if kind in ("VisionTransformer", "Eva"):
        return _of_blocks(body)
    if kind not in FAMILIES:
        raise UserError(
            f"the stages of a {kind} of timm are not known; choose another --backbone: a "
            f"{', '.join([*FAMILIES, 'VisionTransformer'])} or Eva of timm"
        )
    family = FAMILIES[kind]
    stem = [body.get_submodule(name) for name in family.stem]
    stages = [body.get_submodule(name) for name in family.stages]
    if len(stages) == 1:
        stages = list(stages[0].children())
    after = [body.get_submodule(name) for name in family.after]
    known = (*family.stem, *family.stages, *family.after)
    head = Step(_part(body, lambda name: name not in known), _head)
    return _chain(body, nn.Sequential(*stem), stages, [*after, head])


def _of_blocks(body: Any) -> list[nn.Module]:
    """A plain transformer's: groups of its blocks."""
    if getattr(body, "rope_mixed", False):
        raise UserError(
            "the rotary embeddings of this network differ from block to block, so that it has no "
            "stages; choose another --backbone"
        )
    blocks = list(body.blocks)
    size = -(-len(blocks) // GROUPS)
    groups = [blocks[i : i + size] for i in range(0, len(blocks), size)]
    if getattr(body, "rope", None) is None:
        stages: list[nn.Module] = [nn.Sequential(*group) for group in groups]
    else:
        dynamic = body.dynamic_img_size or not hasattr(body.rope, "feat_shape")
        shape = body.patch_embed.grid_size if dynamic else None
        stages = [Rotated(group, body.rope, shape) for group in groups]
    at_end = ("norm", "fc_norm", "attn_pool", "head_drop", "head")
    stem = Step(_part(body, lambda name: name not in ("blocks", *at_end)), _tokens)
    head = Step(_part(body, lambda name: name in at_end[1:], parameters=False), _head)
    return _chain(body, stem, stages, [body.norm, head])


def _chain(
    body: nn.Module, stem: nn.Module, stages: list[nn.Module], after: Iterable[nn.Module]
) -> list[nn.Module]:
    *before, last = stages
    normalised = [module for name, module in body.named_children() if name == RENORMALISE]
    return [nn.Sequential(*normalised, stem), *before, nn.Sequential(last, *after)]


def _part(body: nn.Module, has: Callable[[str], bool], *, parameters: bool = True) -> nn.Module:
    """A network that shares with ``body`` those of its modules that it has, and what it knows."""
    part = copy.copy(body)
    own = {name: m for name, m in body.named_children() if has(name) and name != RENORMALISE}
    absent = {name: None for name, module in body._modules.items() if module is None}
    part._modules = {**own, **absent}
    part._parameters = dict(body._parameters) if parameters else {}
    part._forward_pre_hooks = OrderedDict()
    return part


class Step(nn.Module):
    """A function of a network, as a module."""

    def __init__(self, network: nn.Module, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.network, x)


def _head(network: Any, x: Tensor) -> Tensor:
    features: Tensor = network.forward_head(x)
    return features.flatten(1)


def _tokens(network: Any, images: Tensor) -> Tensor:
    """Patches with their positions, (B, N, D), before the first block."""
    x = network._pos_embed(network.patch_embed(images))
    x = x[0] if isinstance(x, tuple) else network.patch_drop(x)
    tokens: Tensor = network.norm_pre(x)
    return tokens


class Rotated(nn.Module):
    """Blocks whose attention has rotary embeddings, for a grid of ``shape`` or the usual one."""

    def __init__(
        self, blocks: Iterable[nn.Module], rope: nn.Module, shape: tuple[int, int] | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.rope: Any = rope
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        embedding = self.rope.get_embed(*(() if self.shape is None else (self.shape,)))
        for block in self.blocks:
            x = block(x, rope=embedding)
        return x
