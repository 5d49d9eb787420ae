"""Logit adjustment after training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from lmdbench.core.settings import Uniform, at_least
from lmdbench.methods.logit_adjustment import log_prior
from lmdbench.methods.tau_norm import linear_head
from lmdbench.training.method import Method, register_method


@register_method("logit-adjustment-posthoc")
class PosthocLogitAdjustment(Method):
    """The model of a cross-entropy run, with the log class prior taken out of its logits:

        prediction argmax_j z_j − τ log π_j.

    Nothing is trained. At τ = 1 it is the best decision for the balanced error, as far as the
    model's probabilities are right for the training prior."""

    title = "Logit adjustment (post hoc)"
    source = (
        "Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, eq. 9; official code "
        "google-research/google-research, logit_adjustment, mode posthoc"
    )
    deviations = (
        "τ is 1, as the theory and the official code's default have it; the paper also shows what "
        "a τ chosen on held-out images gains (from memory).",
        "The run it starts from has the benchmark's recipe; the official one that of "
        "`logit-adjustment`.",
    )
    starts_from = "ce"
    trains = "head"
    epochs = 0

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        tau: Annotated[float, Uniform(0.0, 2.0)] = (
            1.0  # how strongly the prior is taken out; 0 is the run it starts from
        )

        def __post_init__(self) -> None:
            at_least(self, tau=0)

    def start(self, ancestor: Method) -> None:
        super().start(ancestor)
        self.model.head.load_state_dict(linear_head(ancestor, self).state_dict())

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {}

    def predict(self, images: Tensor) -> Tensor:
        return self.model(images) - self.settings.tau * log_prior(self.task.class_counts)
