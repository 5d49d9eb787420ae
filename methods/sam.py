"""Sharpness-aware minimisation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import LogUniform, at_least
from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.methods.cb_focal import class_balanced_weights
from lmdbench.methods.ldam_drw import CosineHead, lowered, margins
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

MARGIN, SCALE, BETA, WEIGHTS_AFTER = 0.5, 30.0, 0.9999, 0.8  # of ldam-drw, as it has them


def ascent(gradients: list[Tensor], rho: float) -> list[Tensor]:
    """ε = ρ g/(‖g‖ + 10⁻¹²), the norm over all tensors together; 0 where that is not finite."""
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    scale = torch.where(norm.isfinite(), rho / (norm + 1e-12), 0)
    return [torch.where(norm.isfinite(), scale * gradient, 0) for gradient in gradients]


@contextlib.contextmanager
def displaced(tensors: list[Tensor], by: list[Tensor]) -> Iterator[None]:
    """Within it each tensor is moved by so much; after it, it is what it was, to the bit."""
    before = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        torch._foreach_add_(tensors, by)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(tensors, before)


def statistics(module: nn.Module) -> list[Tensor]:
    """What its batch norms keep of the batches they have seen."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [buffer for norm in norms for buffer in norm.buffers()]


@register_method("sam")
class SharpnessAware(Method):
    """Flat minima: the gradient is taken not where the parameters θ are, but where the loss is
    highest nearby, a step up its gradient:

        ε = ρ g/‖g‖,  g = ∇L(θ),  θ ← θ − lr · ∇L(θ + ε).

    At ρ = 0 it is the method of the loss: `ce`, `balanced-softmax` or `ldam-drw`. Of long tails
    it is the rare classes whose minima are sharp, and that gain most."""

    title = "Sharpness-aware minimisation (SAM)"
    source = (
        "Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization, ICLR "
        "2021, algorithm 1; for long tails Rangwani et al., Escaping Saddle Points for Effective "
        "Generalization on Class-Imbalanced Data, NeurIPS 2022; as in davda54/sam, settings of the "
        "official code val-iisc/Saddle-LongTail, run.sh and cifar_train_sam.py (CIFAR-100-LT)"
    )
    deviations = (
        "ρ is the same throughout; Rangwani et al. raise it on ImageNet-LT, from .05 to .1 after 5 "
        "of 90 epochs and to .5 after 60.",
        "The authors' values are Rangwani et al.'s for cross-entropy on CIFAR-100-LT; with LDAM or "
        "deferred weights their ρ is .8, Foret et al.'s .05.",
        "The benchmark's schedule; theirs (CIFAR): after a warm-up the learning rate times .01 "
        "after 160 and once more after 180 of 200 epochs.",
        "With loss=ldam-drw its own settings are as `ldam-drw` has them by default.",
    )
    authors = {"rho": 0.2, "epochs": 200, "lr": 0.1, "weight_decay": 2e-4, "warmup": 0.025}
    passes = (2, 2)
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        rho: Annotated[float, LogUniform(0.01, 1.0)] = 0.05  # ρ, how far up; 0: the loss alone
        loss: Literal["ce", "balanced-softmax", "ldam-drw"] = "ce"  # whose minima are to be flat
        statistics: Literal["both", "first"] = (
            "both"  # of batch norm: updated in both forward passes, or only at θ
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, rho=0)

    def build(self, encoder: Encoder) -> None:
        if self.settings.loss != "ldam-drw":
            super().build(encoder)
            return
        head = CosineHead(encoder.out_features, self.task.num_classes, SCALE)
        self.model = Classifier(encoder, head)

    def phase(self) -> bool:
        """Whether ldam-drw weights classes."""
        return self.settings.loss == "ldam-drw" and self.progress >= WEIGHTS_AFTER

    def losses(self, batch: Batch) -> Tensor:
        """Of each image, (B,)."""
        counts, labels = self.task.class_counts, batch.labels
        logits = self.model(batch.images)
        if self.settings.loss == "balanced-softmax":
            return balanced_softmax_loss(logits, labels, counts, "none")
        if self.settings.loss == "ldam-drw":
            logits = lowered(logits, labels, SCALE * margins(counts, MARGIN))
        losses = F.cross_entropy(logits, labels, reduction="none")
        if self.phase():
            weights = class_balanced_weights(counts, BETA)[labels]
            losses = losses * weights / weights.mean()
        return losses

    def loss(self, batch: Batch) -> Tensor:
        return self.losses(batch).mean()

    def flat_weights(self) -> Tensor:
        """Of each class's images in the loss that is to be flat, (C,)."""
        return torch.ones_like(self.task.class_counts)

    def plain_weights(self) -> Tensor | None:
        """Of each class's images in a loss that is added as it is, (C,); None: there is none."""
        return None

    def step(self, batch: Batch) -> dict[str, Tensor]:
        if self.settings.rho == 0:
            return super().step(batch)
        flat, plain = self.flat_weights()[batch.labels], self.plain_weights()
        with self.task.autocast():
            losses = self.losses(batch)
        if plain is not None:
            rest = self.gradients((plain[batch.labels] * losses).mean(), again=True)
        epsilon = ascent(self.gradients((flat * losses).mean()), self.settings.rho)
        with displaced([*self.optimized], epsilon), self.kept_statistics():
            with self.task.autocast():
                perturbed = (flat * self.losses(batch)).mean()
            gradients = self.gradients(perturbed)
        if plain is not None:
            gradients = [g + r for g, r in zip(gradients, rest, strict=True)]
        self.update_along(gradients)
        return {"loss": losses.detach().mean(), "perturbed_loss": perturbed.detach()}

    @contextlib.contextmanager
    def kept_statistics(self) -> Iterator[None]:
        """Where the settings say so, batch norm's statistics are afterwards what they were."""
        kept = statistics(self) if self.settings.statistics == "first" else []
        before = [buffer.clone() for buffer in kept]
        yield
        for buffer, value in zip(kept, before, strict=True):
            buffer.copy_(value)
