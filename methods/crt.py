"""Classifier re-training."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


@register_method("crt")
class ClassifierRetraining(Method):
    """A new linear head on the frozen encoder of a cross-entropy run: cross-entropy on
    class-balanced batches, augmentation still on."""

    title = "Classifier re-training (cRT)"
    source = (
        "Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, "
        "ICLR 2020, section 4"
    )
    deviations = (
        "The frozen encoder's batch norm and dropout are in evaluation mode; the official code has "
        "them in training mode, so that batch statistics drift to the balanced batches: bn=train.",
        "One image of a class at a time; the official ImageNet-LT recipe draws four in a row.",
        "Learning rate and weight decay are those of the benchmark's stage 1 (.01 at batch 128, "
        "none); the official ImageNet-LT recipe has .2 at batch 512 and .0005.",
        "The cosine schedule goes down step by step; the official code's epoch by epoch.",
    )
    authors = {"batch_size": 512, "lr": 0.2, "weight_decay": 5e-4, "bn": "train"}
    starts_from = "ce"
    trains = "head"
    sampler = "class-balanced"
    replayable = True
    Settings = Method.HeadSettings

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.model(batch.images), batch.labels)
