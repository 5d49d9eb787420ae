"""Generalised parametric contrastive learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Choice, LogUniform, above, at_least, at_most
from lmdbench.methods.logit_adjustment import log_prior
from lmdbench.methods.paco import Queue, parametric_contrastive_loss
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


@register_method("gpaco")
class GeneralizedParametricContrastive(Method):
    """`paco` without the moving average: both views q and k of an image go through the trained
    network, both are anchors, and both have logits of the classes' learned centres:

        L = −mean_i 1/(1 + α|P_i|) (log p_i(c_y) + α Σ_{a ∈ P_i} log p_i(a)),
        p_i = softmax(z_j + log π_j for all centres j, f_i·a/τ for all images a but i itself),

    over the 2B anchors f = (q, k), with P_i the anchors and queued keys of i's class, the other
    view of the image among them. Only k is put into the queue. q and k are projected and of unit
    length; the logits z are of the features themselves. The prediction is the head's, without the
    prior."""

    title = "Generalised parametric contrastive learning (GPaCo)"
    source = (
        "Cui et al., Generalized Parametric Contrastive Learning, TPAMI 2023; official code "
        "dvlab-research/Parametric-Contrastive-Learning, GPaCo/LT/losses.py, "
        "GPaCo/LT/moco/builder.py and GPaCo/LT/paco_lt.py, settings of "
        "GPaCo/LT/sh/LT/ImageNetLT_train_X50.sh (ImageNet-LT)"
    )
    deviations = (
        "Weights and sizes are the official ones for ImageNet-LT (Places-LT: alpha .02; balanced "
        "CIFAR-100: alpha .01, temperature .07, queue 1,024). With few classes hundreds of images "
        "are of i's, and its centre's share 1/(1 + α|P_i|) is small: tune alpha.",
        "The queue is empty at first and no longer than the training set; the official one starts "
        "full of short random features that have random labels.",
        "Both views are the benchmark's strong view; the official ones are RandAugment, for the "
        "second stacked with colours and blur.",
        "The benchmark's learning rate and schedule; the official one rises for 10 epochs and "
        "falls by a cosine.",
        "The last, incomplete batch of an epoch is used; the official code drops it.",
        "The official code adds 1e-9 to the class shares within the logarithm.",
    )
    authors = {
        "epochs": 400,
        "lr": 0.06,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup": 0.025,
    }
    views = ("strong", "strong")
    scaffolding = ("projector", "queue")
    passes = (2, 2)
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        alpha: Annotated[float, LogUniform(0.001, 0.1)] = 0.05  # α, of an image; a centre has 1
        temperature: Annotated[float, Choice(0.07, 0.2)] = 0.2  # τ, of the similarities
        smoothing: float = 0.0  # of the labels of the centres (official: .1 on all of ImageNet)
        width: int = 128  # of the projected features
        queue: int = 8192  # keys kept from earlier batches, at most one for each training image

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, alpha=0, smoothing=0, width=1, queue=0)
            at_most(self, smoothing=1)
            above(self, temperature=0)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        s, D = self.settings, encoder.out_features
        hidden = (nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D), nn.ReLU())
        self.projector = nn.Sequential(*hidden, nn.Linear(D, s.width))
        self.queue = Queue(min(s.queue, len(self.task.train)), s.width)

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (2B, C) and anchors (2B, width) of unit length: of the first view, then of the
        second. Each view is normalised by its own statistics in batch norm."""
        z = torch.cat([self.model.encoder(view) for view in batch.views])
        with torch.autocast(z.device.type, enabled=False):
            return self.model.logits(z), F.normalize(self.projector(z.float()), dim=1)

    def loss(self, batch: Batch) -> Tensor:
        logits, anchors = self.encode(batch)
        return self.contrast(logits + log_prior(self.task.class_counts), anchors, batch.labels)

    def contrast(
        self, logits: Tensor, anchors: Tensor, labels: Tensor, *, class_averaged: bool = False
    ) -> Tensor:
        """The loss against anchors and queue. logits (2B, C), anchors (2B, width), labels (B,) of
        either view. Also puts the second view's keys into the queue, for those that follow."""
        s = self.settings
        keys, key_labels = self.queue.keys.clone(), self.queue.labels.clone()
        self.queue.put(anchors[len(labels) :].detach(), labels)
        return parametric_contrastive_loss(
            logits,
            anchors,
            labels.repeat(2),
            keys,
            key_labels,
            alpha=s.alpha,
            temperature=s.temperature,
            smoothing=s.smoothing,
            class_averaged=class_averaged,
        )
