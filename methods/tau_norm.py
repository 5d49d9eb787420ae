"""τ-normalised classifier."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.core.settings import at_least
from lmdbench.evaluation.metrics import balanced_accuracy
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method

TAUS = tuple(step / 10 for step in range(21))  # 0, .1, … 2

logger = logging.getLogger("lmdbench")


def linear_head(ancestor: Method, method: Method) -> nn.Linear:
    """The head that ``method`` takes over. Raises UserError where it is not linear."""
    head = ancestor.model.head
    if not isinstance(head, nn.Linear):
        raise UserError(
            f"{method.name} takes over a linear head, and the head of {ancestor.name} is a "
            f"{type(head).__name__}: {method.start_instead(ancestor)}"
        )
    return head


def tau_normalised(weight: Tensor, tau: float) -> Tensor:
    """w_j / ‖w_j‖^τ, and 0 where w_j is. weight (C, D)."""
    norms = weight.norm(dim=1, keepdim=True)
    return weight / norms.masked_fill(norms == 0, 1.0) ** tau


def best_tau(features: Tensor, labels: Tensor, weight: Tensor, taus: Iterable[float]) -> float:
    """The τ of the best balanced accuracy; the smallest of those that tie.

    features (N, D), labels (N,) int64, weight (C, D).
    """

    def score(tau: float) -> float:
        logits = features @ tau_normalised(weight, tau).T
        exact = balanced_accuracy(labels.cpu().numpy(), logits.cpu().numpy())
        return round(exact, 9)  # equal recalls of other classes sum up alike

    return max(sorted(taus), key=score)


@register_method("tau-norm")
class TauNormalisation(Method):
    """The head of a cross-entropy run with its weights scaled, and without its bias:

        logit_j = (w_j / ‖w_j‖^τ)·φ.

    Weights of large classes grow longer in training; τ = 1 makes all alike, and τ = 0 leaves them.
    Nothing is trained: of τ = 0, .1, … 2 the best on the validation images is taken, by balanced
    accuracy."""

    title = "τ-normalised classifier"
    source = (
        "Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, "
        "ICLR 2020, section 4; grid and dropped bias from the official code, tau_norm.py"
    )
    deviations = (
        "τ is chosen by balanced accuracy, and of several that tie, the smallest is taken; the "
        "official code prints that accuracy for every τ and leaves the choice to its reader.",
    )
    starts_from = "ce"
    trains = "head"
    epochs = 0
    chosen_on_validation = ("tau",)
    tau: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        tau: float | None = None  # none: chosen on validation

        def __post_init__(self) -> None:
            if self.tau is not None:
                at_least(self, tau=0)

    def build(self, encoder: Encoder) -> None:
        head = nn.Linear(encoder.out_features, self.task.num_classes, bias=False)
        self.model = Classifier(encoder, head)
        self.register_buffer("tau", torch.zeros(()))

    def start(self, ancestor: Method) -> None:
        super().start(ancestor)
        with torch.no_grad():
            cast(nn.Linear, self.model.head).weight.copy_(linear_head(ancestor, self).weight)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {}

    @torch.no_grad()
    def finish(self) -> None:
        weight, tau = cast(nn.Linear, self.model.head).weight, self.settings.tau
        if tau is None:
            validation = self.task.validation
            if len(validation) == 0:
                raise UserError(
                    "tau-norm chooses τ on validation images, and this split has none: give it one "
                    "(--set tau=0.7)"
                )
            tau = best_tau(self.features(validation), validation.labels, weight, TAUS)
            logger.info("tau %g, chosen on validation", tau)
        self.tau.fill_(tau)
        weight.copy_(tau_normalised(weight, tau))
