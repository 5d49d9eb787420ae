"""Class-conditional SAM: the first stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import LogUniform, Uniform, at_least, at_most
from lmdbench.methods.mixup import mix_up
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

TINY = 1e-12  # least norm that is divided by


def averaging(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """A (B, B) with which A @ x is, for each image, the mean of x over the batch's images of its
    class. labels (B,) int64."""
    same = (labels[:, None] == labels).to(dtype)
    return same / same.sum(dim=1, keepdim=True)


def radii(class_counts: Tensor, head: nn.Linear, rho: float) -> Tensor:
    """ρ₀ √‖θ‖ P^¼ / (√2 (n_c − 1)^¼) of each class, with θ the P numbers of the head: (C,)."""
    theta = torch.cat([p.detach().flatten() for p in head.parameters()])
    others = (class_counts - 1).clamp(min=1)
    size = rho * (theta.norm() + TINY).sqrt() * theta.numel() ** 0.25
    return size / (2**0.5 * others**0.25)


def perturbed_logits(
    logits: Tensor, features: Tensor, slopes: Tensor, labels: Tensor, radii: Tensor
) -> Tensor:
    """Logits (B, C) of a linear head whose W and b are each moved for an image's class c by
    r_c g/‖g‖^1.5, g the gradient of the mean loss of the batch's images of that class.

    features (B, D); slopes (B, C): the gradient of each image's loss by its logits; radii (C,).
    No W is moved: of W's gradient G = mean_k s_k φ_kᵀ, G φ_i and ‖G‖ follow from products φ_k·φ_i.
    """
    slopes, fixed = slopes.detach(), features.detach()
    mean = averaging(labels, slopes.dtype)
    of_weight = (mean * (features @ fixed.T)) @ slopes
    of_bias = mean @ slopes
    products = (slopes @ slopes.T) * (fixed @ fixed.T)
    norm_of_weight = ((mean @ products) * mean).sum(dim=1, keepdim=True).clamp(min=0).sqrt()
    norm_of_bias = of_bias.norm(dim=1, keepdim=True)
    moved = (
        direction / norm.clamp(min=TINY) ** 1.5
        for direction, norm in ((of_weight, norm_of_weight), (of_bias, norm_of_bias))
    )
    return logits + radii[labels, None] * sum(moved)


@register_method("cc-sam-stage1")
class ClassConditionalSAMStage1(Method):
    """Cross-entropy ℓ of mixed images, and cross-entropy of the first label with the head, W and b,
    moved up the gradient of the class's own loss, the further the rarer the class c:

        L = (1 − r) mean ℓ_i + r mean CE(head_{θ+ε_c}(φ_i), y_i),
        ε_c = ρ₀ √‖θ‖ P^¼ / (√2 (n_c − 1)^¼ √‖g_c‖) · g_c/‖g_c‖,  g_c = ∇ mean_{y_i = c} ℓ_i,

    with θ the head's P numbers, ‖θ‖ over all of them and g_c for W and b apart. At the released
    ρ₀ = 10⁻⁶ the head moves by less than .00003 of ‖θ‖: the stage is then mixup with a share r of
    cross-entropy by the first label."""

    title = "Class-conditional SAM, stage 1 (as released)"
    source = (
        "Zhou et al., Class-Conditional Sharpness-Aware Minimization for Deep Long-Tailed "
        "Recognition, CVPR 2023; as in the official code zzpustc/CC-SAM, train_cifar.py"
    )
    deviations = (
        "The head alone is perturbed, as in the released code, whose option to perturb the encoder "
        "is never read; its recipe for ImageNet-LT and Places-LT isn't released.",
        "n_c − 1 is at least 1: for a class of one image the official code divides by zero.",
        "λ ~ Beta(.2, .2), as of `mixup` here; official (CIFAR): Beta(1, 1).",
        "The last, incomplete batch of an epoch is used; the official code drops it.",
        "The learning rate rises from a fifth, and then follows the benchmark's schedule; "
        "official: from a third, and a tenth of it from each of the epochs 160 and 180 of 200 on.",
        "The last epoch's weights go on to stage 2, unless `--selection best` is given; official: "
        "those that were best on validation.",
    )
    needs_images = "it mixes images, and the encoder sees the mixture"
    authors = {"alpha": 1.0, "epochs": 200, "batch_size": 64, "lr": 0.1, "weight_decay": 2e-4}

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        rho: Annotated[float, LogUniform(1e-6, 1e-1)] = 1e-6  # ρ₀, of the radius; 0: no move
        flat: Annotated[float, Uniform(0.0, 1.0)] = 0.5  # r, share of the moved head's loss
        alpha: float = 0.2  # of mixup's Beta distribution; 0: images as they are

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, rho=0, flat=0, alpha=0)
            at_most(self, flat=1)

    def loss(self, batch: Batch) -> Tensor:
        s, counts = self.settings, self.task.class_counts
        images, others, share = mix_up(batch, s.alpha, self.task.streams)
        head = cast(nn.Linear, self.model.head)
        features = self.model.encoder(images).to(head.weight.dtype)
        logits = self.model.logits(features)
        first, second = (F.one_hot(y, len(counts)) for y in (batch.labels, others))
        targets = share * first + (1 - share) * second
        with torch.autocast(features.device.type, enabled=False):
            slopes = logits.softmax(dim=1) - targets
            radius = radii(counts, head, s.rho)
            moved = perturbed_logits(logits, features, slopes, batch.labels, radius)
        mixed = F.cross_entropy(logits, targets)
        return (1 - s.flat) * mixed + s.flat * F.cross_entropy(moved, batch.labels)
