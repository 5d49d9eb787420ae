"""Balanced parametric contrastive learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Uniform, at_least
from lmdbench.methods.bcl import balanced_contrastive_loss, projector
from lmdbench.methods.gpaco import GeneralizedParametricContrastive
from lmdbench.methods.logit_adjustment import log_prior
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import register_method
from lmdbench.training.task import Batch


@register_method("bpaco")
class BalancedParametricContrastive(GeneralizedParametricContrastive):
    """Cross-entropy, with two contrastive losses on both views of an image: that of `gpaco`, whose
    centres are the head's logits, and that of `bcl`, in which every class has the same weight and
    is always present, by a centre c_j projected from its weights in the head:

        L = CE(z_q, y) + w (GPaCo + BCL),
        BCL = −mean_i 1/|P_i| Σ_{p ∈ P_i} log (e^{f_i·f_p/τ} / Σ_j mean_{a ∈ A_j} e^{f_i·f_a/τ}),

    with A_j the batch's features of class j but for f_i itself, and c_j. As released the softmax
    of GPaCo has no prior. With across_batch it, too, averages by class, over both views and the
    queue: e^{s_ia} is divided by the number of those of a's class, less a's weight for i (1 of the
    own centre, α of a positive, 0 else). The prediction is the head's."""

    title = "Balanced parametric contrastive learning (BPaCo)"
    source = (
        "Cai et al., BPaCo: Balanced Parametric Contrastive Learning for Long-tailed Medical Image "
        "Classification, MICCAI 2024; official code Davidczy/BPaCo, settings of "
        "sh/LT/ISIC_train_R50.sh (ISIC 2018)"
    )
    deviations = (
        "As released: without the prior, which the script sets on another loss than the one it "
        "calls (prior=true has it), and averaged by class within the batch alone, where the paper "
        "claims it across batches (across_batch=true: a loss of the release that is never called).",
        "With across_batch, where that would divide by 0, as for a class that is neither in the "
        "batch nor in the queue, the divisor is 1.",
        "With few classes hundreds of images are of i's, and its centre's share 1/(1 + α|P_i|) is "
        "small: tune alpha.",
        "The queue is empty at first and no longer than the training set; the official one starts "
        "full of random features that have random labels.",
        "Both views are the benchmark's strong view; the official ones are RandAugment, for the "
        "second with grey and blur.",
        "The benchmark's learning rate and schedule, and contrast over the whole batch; official: "
        "a rise over 10 epochs and a cosine, and four devices that contrast a quarter each.",
        "The last epoch's network; the official code reports the best of all epochs on its 139 "
        "validation images.",
    )
    authors = {
        "epochs": 500,
        "batch_size": 256,
        "lr": 0.02,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "warmup": 0.02,
    }
    scaffolding = ("projector", "prototypes", "queue")

    @dataclass(frozen=True, kw_only=True)
    class Settings(GeneralizedParametricContrastive.Settings):
        contrast_weight: Annotated[float, Uniform(0.1, 1.0)] = 0.25  # w, of both contrastive losses
        prior: bool = False  # whether the centres' logits of GPaCo have log π added
        across_batch: bool = False  # whether GPaCo averages by class, over both views and the queue

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, contrast_weight=0)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        self.prototypes = projector(encoder.out_features, self.settings.width)

    def loss(self, batch: Batch) -> Tensor:
        s = self.settings
        logits, anchors = self.encode(batch)
        prior = log_prior(self.task.class_counts) if s.prior else 0.0
        parametric = self.contrast(
            logits + prior, anchors, batch.labels, class_averaged=s.across_batch
        )
        with torch.autocast(logits.device.type, enabled=False):
            c = F.normalize(self.prototypes(cast(nn.Linear, self.model.head).weight), dim=1)
        balanced = balanced_contrastive_loss(anchors, batch.labels.repeat(2), c, s.temperature)
        ce = F.cross_entropy(logits[: len(batch)], batch.labels)
        return ce + s.contrast_weight * (parametric + balanced)
