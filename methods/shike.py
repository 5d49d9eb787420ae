"""SHIKE: experts on features of different depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import Choice, LogUniform, above, at_least, at_most
from lmdbench.methods.ride import ExpertHeads
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.models.heterogeneous import HeterogeneousExperts
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(softmax(a) ‖ softmax(b)), its summands' mean over images and classes. Logits (B, C)."""
    log_a, log_b = teacher.log_softmax(dim=1), student.log_softmax(dim=1)
    return (log_a.exp() * (log_a - log_b)).mean()


def teacher_of_the_rest(logits: Tensor, labels: Tensor) -> Tensor:
    """For the hardest class but the own one, by the experts' mean: that mean; for each other class
    the most of any expert; for the own one 0: (B, C). logits (E, B, C), labels (B,)."""
    mean, most = logits.mean(dim=0), logits.max(dim=0).values
    own = F.one_hot(labels, mean.shape[1]).bool()
    hardest = mean.detach().masked_fill(own, -torch.inf).argmax(dim=1, keepdim=True)
    teacher = most.scatter(1, hardest, mean.gather(1, hardest))
    return teacher.masked_fill(own, 0.0)


def shike_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    transfer: float = 10.0,
    mutual: float = 1.0,
    scale: float = 30.0,
) -> Tensor:
    """Σ_e CE(z_e, y) + τ Σ_e D(t ‖ s_e) + μ Σ_{i≠j} D(z_j ‖ z_i), see ``SHIKE``.

    logits (E, B, C) float within ± ``scale``, labels (B,) int64; ``transfer`` τ, ``mutual`` μ.
    """
    own = F.one_hot(labels, logits.shape[2]).bool()
    teacher = teacher_of_the_rest(logits, labels)
    E = len(logits)
    individual = E * F.cross_entropy(logits.flatten(0, 1), labels.repeat(E))
    rest = sum(divergence(teacher, z.masked_fill(own, -scale)) for z in logits)
    pairs = sum(divergence(logits[j], logits[i]) for i, j in permutations(range(E), 2))
    return individual + transfer * rest + mutual * pairs


def balanced_loss(logits: Tensor, labels: Tensor, class_counts: Tensor) -> Tensor:
    """Σ_e CE(z_e + log n, y). logits (E, B, C) float, labels (B,) int64, class_counts (C,)."""
    E = len(logits)
    balanced = (logits + class_counts.log()).flatten(0, 1)
    return E * F.cross_entropy(balanced, labels.repeat(E))


@register_method("shike")
class SHIKE(Method):
    """Experts that share all stages but the last, which each has its own of; its map is multiplied
    by one of a shallower stage, expert by expert another, brought to its size. First each learns by
    cross-entropy, and they teach one another: of all classes, and once more without the own class,
    where the hardest other class h is played down to the experts' mean, and the rest have the most
    that any expert gives (30 being the scale of the cosines z):

        L = Σ_e CE(z_e, y) + τ Σ_e D(t ‖ s_e) + μ Σ_{i≠j} D(z_j ‖ z_i),
        D(a ‖ b) = 1/(B·C) Σ softmax(a) (log softmax(a) − log softmax(b)),
        t_h = mean_e z_e,h,  t_j = max_e z_e,j,  t_y = 0,  s_e = z_e but −30 at y.

    In the last tenth of the epochs all else stays as it is, and new heads learn by balanced
    softmax, L = Σ_e CE(z_e + log n, y). The prediction is the experts' mean."""

    title = "SHIKE: self-heterogeneous integration with knowledge excavation"
    source = (
        "Jin et al., Long-Tailed Visual Recognition via Self-Heterogeneous Integration with "
        "Knowledge Excavation, CVPR 2023; official code jinyan-06/SHIKE, cifarTrain.py and "
        "networks.py (CIFAR-100-LT)"
    )
    deviations = (
        "Only the network for CIFAR is released, which has three stages; of others the experts "
        "take the maps of the (at most) three stages before the last, by as many convolutions as "
        "the side halves.",
        "t has logit 0 at the own class where s has −30, and nothing is detached, as released: the "
        "term there pulls the other logits up while they lie below 0.",
        "D is a mean over the classes too, as released, so that with few classes the transfer "
        "weighs more: with 8 it has 12.5 times its weight with 100.",
        "In the last phase batch norm goes on in training mode, as released, and weight decay acts "
        "on the new heads alone.",
        "The experts' last stages begin with the same weights, pretrained ones where there are "
        "any, and the rest at random; in the official code all begin at random.",
        "Both phases have the benchmark's learning rate and schedule; official: from .025 to .125 "
        "in 5 epochs, then a cosine from .15 to 0 at epoch 180, and the like for the new heads "
        "with a peak of .1; views are AutoAugment with Cutout.",
    )
    needs_images = "its experts train stages of the encoder"
    authors = {"epochs": 200, "lr": 0.15, "weight_decay": 5e-4, "schedule": "cosine"}
    passes = (2, 2)  # before the new heads; of a ResNet-18 1.7
    replayable = True
    accumulates = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        experts: Annotated[int, Choice(2, 3, 4)] = 3  # how many there are
        transfer: Annotated[float, LogUniform(0.1, 10.0)] = 10.0  # τ, of the other classes' logits
        mutual: float = 1.0  # μ, of what experts learn of each other
        scale: float = 30.0  # of the cosines
        heads_after: float = 0.9  # share of the epochs before new heads; 1: there are none

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, experts=1, transfer=0, mutual=0, heads_after=0)
            at_most(self, heads_after=1)
            above(self, scale=0)

    def build(self, encoder: Encoder) -> None:
        E, D = self.settings.experts, encoder.out_features
        body = HeterogeneousExperts(encoder.body, E)
        self.model = Classifier(Encoder(body, E * D), self.new_heads(D))

    def new_heads(self, width: int) -> ExpertHeads:
        s = self.settings
        return ExpertHeads(width, self.task.num_classes, s.scale, s.experts)

    @property
    def heads_from(self) -> int:
        """The epoch, from 0, at which the last phase begins: never the first."""
        share = 1 - self.settings.heads_after
        return max(1, self.epochs - math.ceil(share * self.epochs - 1e-9))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        trained = (p for p in self.parameters() if p.requires_grad)
        heads = self.new_optimizer(self.model.head.parameters())
        return {"all": self.new_optimizer(trained), "heads": heads}

    def phase(self) -> bool:
        """Whether the new heads learn."""
        return self.progress >= self.heads_from / self.epochs

    def epoch(self, number: int) -> dict[str, float]:
        if number == self.heads_from:
            width = self.model.encoder.out_features // self.settings.experts
            self.model.head.load_state_dict(self.new_heads(width).state_dict())
        return super().epoch(number)

    def loss(self, batch: Batch) -> Tensor:
        s, heads_alone = self.settings, self.phase()
        with torch.set_grad_enabled(not heads_alone):
            features = self.model.encoder(batch.images)
        with torch.autocast(features.device.type, enabled=False):
            logits = cast(ExpertHeads, self.model.head).each(features.float())
        if heads_alone:
            return balanced_loss(logits, batch.labels, self.task.class_counts)
        weights = {"transfer": s.transfer, "mutual": s.mutual}
        return shike_loss(logits, batch.labels, **weights, scale=s.scale)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        with self.task.autocast():
            loss = self.loss(batch)
        self.update(loss, "heads" if self.phase() else "all")
        return {"loss": loss.detach()}
