"""Supervised contrastive learning in class-balanced batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import LogUniform, above, at_least
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

BASE_TEMPERATURE = 0.07  # the loss of HobbitLong/SupContrast is scaled by temperature / this


def supervised_contrastive_loss(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean over i of −1/|P_i| Σ_{p ∈ P_i} log (e^{f_i·f_p/τ} / Σ_{a ≠ i} e^{f_i·f_a/τ}).

    features (N, D) of unit length, of all views; labels (N,) int64; P_i: the others of i's class,
    of which there must be one, such as another view.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    similarities = (features @ features.T / temperature).masked_fill(itself, -torch.inf)
    log_p = similarities.log_softmax(dim=1).masked_fill(itself, 0)
    positive = (labels[:, None] == labels) & ~itself
    return -((positive * log_p).sum(dim=1) / positive.sum(dim=1)).mean()


@register_method("supcon")
class SupervisedContrastive(Method):
    """The first stage of CICL. In class-balanced batches, with two views of each image, an encoder
    and a small projector g learn features that lie close for images of one class and far apart for
    others:

        L = −mean_i 1/|P_i| Σ_{p ∈ P_i} log (e^{f_i·f_p/τ} / Σ_{a ≠ i} e^{f_i·f_a/τ}),
        f = g(φ) / ‖g(φ)‖,

    with P_i the other views of i's class. A linear head learns beside it by cross-entropy, without
    any effect on the encoder, so that this stage has predictions to show."""

    title = "Supervised contrastive learning, class-balanced (stage 1 of CICL)"
    source = (
        "Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2, with the sampling of "
        "Marrakchi et al., MICCAI 2021; official code YMarrakchi/CICL, main_supcon.py"
    )
    deviations = (
        "The linear head beside it is ours, for the run's own predictions; `cicl` makes a new one.",
        "Both views are the benchmark's strong view; the official ones are crops at random, flips "
        "and colour jitter.",
        "An epoch is as many draws as there are training images; in the official code it is the "
        "number of classes times the largest class.",
        "The benchmark's learning rate and schedule; official: up from .01 to .1 within 10 epochs, "
        "and down to .0001 by a cosine.",
        "The official network is a ResNet-50 trained from scratch; here it is the run's backbone, "
        "with its weights.",
    )
    authors = {
        "epochs": 250,
        "batch_size": 192,
        "lr": 0.1,
        "weight_decay": 1e-4,
        "schedule": "cosine",
    }
    views = ("strong", "strong")
    sampler = "class-balanced"
    scaffolding = ("projector",)
    passes = (2, 2)
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        temperature: Annotated[float, LogUniform(0.05, 0.5)] = 0.1  # τ, of the similarities
        width: int = 128  # of the projected features

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, width=1)
            above(self, temperature=0)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        D = encoder.out_features
        self.projector = nn.Sequential(
            nn.Linear(D, D), nn.ReLU(), nn.Linear(D, self.settings.width)
        )

    def loss(self, batch: Batch) -> Tensor:
        s = self.settings
        z = self.model.encoder(torch.cat(batch.views))
        labels = batch.labels.repeat(len(batch.views))
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            f = F.normalize(self.projector(z), dim=1)
            contrast = supervised_contrastive_loss(f, labels, s.temperature)
        head = F.cross_entropy(self.model.logits(z.detach()), labels)
        return s.temperature / BASE_TEMPERATURE * contrast + head
