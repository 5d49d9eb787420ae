"""Relation-aware representation learning."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import LogUniform, at_least, at_most
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

DECAY_IMAGES = 512  # of an update of the released training, for which it states the teacher's decay


@register_method("rrl")
class RRL(Method):
    """Stage 1 of LMD. A student sees the strong view of an image and a teacher, the moving average
    of the student, the weak one. Beside its cross-entropy the student is drawn to the teacher's
    relations between the images of a batch (z zᵀ), between feature channels (zᵀ z), and to the
    teacher's probabilities:

        L = CE + 2.5·L_batch + 2.5·L_channel + 5·L_prob, the last three after 21 % of the epochs.

    The teacher averages parameters only. It works in training mode, by the statistics of the batch,
    and is thrown away in the end.

    The released training runs on four processes of 128 images. The relation losses see all 512, and
    the average of the processes' gradients is a quarter of theirs: the weights 10, 10, 5 of its
    configuration act as 2.5, 2.5, 5. That is the default here, with L_channel divided by the width
    of the features (512 there, as are the images), so that no weight depends on batch size or
    backbone. The configuration taken at its word: `batch_weight=10`, `channel_weight=10`,
    `channel_mean=images`."""

    title = "Relation-aware representation learning (stage 1 of LMD; alone: LMD without ICC)"
    version = 2
    source = (
        "MRC of Pan et al., MICCAI 2023, and stage 1 of LMD, Computers in Biology and Medicine "
        "188:109772, 2025 (arXiv 2502.03238); losses as in the released code, weights as they act "
        "in its training on four processes"
    )
    deviations = (
        "As released, not as printed in 2023: there the Gram matrices are not normalised, their "
        "difference's L2 norm is taken instead of its squared sum, and the cross-entropy is of the "
        "weak view.",
        "L_channel is divided by the feature width, as printed; the released code divides by the "
        "images of all processes, which is the same for 512 images and ResNet-18: "
        "channel_mean=images.",
        "An update is of 128 images, and relations are between these; in the released training, of "
        "four processes, it is of 512 images, over which the student's batch norm is synchronised "
        "(the teacher's sees the 128 of a process; with batch_size=512 it sees 512 here).",
        "The last, incomplete batch of an epoch is used; the released code drops it.",
        "The relation losses start after a share of the epochs, so that a shorter training keeps "
        "the proportion; the released code starts them in the 22nd epoch of 100.",
        "Images are resized once, with antialiasing; the released stage 1 resizes without.",
    )
    authors = {
        "batch_size": 512,
        "batch_weight": 10.0,
        "channel_weight": 10.0,
        "channel_mean": "images",
    }
    views = ("strong", "weak")
    scaffolding = ("teacher",)
    passes = (2, 1)  # student and teacher
    replayable = True
    accumulates = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        batch_weight: Annotated[float, LogUniform(0.25, 25.0)] = (
            2.5  # of L_batch, the relations between images; 0 is off; the authors' 10 acts as 2.5
        )
        channel_weight: Annotated[float, LogUniform(0.25, 25.0)] = (
            2.5  # of L_channel, those between channels; 0 is off; the authors' 10 acts as 2.5
        )
        channel_mean: Literal["width", "images"] = (
            "width"  # what L_channel is divided by; images, as released: it grows as width / images
        )
        prob_weight: Annotated[float, LogUniform(0.5, 50.0)] = (
            5.0  # of L_prob, the teacher's probabilities; 0 is off
        )
        relations_after: float = 0.21  # share of the epochs before these three losses act
        teacher_decay: float = (
            0.999  # of the moving average, at most, for each 512 images, whatever the batch size
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, batch_weight=0, channel_weight=0, prob_weight=0, relations_after=0)
            at_least(self, teacher_decay=0)
            at_most(self, relations_after=1, teacher_decay=1)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        self.teacher = Teacher(self.model, self.settings.teacher_decay)

    def start(self, ancestor: Method) -> None:
        super().start(ancestor)
        self.teacher.model.load_state_dict(self.model.state_dict())

    def phase(self) -> bool:
        """Whether the relation losses act."""
        s = self.settings
        acting = any((s.batch_weight, s.channel_weight, s.prob_weight))
        return acting and self.progress >= s.relations_after

    def loss(self, batch: Batch) -> Tensor:
        s = self.settings
        strong, weak = batch.views
        z = self.model.encoder(strong)
        logits = self.model.logits(z)
        loss = F.cross_entropy(logits, batch.labels)
        if not self.phase():
            return loss
        with torch.no_grad():
            z_teacher = self.teacher.model.encoder(weak)
            logits_teacher = self.teacher.model.logits(z_teacher)
        with torch.autocast(z.device.type, enabled=False):
            z, z_teacher = z.float(), z_teacher.float()
            return (
                loss
                + s.batch_weight * batch_relation_loss(z, z_teacher)
                + s.channel_weight * channel_relation_loss(z, z_teacher, s.channel_mean)
                + s.prob_weight
                * prediction_consistency_loss(logits.float(), logits_teacher.float())
            )

    def step(self, batch: Batch) -> dict[str, Tensor]:
        logs = super().step(batch)
        self.teacher.follow(self.model, len(batch))
        return logs


class Teacher(nn.Module):
    """The exponential moving average of a model's parameters. Its buffers are its own.

    ``decay`` is that of ``DECAY_IMAGES`` images, so that the average looks back over as many images
    in small batches as in large ones.
    """

    model: Classifier
    images: Tensor  # seen so far, on the device so that none waits for it

    def __init__(self, student: Classifier, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.model = copy.deepcopy(student).requires_grad_(False)
        self.register_buffer("images", torch.zeros((), dtype=torch.float32))

    @torch.no_grad()
    def follow(self, student: Classifier, batch_size: int) -> None:
        """θ_t ← α θ_t + (1 − α) θ_s after an update on so many images, with
        α = min(1 − batch_size / images so far, decay^(batch_size/512)): at first a plain mean.

        In batches of 512 that is min(1 − 1/(updates + 1), decay), as released.
        """
        self.images += batch_size
        share = (batch_size / self.images).clamp(min=1 - self.decay ** (batch_size / DECAY_IMAGES))
        mine = tuple(self.model.parameters())
        change = torch._foreach_sub(tuple(student.parameters()), mine)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(mine, change)


def batch_relation_loss(z_student: Tensor, z_teacher: Tensor) -> Tensor:
    """Σ (S_s − S_t)² / B with S = z zᵀ, each row divided by its L2 norm. z (B, D)."""
    return _relation_loss(z_student @ z_student.T, z_teacher @ z_teacher.T) / len(z_student)


def channel_relation_loss(
    z_student: Tensor, z_teacher: Tensor, mean: Literal["images", "width"] = "images"
) -> Tensor:
    """Σ (S_s − S_t)² / B with S = zᵀ z, rows divided by their L2 norm; or by D (``mean`` "width").
    z (B, D)."""
    divisor = z_student.shape[0 if mean == "images" else 1]
    return _relation_loss(z_student.T @ z_student, z_teacher.T @ z_teacher) / divisor


def _relation_loss(S_student: Tensor, S_teacher: Tensor) -> Tensor:
    # F.normalize leaves the row of a dead channel at zero, where a plain quotient is not a number.
    return (F.normalize(S_student, dim=1) - F.normalize(S_teacher, dim=1)).square().sum()


def prediction_consistency_loss(logits_student: Tensor, logits_teacher: Tensor) -> Tensor:
    """KL(p_t ‖ p_s), summed over classes and divided by the batch size. Logits (B, C)."""
    return F.kl_div(
        logits_student.log_softmax(dim=1),
        logits_teacher.log_softmax(dim=1),
        reduction="batchmean",
        log_target=True,
    )
