"""Nested collaborative learning with contrast."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import above, at_least, at_most
from lmdbench.methods.ncl import NestedCollaborative
from lmdbench.methods.paco import Queue
from lmdbench.methods.ride import ExpertHeads
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import register_method
from lmdbench.training.task import Batch


def instance_contrastive_loss(
    queries: Tensor, keys: Tensor, queue: Tensor, present: Tensor, temperature: float
) -> Tensor:
    """Cross-entropy of each query's own key against the queue: softmax over q·k/τ of both.

    queries and keys (B, D), queue (M, D) of unit length; present (M,) bool: what of it counts.
    """
    own = (queries * keys).sum(dim=1, keepdim=True)
    others = (queries @ queue.T).masked_fill(~present, -torch.inf)
    similarities = torch.cat([own, others], dim=1) / temperature
    return -similarities.log_softmax(dim=1)[:, 0].mean()


@register_method("ncl-contrast")
class NestedCollaborativeContrastive(NestedCollaborative):
    """`ncl`, and in each network a contrastive loss without labels (MoCo): an image's projected
    features q_k are drawn to the key of another view of it, by a moving average of the network, and
    away from the last keys, which are in a queue:

        L = L_NCL + w Σ_k CE([q_k·own key, q_k·queue] / τ, own key).

    The prediction is that of `ncl`."""

    title = "Nested collaborative learning with contrast (NCL, contrastive)"
    source = (
        "Li et al., Nested Collaborative Learning for Long-Tailed Visual Recognition, CVPR 2022; "
        "official code Bazinga699/NCL, lib/loss/loss.py, lib/core/combiner.py and "
        "lib/net/network.py, settings of "
        "config/CIFAR/CIFAR100/cifar100_im100_NCL_with_contrastive.yaml (CIFAR-100-LT)"
    )
    deviations = (
        *NestedCollaborative.deviations[:-1],
        "The moving averages begin as the networks, and their projectors follow, too; in the "
        "official code they begin with other random weights, and their projectors stay as they "
        "are at random.",
        "They follow before a batch's keys are made, as in MoCo; in the official code after it.",
        "The keys' view is the benchmark's strong view, too; the official one is SimCLR's.",
        "The queue is empty at first and no longer than the training set; the official one starts "
        "full of random directions.",
        "Keys' batches are not shuffled for batch norm, which on one device changes nothing.",
    )
    views = ("strong", "strong")
    scaffolding = ("projectors", "averaged", "queues")
    passes = (6, 3)  # queries and keys of each network
    accumulates = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(NestedCollaborative.Settings):
        contrast_weight: float = 1.0  # w, of the contrastive loss
        temperature: float = 0.2  # τ, of the similarities
        width: int = 64  # of the projected features
        queue: int = 1024  # keys kept from earlier batches, at most one for each training image
        key_decay: float = 0.999  # of the moving average whose features are the keys

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, contrast_weight=0, width=1, queue=0, key_decay=0)
            at_most(self, key_decay=1)
            above(self, temperature=0)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        s, D, K = self.settings, encoder.out_features, self.settings.networks
        self.projectors = nn.ModuleList(
            nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, s.width)) for _ in range(K)
        )
        networks = nn.ModuleList([self.model.encoder, self.projectors])
        self.averaged = copy.deepcopy(networks).requires_grad_(False)
        length = min(s.queue, len(self.task.train))
        self.queues = nn.ModuleList(Queue(length, s.width) for _ in range(K))

    def loss(self, batch: Batch) -> Tensor:
        """Also puts the batch's keys into the queues, for those that follow."""
        query_view, key_view = batch.views
        key_encoder, key_projectors = self.averaged
        features = self.model.encoder(query_view)
        with torch.no_grad():
            key_features = key_encoder(key_view)
        with torch.autocast(features.device.type, enabled=False):
            logits = cast(ExpertHeads, self.model.head).each(features.float())
            queries = projected(features.float(), self.projectors)
            keys = projected(key_features.float(), cast(nn.ModuleList, key_projectors))
            contrast = self.contrast(queries, keys, batch.labels)
        return self.nested_loss(logits, batch.labels) + self.settings.contrast_weight * contrast

    def contrast(self, queries: list[Tensor], keys: list[Tensor], labels: Tensor) -> Tensor:
        """Sum over the networks, each with queries and keys (B, width) of unit length."""
        losses = []
        queues = cast(Iterable[Queue], self.queues)
        for q, k, queue in zip(queries, keys, queues, strict=True):
            earlier, present = queue.keys.clone(), queue.labels >= 0
            queue.put(k, labels)
            temperature = self.settings.temperature
            losses.append(instance_contrastive_loss(q, k, earlier, present, temperature))
        return torch.stack(losses).sum()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        if self.place.first:
            self.follow()
        return super().step(batch)

    @torch.no_grad()
    def follow(self) -> None:
        """θ_k ← m θ_k + (1 − m) θ_q; buffers are each network's own."""
        parameters = (*self.model.encoder.parameters(), *self.projectors.parameters())
        share = 1 - self.settings.key_decay
        torch._foreach_lerp_(tuple(self.averaged.parameters()), parameters, share)


def projected(features: Tensor, projectors: nn.ModuleList) -> list[Tensor]:
    """Of each network its features (B, D), projected to unit length: features (B, networks · D)."""
    own = features.chunk(len(projectors), dim=1)
    return [F.normalize(p(f), dim=1) for p, f in zip(projectors, own, strict=True)]
