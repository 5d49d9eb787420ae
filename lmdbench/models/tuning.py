"""How much of an encoder is trained: all of it, or few parameters in it or beside it.

``full``           all
``head``           none: the encoder is frozen (see ``backbones.frozen``)
``lora``           a product of two narrow matrices that is added to a weight: Hu et al., LoRA,
                   ICLR 2022. ΔW = alpha/rank · up · down, with up zero at first
``adapter``        a bottleneck beside each MLP: Chen et al., AdaptFormer, NeurIPS 2022.
                   MLP(x) + 0.1 · up(ReLU(down(x))), with up zero at first
``norm``           what norms scale and shift by, and all biases (of these alone: Zaken et al.,
                   BitFit, ACL 2022)
``last-blocks=N``  the last N blocks, and what follows them
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.models.classifier import Encoder
from lmdbench.models.parts import parts_of

Kind = Literal["full", "head", "lora", "adapter", "norm", "last-blocks"]
FULL = "full"
ADAPTER_SCALE = 0.1
LORA = ".parametrizations."  # in names of tensors, between a layer and its weight
# What the projections of attention are called, in timm and torch
ATTENTION = re.compile("q|k|v|kv|qkv|[qkv]_proj|proj|in_proj|out_proj")


@dataclass(frozen=True)
class Tuning:
    """What is trained of an encoder. ``str`` gives the text that names it, whatever order its parts
    were written in.

    ``targets``: names of the layers that have a LoRA, or of modules around them; none: attention's
    projections, or where a network has no attention all convolutions and linear layers.
    """

    kind: Kind = "full"
    rank: int = 8  # of lora
    alpha: float = 16.0  # of lora
    targets: tuple[str, ...] = ()  # of lora
    width: int = 64  # of adapter
    blocks: int = 1  # of last-blocks

    def __str__(self) -> str:
        if self.kind == "last-blocks":
            return f"last-blocks={self.blocks}"
        if self.kind == "adapter":
            return f"adapter:width={self.width}"
        if self.kind == "lora":
            targets = f",targets={'+'.join(self.targets)}" if self.targets else ""
            return f"lora:rank={self.rank},alpha={self.alpha:g}{targets}"
        return self.kind


# Of each kind that has parts: their names, and what makes a value of a text
PARTS: Mapping[str, Mapping[str, Callable[[str], object]]] = {
    "lora": {
        "rank": lambda text: _number(text, int, 0),
        "alpha": lambda text: _number(text, float, 0),
        "targets": lambda text: _names(text),
    },
    "adapter": {"width": lambda text: _number(text, int, 1)},
    "last-blocks": {"blocks": lambda text: _number(text, int, 1)},
}


def parse_tuning(text: str) -> Tuning:
    """The tuning that a text names, such as ``lora:rank=4,targets=qkv+proj``. Raises UserError."""
    kind, colon, rest = text.replace("last-blocks=", "last-blocks:blocks=").partition(":")
    if kind not in get_args(Kind):
        raise UserError(f"--tuning {text}: {unknown('tuning', kind, list(get_args(Kind)))}")
    if kind == "last-blocks" and not rest:
        raise UserError(f"--tuning {text}: say how many, as in last-blocks=2")
    known, values = PARTS.get(kind, {}), {}
    wants = f"takes {', '.join(known)}" if known else "takes nothing more"
    for part in rest.split(",") if colon else ():
        name, _, value = part.partition("=")
        if not part:
            raise UserError(f"--tuning {text}: {kind} {wants}; leave out the colon or comma")
        if name not in known:
            raise UserError(f"--tuning {text}: {kind} {wants}, not {part!r}")
        if name in values:
            raise UserError(f"--tuning {text}: {name} is given twice; keep one of them")
        try:
            values[name] = known[name](value)
        except ValueError as error:
            raise UserError(f"--tuning {text}: {name} is {value!r}, but must be {error}") from None
    return Tuning(kind=cast(Kind, kind), **values)  # type: ignore[arg-type]


def _number(text: str, kind: type[int] | type[float], least: int) -> int | float:
    what = f"a {'whole ' if kind is int else ''}number from {least} on"
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(what) from None
    if not least <= value < math.inf:
        raise ValueError(what)
    return value


def _names(text: str) -> tuple[str, ...]:
    names = tuple(sorted({*text.split("+")}))
    if not all(re.fullmatch(r"\w+", name) for name in names):
        raise ValueError("names of layers with + between, as in qkv+proj")
    return names


def tune(encoder: Encoder, tuning: Tuning, *, trained: bool = True) -> None:
    """Give an encoder, in place, the parameters that a tuning trains, and freeze the others.

    ``trained``: False where its method trains none of them, as they come from the run that it
    starts from. What is frozen, of modules that hold nothing trained, stays in evaluation mode.
    Raises UserError for what the network doesn't have.
    """
    if tuning.kind == "full":
        return
    encoder.requires_grad_(False)
    _TUNE[tuning.kind](encoder.body, tuning)
    if trained:
        _keep_still(encoder.body)


def _add_lora(body: nn.Module, tuning: Tuning) -> None:
    weights = _targets(body, tuning.targets)
    for module, name in weights if tuning.rank else ():
        weight = getattr(module, name)
        low_rank = LowRank(weight, tuning.rank, tuning.alpha)
        parametrize.register_parametrization(module, name, low_rank, unsafe=True)


def check_rank(body: nn.Module, tuning: Tuning) -> None:
    """Raise UserError for a LoRA of a rank that none of the weights it is beside can have."""
    if tuning.kind != "lora":
        return
    weights = [getattr(module, name) for module, name in _targets(body, tuning.targets)]
    largest = max(min(weight.flatten(1).shape) for weight in weights)
    if tuning.rank > largest:
        raise UserError(
            f"--tuning {tuning}: rank is {tuning.rank}, but the weights of these layers of "
            f"{type(body).__name__} are of rank {largest} at most; give {largest} or less"
        )


class LowRank(nn.Module):
    """W + alpha/rank · up · down, of a weight W (out, …) whose rows are taken as flat."""

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows = weight.flatten(1)
        self.down = nn.Parameter(rows.new_empty(rank, rows.shape[1]))
        self.up = nn.Parameter(rows.new_zeros(rows.shape[0], rank))
        self.register_buffer("scale", rows.new_tensor(alpha / rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight + (self.scale * (self.up @ self.down)).view(weight.shape)


def _targets(body: nn.Module, names: tuple[str, ...]) -> list[tuple[nn.Module, str]]:
    """Modules with the names of weights in them, as ``Tuning.targets`` says."""
    layers = dict(_layers(body))
    if not names:
        attention = {path: found for path, found in layers.items() if _is_attention(path)}
        return list((attention or layers).values())
    if names == ("all",):
        return list(layers.values())
    words = {word: None for path in layers for word in path.split(".") if not word.isdecimal()}
    for name in names:
        if name not in words:
            raise UserError(f"--tuning lora: targets: {unknown('layer', name, ['all', *words])}")
    return [found for path, found in layers.items() if {*names} & {*path.split(".")}]


def _layers(body: nn.Module) -> Iterator[tuple[str, tuple[nn.Module, str]]]:
    """Path of each convolution and linear layer → its module, and the name of its weight there.
    torch's own attention has one for queries, keys and values together, called ``in_proj``."""
    for path, module in body.named_modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield f"{path}.in_proj", (module, "in_proj_weight")
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            yield path, (module, "weight")


