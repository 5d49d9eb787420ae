"""RIDE's second stage: which images need more experts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.core.settings import LogUniform, above, at_least
from lmdbench.methods.ride import RIDE, ExpertHeads, expert_classifier
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

HIDDEN = 16  # numbers that a router makes of features

logger = logging.getLogger("lmdbench")


class Routers(nn.Module):
    """Logits (experts − 1, B) of whether an image should go on after each expert but the last."""

    def __init__(self, width: int, experts: int, top: int) -> None:
        super().__init__()
        self.top = top
        self.hidden = nn.ModuleList(nn.Linear(width, HIDDEN) for _ in range(experts - 1))
        self.output = nn.Linear(top + HIDDEN, 1)  # shared

    def forward(self, features: Tensor, means: Tensor) -> Tensor:
        """features (experts, B, D) of each; means (experts, B, C): of the logits so far."""
        logits = []
        for layer, v, mean in zip(self.hidden, features, means[:-1], strict=False):
            highest = mean.topk(self.top, dim=1).values
            hidden = layer(F.normalize(v, dim=1)).relu()
            logits.append(self.output(torch.cat([highest, hidden], dim=1)).squeeze(1))
        return torch.stack(logits)


def running_means(logits: Tensor) -> Tensor:
    """Of the first, the first two, … of the experts' logits (experts, B, C)."""
    so_far = torch.arange(1, len(logits) + 1, device=logits.device)
    return logits.cumsum(dim=0) / so_far[:, None, None]


def helped(means: Tensor, labels: Tensor) -> Tensor:
    """Whether the mean so far is wrong and that of some more experts is right: (experts − 1, B)."""
    right = means.argmax(dim=2) == labels
    later = right.flip(0).cummax(dim=0).values.flip(0)
    return ~right[:-1] & later[1:]


def experts_used(goes_on: Tensor) -> Tensor:
    """1 and as many as routers (experts − 1, B) bool send an image on without a break: (B,)."""
    return 1 + goes_on.long().cumprod(dim=0).sum(dim=0)


@register_method("ride-routing")
class RIDERouting(Method):
    """Routers on the experts of a `ride` run, which stays as it is. After expert i an image goes on
    to the next one if its router says so, by the k highest mean logits so far and by 16 numbers of
    expert i's features:

        r_i = w · (top_k z̄_i, relu(W_i φ_i/‖φ_i‖ + b_i)) + b,  z̄_i the mean of experts 0 … i,
        L = mean_i BCE(r_i, t_i), positives weighted,

    with t_i = 1 where z̄_i is wrong and some later z̄_j right. The prediction is the mean of the
    experts that an image came to. It saves computing time where experts are left out, and is meant
    to lose nothing by it; with the released weight of 100 nearly all images see all experts."""

    title = "RIDE with routing (expert assignment)"
    source = (
        "Wang et al., Long-tailed Recognition by Routing Diverse Distribution-Aware Experts, ICLR "
        "2021, section 3; as in the official code frank-xwang/RIDE-LongTailRecognition, "
        "model/fb_resnets/EAResNet.py and configs/config_imbalance_cifar100_ride_ea.json"
    )
    deviations = (
        "All experts are computed for every image and left out of the mean, so that no time is "
        "saved here; the log says how many of the validation images came to how many experts.",
        "k is at most the number of classes; official: 30 of 100 (CIFAR-100-LT, and ImageNet-LT "
        "with a ResNet-10), 50 (ResNet-50).",
        "Without Nesterov momentum, which the official recipe has.",
    )
    needs_images = "its experts have stages of the encoder"
    authors = {"epochs": 5, "batch_size": 512, "weight_decay": 5e-4}
    starts_from = "ride"
    trains = "head"
    sampler = "class-balanced"
    passes = (2, 0)  # of a ResNet-18; its last two stages are nearly half of it
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.HeadSettings):
        experts: int = 3  # of the run that it starts from
        scale: float = 30.0  # of the cosines there
        top: int = 30  # k, logits that a router sees
        positive_weight: Annotated[float, LogUniform(1, 100)] = (
            100.0  # of images that more experts help; the smaller, the more are left out
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, experts=2, top=1)
            above(self, scale=0, positive_weight=0)

    def build(self, encoder: Encoder) -> None:
        s, C, width = self.settings, self.task.num_classes, encoder.out_features
        self.model = expert_classifier(encoder, C, s.experts, s.scale)
        self.model.head.requires_grad_(False)
        self.routers = Routers(width, s.experts, min(s.top, C))

    def start(self, ancestor: Method) -> None:
        if not isinstance(ancestor, RIDE):
            raise UserError(
                f"{self.name} routes between the experts of ride, and {ancestor.name} has none of "
                f"their kind: {self.start_instead(ancestor)}"
            )
        for key in ("experts", "scale"):
            own, theirs = getattr(self.settings, key), getattr(ancestor.settings, key)
            if own != theirs:
                raise UserError(
                    f"{self.name} has {key}={own}, and the ride run that it starts from "
                    f"{key}={theirs}: --set {key}={theirs}"
                )
        self.model.load_state_dict(ancestor.model.state_dict())

    def loss(self, batch: Batch) -> Tensor:
        means, routed = self.routed(batch.images)
        targets = helped(means, batch.labels).to(routed.dtype)
        weight = routed.new_full((), self.settings.positive_weight)
        return F.binary_cross_entropy_with_logits(routed, targets, pos_weight=weight)

    def routed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The means of the experts' logits so far (experts, B, C), and what the routers say."""
        head = cast(ExpertHeads, self.model.head)
        features = self.model.encoder(images)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            means = running_means(head.each(features))
            return means, self.routers(torch.stack(features.chunk(len(means), dim=1)), means)

    def predict(self, images: Tensor) -> Tensor:
        means, routed = self.routed(images)
        last = experts_used(routed > 0) - 1
        return means[last, torch.arange(len(last), device=last.device)]

    @torch.no_grad()
    def finish(self) -> None:
        """Log how many experts the validation images come to."""
        used = [torch.zeros(0, dtype=torch.long, device=self.task.device)]
        for batch in self.task.in_order(self.task.validation, self.evaluation_batch_size):
            with self.task.autocast():
                used.append(experts_used(self.routed(batch.images)[1] > 0))
        counts = torch.bincount(torch.cat(used), minlength=self.settings.experts + 1)[1:]
        logger.info("validation images by experts used, from 1: %s", counts.tolist())
