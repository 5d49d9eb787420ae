"""The blocks of a network, from its stem to its last one: what has a rate, a stochastic depth or a
checkpoint of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lmdbench.core.errors import UserError

# Class of a network → what the names of parameters in its blocks begin with
BLOCKS: Mapping[str, str] = {
    "ResNet": r"layer\d+\.\d+",
    "EfficientNet": r"features\.\d+\.\d+(?=\.block)",
    "MobileNetV3": r"features\.\d+(?=\.block)",
    "ConvNeXt": r"features\.\d+\.\d+(?=\.block|\.layer_scale)",
    "SwinTransformer": r"features\.\d+\.\d+(?=\.attn|\.mlp|\.norm1|\.norm2)",
    "RegNet": r"trunk_output\.block\d+\.block\d+-\d+",
    "VisionTransformer": r"encoder\.layers\.encoder_layer_\d+",
    "SmallNet": r"layer\d+",
    "EfficientNetLite": r"_blocks\.\d+",
}
DROP_PATH = re.compile(r"drop_path\d*$")  # timm's names of stochastic depth in a block
LAYER = "_layer_from_top"  # an attribute of modules, which copies of them keep


@dataclass(frozen=True)
class Parts:
    """Names of a network's parameters in the order in which they act.

    ``blocks``: name of each block's module → its parameters, and those between it and the block
    before. ``rest``: what follows the last one.
    """

    stem: tuple[str, ...]
    blocks: Mapping[str, tuple[str, ...]]
    rest: tuple[str, ...]


def parts_of(body: nn.Module) -> Parts:
    """The parts of a network. Raises UserError where its blocks aren't known."""
    prefix, block_of = _blocks_of(body)
    stem: list[str] = []
    blocks: dict[str, list[str]] = {}
    waiting: list[str] = []
    for name, _ in body.named_parameters():
        block = block_of(name.removeprefix(prefix))
        if block is None:
            waiting.append(name)
            continue
        if not blocks:
            stem, waiting = waiting, []
        blocks.setdefault(prefix + block, []).extend([*waiting, name])
        waiting = []
    if not blocks:
        raise _unknown(body)
    return Parts(tuple(stem), {k: tuple(names) for k, names in blocks.items()}, tuple(waiting))


def _blocks_of(body: nn.Module) -> tuple[str, Callable[[str], str | None]]:
    """What stands before the names of the network proper, and which block a parameter there is in,
    by its name behind that."""
    prefix, network = "", body
    while (patterns := _patterns(network)) is None:
        inner = [
            (n, m) for n, m in network.named_children() if next(m.parameters(), None) is not None
        ]
        if len(inner) != 1 or next(network.parameters(recurse=False), None) is not None:
            raise _unknown(body)
        ((name, network),) = inner
        prefix += f"{name}."

    def block_of(name: str) -> str | None:
        found = (re.match(pattern, name) for pattern in patterns)
        return next((match[0] for match in found if match), None)

    return prefix, block_of


def _patterns(network: nn.Module) -> list[str] | None:
    """Regular expressions of the names of blocks: the network's own, as timm's say them, or those
    known here; None for others."""
    said = getattr(network, "group_matcher", None)
    if callable(said):
        grouped = said(coarse=False)["blocks"]
        pairs = [(grouped, None)] if isinstance(grouped, str) else grouped
        return [pattern for pattern, order in pairs if order is None]
    known = (BLOCKS[one.__name__] for one in type(network).__mro__ if one.__name__ in BLOCKS)
    return next(([pattern] for pattern in known), None)


def _unknown(body: nn.Module) -> UserError:
    return UserError(
        f"the blocks of a {type(body).__name__} are not known; choose a --backbone whose are, as "
        "resnet18 or a ViT of timm"
    )


def mark_layers(body: nn.Module) -> None:
    """Note on a network's modules how many layers lie between each and the head: a block is one,
    the stem another, and what follows the last block none."""
    parts = parts_of(body)
    layers = [parts.stem, *parts.blocks.values()]
    depths = {name: len(layers) - i for i, names in enumerate(layers) for name in names}
    depths |= dict.fromkeys(parts.rest, 0)
    for name, depth in depths.items():
        setattr(body.get_submodule(name.rpartition(".")[0]), LAYER, depth)


def layers_from_top(model: nn.Module) -> dict[nn.Parameter, int]:
    """The layers between each parameter of marked modules and the head; modules within one that
    aren't marked are of its layer."""
    found: dict[nn.Parameter, int] = {}

    def look(module: nn.Module, depth: int | None) -> None:
        depth = getattr(module, LAYER, depth)
        if depth is not None:
            found.update(dict.fromkeys(module.parameters(recurse=False), depth))
        for child in module.children():
            look(child, depth)

    look(model, None)
    return found


def set_drop_path(body: nn.Module, rate: float) -> None:
    """Stochastic depth that rises from 0 in the first block to ``rate`` in the last. Raises
    UserError for a network that has no place for it."""
    from torchvision.ops import StochasticDepth

    blocks = list(_block_modules(body))
    found = 0
    for number, block in enumerate(blocks):
        own = rate * number / max(1, len(blocks) - 1)
        for owner, name in list(_drop_paths(block)):
            setattr(owner, name, StochasticDepth(own, "row"))
            found += 1
    if not found:
        raise UserError(
            f"drop_path: {type(body).__name__} has no stochastic depth; leave it out, or choose "
            "another --backbone"
        )


def _drop_paths(block: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Where a block leaves itself out: modules with the names of their attributes."""
    from torchvision.ops import StochasticDepth

    for module in block.modules():
        for name, value in [*module.named_children(), *vars(module).items()]:
            if isinstance(value, StochasticDepth) or (
                DROP_PATH.match(name) and (value is None or isinstance(value, nn.Module))
            ):
                yield module, name


def _block_modules(body: nn.Module) -> Iterator[nn.Module]:
    return (body.get_submodule(name) for name in parts_of(body).blocks)


def checkpoint_blocks(body: nn.Module) -> None:
    """Let each block keep no more than its inputs, and compute it again for the gradient."""
    for block in list(_block_modules(body)):
        block.forward = MethodType(
            _checkpointed, block
        )  # which a copy of it takes along as its own


@torch._disable_dynamo  # torch.compiler.disable takes a second to import, whoever needs it
def _checkpointed(block: nn.Module, *inputs: Any, **named: Any) -> Any:
    forward = type(block).forward
    if not torch.is_grad_enabled():
        return forward(block, *inputs, **named)
    contexts = partial(_contexts, block)
    return checkpoint(forward, block, *inputs, use_reentrant=False, context_fn=contexts, **named)


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What a block is computed in, and computed again."""
    return nullcontext(), _seen_before(block)


@contextmanager
def _seen_before(block: nn.Module) -> Iterator[None]:
    """Within it, batch norm's running statistics don't follow the batch a second time."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    counts = [None if count is None else count.clone() for *_, count in before]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for (norm, momentum, count), earlier in zip(before, counts, strict=True):
            norm.momentum = momentum
            if count is not None and earlier is not None:
                count.copy_(earlier)