def _is_attention(path: str) -> bool:
    *around, last = path.split(".")
    return bool(ATTENTION.fullmatch(last)) and any(
        "attn" in word or "attention" in word for word in around
    )


def _add_adapters(body: nn.Module, tuning: Tuning) -> None:
    """Beside every MLP: a module ``mlp`` of linear layers whose input is as wide as its output."""
    found = [
        (owner, mlp, width)
        for owner in body.modules()
        if isinstance(mlp := getattr(owner, "mlp", None), nn.Module)
        and (width := _width(mlp)) is not None
    ]
    if not found:
        raise UserError(
            f"--tuning adapter: {type(body).__name__} has no MLP beside which an adapter could "
            "stand, as the blocks of a ViT have; choose lora, norm or last-blocks=N"
        )
    for owner, mlp, width in found:
        owner.mlp = Adapted(mlp, width, tuning.width)


def _width(mlp: nn.Module) -> int | None:
    linear = [module for module in mlp.modules() if isinstance(module, nn.Linear)]
    fits = linear and linear[0].in_features == linear[-1].out_features
    return linear[0].in_features if fits else None


class Adapted(nn.Module):
    """MLP(x) + 0.1 · up(ReLU(down(x))): x (…, D) to (…, D)."""

    def __init__(self, mlp: nn.Module, width: int, bottleneck: int) -> None:
        super().__init__()
        self.inner = mlp
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.inner(x) + ADAPTER_SCALE * self.up(self.down(x).relu()))


