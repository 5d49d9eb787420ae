"""LIFT: few trained parameters beside a frozen network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import torch
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.core.settings import LogUniform, above, at_least
from lmdbench.methods.ldam_drw import CosineHead
from lmdbench.methods.logit_adjustment import logit_adjusted_loss
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

LEAST_WIDTH = 8  # of adapters, where the setting is left open


def _halves_of_timm(block: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    h = x + block.drop_path1(block.ls1(block.attn(block.norm1(x))))
    return h, block.drop_path2(block.ls2(block.mlp(block.norm2(h))))


def _halves_of_torchvision(block: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    y = block.ln_1(x)
    h = x + block.dropout(block.self_attention(y, y, y, need_weights=False)[0])
    return h, block.mlp(block.ln_2(h))


# Class of a ViT's blocks → what makes of a block's input what is before its MLP, and its MLP's part
HALVES: Mapping[str, Callable[[Any, Tensor], tuple[Tensor, Tensor]]] = {
    "timm.models.vision_transformer.Block": _halves_of_timm,
    "torchvision.models.vision_transformer.EncoderBlock": _halves_of_torchvision,
}


class Adapter(nn.Module):
    """a (W_u relu(W_d LN(h) + b_d) + b_u) of tokens (B, n, D), to be added to them; at first 0."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.down, self.up = nn.Linear(dim, width), nn.Linear(width, dim)
        self.scale = nn.Parameter(torch.ones(1))
        nn.init.kaiming_normal_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, h: Tensor) -> Tensor:
        return cast(Tensor, self.up(self.down(self.norm(h)).relu()) * self.scale)


class AdaptedBlock(nn.Module):
    """A ViT's block with an adapter beside its MLP: h, then h + MLP(LN h) + A(h)."""

    def __init__(self, block: nn.Module, dim: int, width: int) -> None:
        super().__init__()
        self.block, self.adapter = block, Adapter(dim, width)

    def forward(self, x: Tensor) -> Tensor:
        h, of_mlp = HALVES[_class_of(self.block)](self.block, x)
        return h + of_mlp + self.adapter(h)


def _class_of(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def adapter_width(num_classes: int, blocks: int) -> int:
    """2^max(0, ⌊log₂(C/(2 blocks))⌋), the exponent rounded towards 0."""
    return int(2 ** max(0, int(math.log2(num_classes / (2 * blocks)))))


def add_adapters(body: nn.Module, dim: int, width: int) -> None:
    """Give every block of a ViT an adapter, in place."""
    for parent in [*body.modules()]:
        for name, child in [*parent.named_children()]:
            if _class_of(child) in HALVES:
                setattr(parent, name, AdaptedBlock(child, dim, width))


def blocks_of(body: nn.Module) -> int:
    """How many blocks a ViT has; 0 for other networks."""
    return sum(_class_of(module) in HALVES for module in body.modules())


@register_method("lift")
class LIFT(Method):
    """A network as it is pretrained, frozen, with an adapter beside the MLP of each block,

        h ← h + Attn(LN h),  h ← h + MLP(LN h) + a (W_u relu(W_d LN'(h) + b_d) + b_u),

    and a cosine head, both trained for few epochs by logit adjustment:

        z_j = s cos(φ, w_j),  L = CE(z + log π, y).

    W_u, b_u begin at 0, so that the network is at first what it was, and w_j at the mean of its
    class's features. Of a network that is no ViT the biases are trained in place of adapters. It is
    meant for weights of a foundation model; on random ones it learns little."""

    title = "LIFT: lightweight fine-tuning"
    source = (
        "Shi et al., Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts, ICML 2024; "
        "as in the official code shijxcs/LIFT, models/peft_modules.py and configs/model"
    )
    deviations = (
        "The adapters' width is at least 8; the official rule, by the number of classes, gives 1 "
        "for fewer than 48 with twelve blocks.",
        "The head begins at the class means also where the weights are CLIP's; the official code "
        "then takes features of the classes' names.",
        "No test-time ensemble of five crops, which the official code reports beside the plain "
        "prediction; images are squeezed to a square, as for every method.",
        "The benchmark's strong view; official: crops of 8 % to all of the image, and flips.",
        "Biases alone, of all layers, are what the official code trains of CLIP's ResNets; these "
        "have batch norm in evaluation mode here.",
        "The cosine schedule goes down step by step; the official code's epoch by epoch.",
    )
    keeps_encoder = True
    needs_images = "its adapters stand within the encoder"
    authors = {"weight_decay": 5e-4}
    passes = (1, 0.5)  # weights of the encoder need no gradient
    replayable = True
    accumulates = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        epochs: int = 10
        lr: Annotated[float, LogUniform(1e-3, 1e-1)] = 0.01  # of SGD
        schedule: Literal["constant", "cosine"] = "cosine"
        width: int | None = None  # of adapters; none: by the number of classes, at least 8
        scale: float = 25.0  # s, of the cosines

        def __post_init__(self) -> None:
            super().__post_init__()
            above(self, scale=0)
            if self.width is not None:
                at_least(self, width=1)

    def build(self, encoder: Encoder) -> None:
        s, C, D = self.settings, self.task.num_classes, encoder.out_features
        if not all(p.requires_grad for p in encoder.parameters()):
            raise UserError("lift chooses what of the encoder is trained: leave out --tuning")
        encoder.requires_grad_(False)
        if blocks := blocks_of(encoder.body):
            width = s.width or max(LEAST_WIDTH, adapter_width(C, blocks))
            add_adapters(encoder.body, D, width)
        else:
            for name, parameter in encoder.named_parameters():
                parameter.requires_grad_(name.endswith("bias"))
        self.model = Classifier(encoder, CosineHead(D, C, s.scale))

    def train(self, mode: bool = True) -> LIFT:
        super().train(mode)
        self.model.encoder.eval()
        return self

    def epoch(self, number: int) -> dict[str, float]:
        if number == 0:
            self.start_head()
        return super().epoch(number)

    @torch.no_grad()
    def start_head(self) -> None:
        """The head's weights at the means of the classes' features; of a class without images
        where they were."""
        features, labels = self.features(self.task.train), self.task.train.host_labels
        weight = cast(CosineHead, self.model.head).weight
        for c in labels.unique().tolist():
            places = (labels == c).nonzero().flatten().to(features.device)
            mean = features[places].double().mean(dim=0)
            weight[c] = (mean / mean.norm().clamp(min=1e-12)).to(weight.dtype)

    def loss(self, batch: Batch) -> Tensor:
        logits = self.model(batch.images)
        return logit_adjusted_loss(logits, batch.labels, self.task.class_counts, 1.0)
