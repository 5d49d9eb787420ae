"""Relation-aware representation learning."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.data.batches import Batch
from lmdbench.method import Method, register_method
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.settings import LogUniform, Times, at_least, at_most


@register_method("rrl")
class RRL(Method):
    """Stage 1 of LMD. A student sees the strong view of an image and a teacher, the moving average
    of the student, the weak one. Beside its cross-entropy the student is drawn to the teacher's
    relations between the images of a batch (z zᵀ), between feature channels (zᵀ z), and to the
    teacher's probabilities:

        L = CE + 10·L_batch + 10·L_channel + 5·L_prob, the last three after 21 % of the epochs.

    The teacher averages parameters only. It works in training mode, by the statistics of the batch,
    and is thrown away in the end.
    """

    title = "Relation-aware representation learning (stage 1 of LMD; alone: LMD without ICC)"
    source = (
        "MRC of Pan et al., MICCAI 2023, and stage 1 of LMD, Computers in Biology and Medicine "
        "188:109772, 2025 (arXiv 2502.03238); losses as in the released code"
    )
    deviations = (
        "As released, not as printed in 2023: there the Gram matrices are not normalised, their "
        "difference's L2 norm is taken instead of its squared sum, L_channel is divided by the "
        "feature width instead of the batch size, and the cross-entropy is of the weak view.",
        "Relations are between the 128 images of one device; the released training gathers them "
        "over four devices of 128 images.",
        "The last, incomplete batch of an epoch is used; the released code drops it.",
        "The relation losses start after a share of the epochs, so that a shorter training keeps "
        "the proportion; the released code starts them in the 22nd epoch of 100.",
        "Images are resized once, with antialiasing; the released stage 1 resizes without.",
    )
    views = ("strong", "weak")
    scaffolding = ("teacher",)
    passes = (2, 1)  # student and teacher
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        batch_weight: Annotated[float, LogUniform(1.0, 100.0)] = (
            10.0  # of L_batch, the relations between images; 0 is off
        )
        channel_weight: Annotated[float, Times(0.1, 10.0)] = (
            10.0  # of L_channel, which grows as width/batch: 512/512 in the released training
        )
        prob_weight: Annotated[float, LogUniform(0.5, 50.0)] = (
            5.0  # of L_prob, the teacher's probabilities; 0 is off
        )
        relations_after: float = 0.21  # share of the epochs before these three losses act
        teacher_decay: float = 0.999  # of the moving average, at most

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
        logits = self.model.head(z)
        loss = F.cross_entropy(logits, batch.labels)
        if not self.phase():
            return loss
        with torch.no_grad():
            z_teacher = self.teacher.model.encoder(weak)
            logits_teacher = self.teacher.model.head(z_teacher)
        with torch.autocast(z.device.type, enabled=False):
            z, z_teacher = z.float(), z_teacher.float()
            return (
                loss
                + s.batch_weight * batch_relation_loss(z, z_teacher)
                + s.channel_weight * channel_relation_loss(z, z_teacher)
                + s.prob_weight
                * prediction_consistency_loss(logits.float(), logits_teacher.float())
            )

    def step(self, batch: Batch) -> dict[str, Tensor]:
        logs = super().step(batch)
        self.teacher.follow(self.model)
        return logs


class Teacher(nn.Module):
    """The exponential moving average of a model's parameters. Its buffers are its own."""

    model: Classifier
    steps: Tensor  # updates done, on the device so that none waits for it

    def __init__(self, student: Classifier, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.model = copy.deepcopy(student).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.float32))

    @torch.no_grad()
    def follow(self, student: Classifier) -> None:
        """θ_t ← α θ_t + (1 − α) θ_s with α = min(1 − 1/(steps + 1), decay)."""
        share = (1 / (self.steps + 1)).clamp(min=1 - self.decay)
        mine = tuple(self.model.parameters())
        change = torch._foreach_sub(tuple(student.parameters()), mine)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(mine, change)
        self.steps += 1


def batch_relation_loss(z_student: Tensor, z_teacher: Tensor) -> Tensor:
    """Σ (S_s − S_t)² / B with S = z zᵀ, each row divided by its L2 norm. z (B, D)."""
    return _relation_loss(z_student @ z_student.T, z_teacher @ z_teacher.T) / len(z_student)


def channel_relation_loss(z_student: Tensor, z_teacher: Tensor) -> Tensor:
    """Σ (S_s − S_t)² / B with S = zᵀ z, each row divided by its L2 norm. z (B, D)."""
    return _relation_loss(z_student.T @ z_student, z_teacher.T @ z_teacher) / len(z_student)


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