def _train_norms(body: nn.Module, _: Tuning) -> None:
    for module in body.modules():
        is_norm = "Norm" in type(module).__name__
        for name, parameter in module.named_parameters(recurse=False):
            if is_norm or name.endswith("bias"):
                parameter.requires_grad_(True)


def _train_last_blocks(body: nn.Module, tuning: Tuning) -> None:
    parts = parts_of(body)
    if tuning.blocks > len(parts.blocks):
        raise UserError(
            f"--tuning last-blocks={tuning.blocks}: {type(body).__name__} has "
            f"{len(parts.blocks)} blocks"
        )
    last = list(parts.blocks.values())[-tuning.blocks :]
    for name in [*parts.rest, *(name for names in last for name in names)]:
        body.get_parameter(name).requires_grad_(True)


_TUNE: Mapping[str, Callable[[nn.Module, Tuning], None]] = {
    "lora": _add_lora,
    "adapter": _add_adapters,
    "norm": _train_norms,
    "last-blocks": _train_last_blocks,
}


def _keep_still(module: nn.Module) -> None:
    """Keep modules in evaluation mode whose parameters are all frozen, with all in them."""
    parameters = list(module.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        for part in module.modules():
            vars(part)["train"] = MethodType(_in_evaluation, part)  # a copy has its own of it
            part.training = False
    else:
        for child in module.children():
            _keep_still(child)


def _in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001
    return nn.Module.train(module, False)


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a plain network that computes what a network with LoRAs of that state does, up
    to rounding. Raises UserError for adapters, which no plain network has, and for a LoRA that does
    not fit its weight."""
    own = {}
    for name, tensor in state.items():
        if ".mlp.inner." in name:
            raise UserError(
                "these weights are of a network with adapters beside its MLPs, which can't be "
                "merged into it; start from the run itself, --starts-from"
            )
        before, is_lora, after = name.partition(LORA)
        if not is_lora:
            own[name] = tensor
        elif after.endswith(".original"):
            weight = after.removesuffix(".original")
            own[f"{before}.{weight}"] = tensor + _product(state, f"{before}{LORA}{weight}", tensor)
    return own


def _product(state: Mapping[str, Tensor], lora: str, weight: Tensor) -> Tensor:
    """What a LoRA of a state adds to a weight, in the weight's shape."""
    try:
        up, down, scale = (state[f"{lora}.0.{part}"] for part in ("up", "down", "scale"))
        return (scale * (up @ down)).view(weight.shape)
    except (KeyError, RuntimeError):
        raise UserError(
            f"{lora}.0 is not a LoRA (up, down and scale) that fits its weight "
            f"{tuple(weight.shape)}; take the run's own model.safetensors"
        ) from None
