"""How a network is optimised, whatever the method: settings that all methods share, and what they
are made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.core.settings import WHERE_CHANGED, above, at_least, at_most
from lmdbench.models.classifier import Encoder
from lmdbench.models.parts import (
    checkpoint_blocks,
    layers_from_top,
    mark_layers,
    set_drop_path,
)

# What acts on an encoder that is trained, and so on no other
OF_ENCODER = ("layer_decay", "drop_path", "grad_checkpointing")
# What a method or a network may not be able to do
TRIED = {*OF_ENCODER, "optimizer", "accumulate"}
NOT_DECAYED = ("token", "pos_embed", "relative_position")  # in names of parameters, by AdamW


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """Settings of the optimiser, by default SGD alone."""

    warmup_steps: ClassVar[int | None] = None  # in which the rate rises; None: with each update

    optimizer: Annotated[Literal["sgd", "adamw"], WHERE_CHANGED] = (
        "sgd"  # adamw: momentum is its β₁; norms, biases and tokens of the encoder don't decay
    )
    warmup: Annotated[float, WHERE_CHANGED] = 0.0  # share of the training in which the rate rises
    layer_decay: Annotated[float, WHERE_CHANGED] = (
        1.0  # the rate of each of the encoder's blocks, as a share of that of the next one
    )
    accumulate: Annotated[int, WHERE_CHANGED] = 1  # batches whose gradients make one update
    clip_norm: Annotated[float, WHERE_CHANGED] = (
        0.0  # the most that the gradient's norm may be; 0: whatever it is
    )
    drop_path: Annotated[float | None, WHERE_CHANGED] = (
        None  # stochastic depth of the encoder's last block, less before; none: the network's own
    )
    grad_checkpointing: Annotated[bool, WHERE_CHANGED] = (
        False  # compute each block of the encoder twice rather than keep it: less memory
    )

    def __post_init__(self) -> None:
        at_least(self, warmup=0, accumulate=1, clip_norm=0)
        at_most(self, warmup=1, layer_decay=1)
        above(self, layer_decay=0)
        if self.drop_path is not None:
            at_least(self, drop_path=0)
            at_most(self, drop_path=0.9)


@dataclass(frozen=True)
class Place:
    """The place of a batch among those whose gradients are summed before an update.

    ``share``: its images among theirs; None where it is the only one.
    """

    first: bool = True
    last: bool = True
    share: float | None = None


def places(sizes: Sequence[int], accumulate: int) -> list[Place]:
    """The places of an epoch's batches, of so many images each."""
    if accumulate == 1:
        return [Place() for _ in sizes]
    found = []
    for start in range(0, len(sizes), accumulate):
        group = sizes[start : start + accumulate]
        for number, size in enumerate(group):
            last = number == len(group) - 1
            found.append(Place(number == 0, last, size / sum(group)))
    return found


def warmup_factor(progress: float, share: float, steps: int | None, update: float = 0.0) -> float:
    """The learning rate's factor over the first ``share`` of the training; then 1.

    In so many equal steps, as 1/5, 2/5, … 1; linearly where ``steps`` is None, ``update`` being an
    update's share of the training, so that none is without effect.
    """
    if progress >= share:
        return 1.0
    if steps is None:
        return min(1.0, (progress + update) / share)
    step = math.floor(steps * progress / share + 1e-6)  # k/n · n may fall short of k
    return min(1.0, (step + 1) / steps)


def make_optimizer(
    parameters: Iterable[nn.Parameter], settings: Any, lr: float, model: nn.Module
) -> torch.optim.Optimizer:
    """The optimiser that the settings name, of parameters of ``model``.

    A group of parameters for each rate and weight decay among them; one, by default.
    """
    s, wanted = settings, list(parameters)
    adamw = s.optimizer == "adamw"
    depths = layers_from_top(model) if s.layer_decay != 1 else {}
    kept = _not_decayed(model) if adamw else set()
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for parameter in wanted:
        key = depths.get(parameter, 0), parameter in kept
        groups.setdefault(key, []).append(parameter)
    described = [
        {
            "params": members,
            "lr": lr * s.layer_decay**depth,
            "weight_decay": 0.0 if undecayed else s.weight_decay,
        }
        for (depth, undecayed), members in groups.items()
    ]
    usual = {"lr": lr, "weight_decay": s.weight_decay, "fused": True}
    if adamw:
        on_gpu = any(parameter.is_cuda for parameter in wanted)  # where steps become graphs
        return torch.optim.AdamW(described, betas=(s.momentum, 0.999), capturable=on_gpu, **usual)
    return torch.optim.SGD(described, momentum=s.momentum, **usual)


def as_given(optimizer: torch.optim.Optimizer, rate: float) -> float:
    """A rate as an optimiser has it that is given a tensor: AdamW computes with all of a number's
    digits, and would not do the same in a step that is replayed."""
    if isinstance(optimizer, torch.optim.AdamW):
        return torch.tensor(rate, dtype=torch.float32).item()
    return rate


def _not_decayed(model: nn.Module) -> set[nn.Parameter]:
    """Norms, biases and tokens of the encoders within, as timm leaves them undecayed."""
    return {
        parameter
        for encoder in model.modules()
        if isinstance(encoder, Encoder)
        for name, parameter in encoder.named_parameters()
        if parameter.ndim < 2 or any(word in name for word in NOT_DECAYED)
    }


def clip(optimizers: Iterable[torch.optim.Optimizer], most: float) -> None:
    """Shorten the gradient of all their parameters together to a norm of ``most``."""
    groups = (group for optimizer in optimizers for group in optimizer.param_groups)
    nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], most)


def check_optimisation(method: Any, contract: Any) -> None:
    """Raise UserError for a setting that could do nothing in a method, which is being built.
    ``contract``: the class ``Method``."""
    s, cls = method.settings, type(method)
    of_contract = cls.step is contract.step and cls.epoch is contract.epoch
    if getattr(s, "accumulate", 1) > 1 and not (of_contract or cls.accumulates):
        raise UserError(
            f"{method.name} can't accumulate batches, as its steps are its own: leave it out"
        )
    keeps = method.trains == "head" or method.keeps_encoder
    for name, value in of_encoder(s).items() if keeps else ():
        raise UserError(
            f"{method.name}.{name}={value} acts on the training of the encoder, which "
            f"{method.name} leaves as it is: leave it out"
        )


def check_made(method: Any) -> None:
    """Raise UserError where the settings name an optimiser and the method has others alone."""
    chosen = getattr(method.settings, "optimizer", "sgd")
    if chosen != "sgd" and not method.made_as_set:
        raise UserError(
            f"{method.name} makes its optimisers itself, whatever optimizer says: leave it out"
        )


def of_encoder(settings: Any) -> dict[str, Any]:
    """The settings that act on the encoder's training, where they are not as by default."""
    values = {name: getattr(settings, name, None) for name in OF_ENCODER}
    return {k: v for k, v in values.items() if v not in (None, getattr(Optimisation, k))}


def prepare(encoder: Encoder, settings: Any) -> None:
    """Mark the blocks of an encoder where their rates differ, and give them the stochastic depth
    and the checkpoints that the settings say."""
    if getattr(settings, "layer_decay", 1) != 1:
        mark_layers(encoder.body)
    if getattr(settings, "drop_path", None) is not None:
        set_drop_path(encoder.body, settings.drop_path)
    if getattr(settings, "grad_checkpointing", False):
        checkpoint_blocks(encoder.body)
