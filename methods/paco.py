"""Parametric contrastive learning."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Choice, LogUniform, above, at_least, at_most
from lmdbench.methods.bcl import projector
from lmdbench.methods.logit_adjustment import log_prior
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def parametric_contrastive_loss(
    logits: Tensor,
    queries: Tensor,
    labels: Tensor,
    keys: Tensor,
    key_labels: Tensor,
    *,
    alpha: float,
    temperature: float,
    smoothing: float = 0.0,
    class_averaged: bool = False,
) -> Tensor:
    """Mean over i of −1/(1 + α|P_i|) (log p_i(c_y) + α Σ_{a ∈ P_i} log p_i(a)).

    logits (N, C): those of the centres c_j, log π_j included; queries (N, D) and keys (M, D) of
    unit length; labels (N,) and key_labels (M,) int64, −1 for a key that counts as absent.
    p_i is the softmax over the logits and q_i·a/τ for all queries and keys a but for q_i itself;
    P_i: those among them of i's class.

    ``smoothing`` ε: the own centre has weight 1 − ε and each other one ε / (C − 1).
    ``class_averaged``: in the denominator of p_i each column, centre or image, is divided by the
    queries and keys of its class, less its own weight in the numerator (1, α or 0).
    """
    N, M, C = len(queries), len(keys), logits.shape[1]
    samples, classes = torch.cat([queries, keys]), torch.cat([labels, key_labels])
    absent = (classes < 0) | torch.eye(N, N + M, dtype=torch.bool, device=labels.device)
    similarities = (queries @ samples.T / temperature).masked_fill(absent, -torch.inf)
    positive = ((labels[:, None] == classes) & ~absent).to(logits.dtype)
    columns = torch.cat([logits, similarities], dim=1)
    if class_averaged:
        own = F.one_hot(labels, C).to(logits.dtype)
        members = _members(classes, C) - torch.cat([own, alpha * positive], dim=1)
        averaged = columns - members.clamp(min=1).log()  # a class without members has its centre
        log_p = columns - averaged.logsumexp(dim=1, keepdim=True)
    else:
        log_p = columns.log_softmax(dim=1)
    log_p_centres, log_p_samples = log_p.split([C, N + M], dim=1)
    own_centre = log_p_centres.gather(1, labels[:, None]).squeeze(1)
    if smoothing > 0:
        others = log_p_centres.sum(dim=1) - own_centre
        own_centre = (1 - smoothing) * own_centre + smoothing / (C - 1) * others
    own_samples = (positive * log_p_samples.masked_fill(absent, 0)).sum(dim=1)
    return -((own_centre + alpha * own_samples) / (1 + alpha * positive.sum(dim=1))).mean()


def _members(classes: Tensor, C: int) -> Tensor:
    """How many of the samples are of each centre's class, then of each sample's: (C + N,).

    classes (N,) int64, −1 for what is absent.
    """
    each = torch.arange(C, device=classes.device)
    counts = (classes[:, None] == each).sum(dim=0)
    return counts[torch.cat([each, classes.clamp(min=0)])]


@register_method("paco")
class ParametricContrastive(Method):
    """Supervised contrast in which every class has a learned centre, its weights in a linear head,
    beside the images: a query q of one view, keys k of another view from a moving average of the
    network, and a queue of the last keys. An image is drawn to its centre with weight 1 and to each
    image of its class with weight α, so that rare classes live by their centre:

        L = −mean_i 1/(1 + α|P_i|) (log p_i(c_y) + α Σ_{a ∈ P_i} log p_i(a)),
        p_i = softmax(z_j + log π_j for all centres j, q_i·a/τ for all images a but i itself),

    with P_i the queries, keys and queued keys of i's class. q and k are projected and of unit
    length; the logits z are of the features themselves. The prediction is the head's, without the
    prior."""

    title = "Parametric contrastive learning (PaCo)"
    source = (
        "Cui et al., Parametric Contrastive Learning, ICCV 2021, the centres rebalanced by log π; "
        "official code dvlab-research/Parametric-Contrastive-Learning, LT/losses.py, "
        "LT/moco/builder.py and LT/paco_cifar.py, settings of "
        "PaCo/LT/sh/CIFAR100_train_imb0.01.sh (CIFAR-100-LT)"
    )
    deviations = (
        "Weights and sizes are the official ones for CIFAR-100-LT, a data set of about as many "
        "images as ours (for ImageNet-LT: alpha .05, temperature .2, width 128, queue 8,192; at "
        "first for CIFAR-100-LT at factors 100 and 50: alpha .02, width 64, lr .02). No class has "
        "5 % of its images. One that has half of them fills half the queue, and its centre's share "
        "1/(1 + α|P_i|) falls: with few classes tune alpha.",
        "The queue is empty at first and no longer than the training set; the official one starts "
        "full of short random features that have random labels.",
        "Both views are the benchmark's strong view; the official ones are AutoAugment with Cutout "
        "for the queries and SimCLR's crops and colours for the keys.",
        "The benchmark's learning rate and schedule; the official one rises for 11 epochs, and "
        "falls to a tenth after 321 and to a hundredth after 361 of 400.",
        "The last, incomplete batch of an epoch is used; the official code drops it.",
    )
    authors = {"epochs": 400, "lr": 0.05, "weight_decay": 5e-4}
    views = ("strong", "strong")
    scaffolding = ("projector", "averaged", "queue")
    passes = (2, 1)  # queries and keys
    replayable = True
    accumulates = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        alpha: Annotated[float, LogUniform(0.001, 0.1)] = 0.01  # α, of an image; a centre has 1
        temperature: Annotated[float, Choice(0.05, 0.07, 0.2)] = 0.05  # τ, of the similarities
        width: int = 32  # of the projected features
        queue: int = 1024  # keys kept from earlier batches, at most one for each training image
        key_decay: float = 0.999  # of the moving average whose features are the keys

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, alpha=0, width=1, queue=0, key_decay=0)
            at_most(self, key_decay=1)
            above(self, temperature=0)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        s = self.settings
        self.projector = projector(encoder.out_features, s.width)
        self.averaged = copy.deepcopy(nn.Sequential(encoder, self.projector)).requires_grad_(False)
        self.queue = Queue(min(s.queue, len(self.task.train)), s.width)

    def loss(self, batch: Batch) -> Tensor:
        """Also puts the batch's keys into the queue, for those that follow."""
        s = self.settings
        query_view, key_view = batch.views
        key_encoder, key_projector = self.averaged
        z = self.model.encoder(query_view)
        logits = self.model.logits(z) + log_prior(self.task.class_counts)
        with torch.no_grad():
            z_key = key_encoder(key_view)
        with torch.autocast(z.device.type, enabled=False):
            q = F.normalize(self.projector(z.float()), dim=1)
            k = F.normalize(key_projector(z_key.float()), dim=1)
            keys = torch.cat([k, self.queue.keys])
            key_labels = torch.cat([batch.labels, self.queue.labels])
            self.queue.put(k, batch.labels)
            return parametric_contrastive_loss(
                logits, q, batch.labels, keys, key_labels, alpha=s.alpha, temperature=s.temperature
            )

    def step(self, batch: Batch) -> dict[str, Tensor]:
        if self.place.first:
            self.follow()
        return super().step(batch)

    @torch.no_grad()
    def follow(self) -> None:
        """θ_k ← m θ_k + (1 − m) θ_q; buffers are each network's own."""
        parameters = (*self.model.encoder.parameters(), *self.projector.parameters())
        torch._foreach_lerp_(
            tuple(self.averaged.parameters()), parameters, 1 - self.settings.key_decay
        )


class Queue(nn.Module):
    """The last keys with their labels, the newest first; label −1 where there is none yet."""

    keys: Tensor
    labels: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(length, width))
        self.register_buffer("labels", torch.full((length,), -1))

    @torch.no_grad()
    def put(self, keys: Tensor, labels: Tensor) -> None:
        length = len(self.labels)
        self.keys.copy_(torch.cat([keys, self.keys])[:length])
        self.labels.copy_(torch.cat([labels, self.labels])[:length])
