"""Balanced meta-softmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lmdbench.core.settings import Choice, LogUniform, at_least
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def balanced_softmax_loss(
    logits: Tensor, labels: Tensor, class_counts: Tensor, reduction: str = "mean"
) -> Tensor:
    """−log (n_y e^{z_y} / Σ_j n_j e^{z_j}): cross-entropy of logits + log class counts.

    logits (B, C) float, labels (B,) int64, class_counts (C,).
    """
    return F.cross_entropy(logits + class_counts.log(), labels, reduction=reduction)


def initial_rates(class_counts: Tensor, power: float) -> Tensor:
    """r_j = v_j / (min v + max v) with v_j = π_j^−power: (C,), within (0, 1)."""
    v = (class_counts / class_counts.sum()) ** -power
    return v / (v.min() + v.max())


def gumbel_noise(*shape: int, generator: torch.Generator) -> Tensor:
    """Standard Gumbel numbers on the generator's device."""
    exponential = torch.empty(shape, device=generator.device).exponential_(generator=generator)
    return exponential.clamp_(min=torch.finfo(exponential.dtype).tiny).log_().neg_()


def draw_images(rate_logits: Tensor, labels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Draw image i with probability r_{y_i} / Σ_k r_{y_k}, r = sigmoid(rate_logits).

    rate_logits (C,), labels (N,) int64 of all images, Gumbel noise (B, N). Returns positions (B,)
    and weights (B,): the entries drawn of the hard Gumbel-softmax at temperature 1, which are 1 and
    have the gradient of the soft ones (straight-through).
    """
    perturbed = F.logsigmoid(rate_logits)[labels] + noise
    log_highest, positions = perturbed.max(dim=1)
    soft = (log_highest - perturbed.logsumexp(dim=1)).exp()
    return positions, soft - soft.detach() + 1


def meta_loss(
    weights: Tensor,
    head: nn.Module,
    parameters: Mapping[str, Tensor],
    batch: tuple[Tensor, Tensor],
    meta_batch: tuple[Tensor, Tensor],
    class_counts: Tensor,
    lr: float,
) -> Tensor:
    """Cross-entropy on the meta batch of θ' = θ − lr ∇ mean(weights · balanced softmax loss).

    weights (B,); ``parameters``: θ, the head's by name; a batch: features (B, D), labels (B,).
    """

    def training_loss(parameters: Mapping[str, Tensor]) -> Tensor:
        logits = functional_call(head, dict(parameters), (batch[0],))
        return (weights * balanced_softmax_loss(logits, batch[1], class_counts, "none")).mean()

    gradients = torch.func.grad(training_loss)(dict(parameters))
    ahead = {name: value - lr * gradients[name] for name, value in parameters.items()}
    return F.cross_entropy(functional_call(head, ahead, (meta_batch[0],)), meta_batch[1])


@register_method("balms")
class BalancedMetaSoftmax(Method):
    """A new linear head on the frozen encoder of a cross-entropy run: balanced softmax loss, on
    batches whose class rates are learned so that a step helps on class-balanced ones."""

    title = "Balanced meta-softmax (BALMS)"
    source = (
        "Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020: "
        "balanced softmax (theorem 1) and meta sampler; official code "
        "jiawei-ren/BalancedMetaSoftmax-Classification"
    )
    deviations = (
        "The meta batches come from the training set; the official code draws them from validation "
        "or, on CIFAR, from a second random draw of the long-tailed subset, whose rare classes "
        "have images from outside the first.",
        "A meta batch is as large as the training batch; official: 512 to 256 (Places-LT), 1,024 "
        "to 512 (ImageNet-LT, from memory).",
        "The step ahead is plain SGD; in the official code it has momentum and weight decay.",
        "The frozen encoder's batch norm and dropout are in evaluation mode; the official code has "
        "them in training mode, so that batch statistics drift to the drawn batches: bn=train.",
        "Epochs, learning rate and weight decay are those of crt here (10, .01 at batch 128, "
        "none); official: 20, .5 at 512, .0005 (ImageNet-LT; epochs and batch from memory); 10, "
        ".02 at 256, .0005 (Places-LT).",
        "The class rates' learning rate and initial power are the defaults of the official code "
        "(.01, 0); its recipes have .001 and .1 (ImageNet-LT), .001 and .3 (Places-LT).",
        "The cosine schedule goes down step by step; the official code's epoch by epoch.",
    )
    starts_from = "ce"
    trains = "head"
    authors = {
        "epochs": 20,
        "batch_size": 512,
        "lr": 0.5,
        "weight_decay": 5e-4,
        "bn": "train",
        "meta_lr": 0.001,
        "power": 0.1,
    }
    passes = (2, 0)  # training and meta batches
    sampler = "class-balanced"  # of the meta batches; training batches are drawn in each step

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.HeadSettings):
        lr: Annotated[float, LogUniform(1e-3, 0.5)] = (
            0.01  # of the head's SGD, and of the step ahead
        )
        # Ranges of these two: the official code's defaults, and its recipes for ImageNet-LT and
        # Places-LT.
        meta_lr: Annotated[float, LogUniform(1e-3, 1e-2)] = (
            0.01  # of Adam on the class rates; constant
        )
        power: Annotated[float, Choice(0.0, 0.1, 0.3)] = (
            0.0  # initial class rates go as count^-power: 0 instance sampling, 1 balanced
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, meta_lr=0, power=0)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        rates = initial_rates(self.task.class_counts, self.settings.power)
        self.rate_logits = nn.Parameter(torch.logit(rates))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        adam = torch.optim.Adam([self.rate_logits], lr=self.settings.meta_lr)
        trained = self.new_optimizer(self.model.head.parameters())
        return {self.settings.optimizer: trained, "adam": adam}

    def step(self, meta: Batch) -> dict[str, Tensor]:
        batch, weights = self.draw(len(meta))
        features, meta_features = self.encode(batch), self.encode(meta)
        head, class_counts = self.model.head, self.task.class_counts

        ahead = meta_loss(
            weights,
            head,
            dict(head.named_parameters()),
            (features, batch.labels),
            (meta_features, meta.labels),
            class_counts,
            self.settings.lr * self.schedule_factor(),
        )
        adam = self.running_optimizers["adam"]
        adam.zero_grad(set_to_none=True)
        ahead.backward(inputs=[self.rate_logits])
        adam.step()

        loss = balanced_softmax_loss(head(features), batch.labels, class_counts)
        self.update(loss, self.settings.optimizer)
        return {"loss": loss.detach(), "meta_loss": ahead.detach()}

    def draw(self, n: int) -> tuple[Batch, Tensor]:
        """A training batch by the learned rates, with its weights. Takes n·N random numbers."""
        streams, images = self.task.streams, self.task.train
        noise = gumbel_noise(n, len(images), generator=streams.get("sampler", on_device=True))
        positions, weights = draw_images(self.rate_logits, images.labels, noise)
        augmentation = streams.get("augmentation", on_device=True)
        return images.batch(positions, self.views, augmentation), weights

    def encode(self, batch: Batch) -> Tensor:
        """Features (B, D) in the precision of the head."""
        with torch.no_grad(), self.task.autocast():
            features = self.model.encoder(batch.images)
        return features.to(self.rate_logits.dtype)
