"""Nested collaborative learning."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Choice, Uniform, at_least, at_most
from lmdbench.methods.ride import ExpertHeads, expert_logits
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

NEVER = -1e9  # logit of a class that is left out of a softmax; finite, so that its gradient is 0


class Networks(nn.Module):
    """Several copies of a body: images (B, 3, H, W) to the features of all, (B, networks · D)."""

    def __init__(self, body: nn.Module, networks: int) -> None:
        super().__init__()
        self.bodies = nn.ModuleList([body, *(copy.deepcopy(body) for _ in range(networks - 1))])

    def forward(self, images: Tensor) -> Tensor:
        features = [body(images) for body in self.bodies]
        return torch.cat([f.flatten(1) for f in features], dim=1)


def hard_classes(logits: Tensor, labels: Tensor, number: int) -> Tensor:
    """Of each image its class and the ``number`` − 1 others with the largest logits: (B, C) bool.

    logits (B, C) float, labels (B,) int64.
    """
    first = logits.detach().scatter(1, labels[:, None], torch.inf)
    nothing = torch.zeros_like(first, dtype=torch.bool)
    return nothing.scatter(1, first.topk(number, dim=1).indices, True)


def mutual_divergence(logits: Tensor) -> Tensor:
    """1/(K − 1) Σ_{i≠j} KL(p_j ‖ p_i), each a mean over the images, with log (p_i + 1e-9).

    logits (K, B, C) float, K networks; 0 for a single one. Both ends are trained.
    """
    K, B, _ = logits.shape
    log_p = logits.log_softmax(dim=2)
    p = log_p.exp()
    student = (p + 1e-9).log()
    pairs = [(p[j] * (log_p[j] - student[i])).sum() / B for i, j in permutations(range(K), 2)]
    return torch.stack(pairs).sum() / (K - 1) if pairs else logits.new_zeros(())


def ncl_loss(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    hard: int,
    mutual_weight: float = 0.6,
    *,
    restricted: bool = False,
) -> Tensor:
    """Σ_k CE(a_k, y) + Σ_k CE(h_k, y) + w M(a) + w M(h), see ``NestedCollaborative``.

    logits (K, B, C) float of K networks, labels (B,) int64, class_counts (C,); ``hard``: classes in
    the hard set, other classes have logit 0 or, where ``restricted``, no share in the softmax.
    """
    balanced = logits + class_counts.log()
    others = ~hard_classes(logits[0], labels, hard)
    partial = balanced.masked_fill(others, NEVER if restricted else 0.0)
    K, losses = len(logits), []
    for z in (balanced, partial):
        individual = K * F.cross_entropy(z.flatten(0, 1), labels.repeat(K))
        losses.append(individual + mutual_weight * mutual_divergence(z))
    return losses[0] + losses[1]


@register_method("ncl")
class NestedCollaborative(Method):
    """Several whole networks on the same images. Each learns by balanced softmax, and from the
    others; both on all classes, and once more on the hard classes of each image, which are its own
    and those with the largest logits of the first network:

        L = Σ_k CE(a_k, y) + Σ_k CE(h_k, y) + w M(a) + w M(h),  a_k = z_k + log n,
        M(a) = 1/(K − 1) Σ_{i≠j} KL(p_j ‖ p_i),  p = softmax(a),

    with h_k = a_k for hard classes and 0 for all others. The prediction is the mean of the
    networks' plain logits."""

    title = "Nested collaborative learning (NCL)"
    source = (
        "Li et al., Nested Collaborative Learning for Long-Tailed Visual Recognition, CVPR 2022; "
        "official code Bazinga699/NCL, lib/loss/loss.py and lib/core/combiner.py, settings of "
        "config/CIFAR/CIFAR100/cifar100_im100_NCL.yaml (CIFAR-100-LT)"
    )
    deviations = (
        "In h the classes that are not hard have logit 0, as in the official code, and so a share "
        "of the softmax that depends on the scale of n; hard=restricted leaves them out.",
        "The hard set has 30 % of the classes, as officially, but at least two.",
        "The networks begin with the same weights, pretrained ones where there are any, and their "
        "heads at random; in the official code all begin at random.",
        "All networks see the benchmark's strong view; the official one is AutoAugment with "
        "Cutout.",
        "The paper also reports the best single network; here it is always their mean.",
        "The benchmark's schedule, without Nesterov momentum; official: with it, a learning rate "
        "that rises from a third over 5 epochs, and a tenth of it after 320 and once more after "
        "360 of 400.",
        "Without the contrastive loss that the official code can add on CIFAR: `ncl-contrast`.",
    )
    needs_images = "it trains several networks"
    authors = {"epochs": 400, "batch_size": 64, "lr": 0.1, "weight_decay": 2e-4}
    passes = (3, 3)  # one a network
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        networks: Annotated[int, Choice(2, 3)] = 3  # K, how many there are
        mutual: Annotated[float, Uniform(0.0, 1.0)] = 0.6  # w, of what networks learn of each other
        hard_share: float = 0.3  # of the classes that are hard for an image; at least two are
        hard: Literal["zeroed", "restricted"] = "zeroed"  # others: logit 0, or out of the softmax

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, networks=1, mutual=0, hard_share=0)
            at_most(self, hard_share=1)

    def build(self, encoder: Encoder) -> None:
        K, D = self.settings.networks, encoder.out_features
        self.model = Classifier(
            Encoder(Networks(encoder.body, K), K * D),
            ExpertHeads(D, self.task.num_classes, None, K),
        )

    def loss(self, batch: Batch) -> Tensor:
        return self.nested_loss(expert_logits(self.model, batch.images), batch.labels)

    def nested_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of the networks' logits (K, B, C) and labels (B,)."""
        s, counts = self.settings, self.task.class_counts
        hard = max(2, round(s.hard_share * len(counts)))
        restricted = s.hard == "restricted"
        return ncl_loss(logits, labels, counts, hard, s.mutual, restricted=restricted)
