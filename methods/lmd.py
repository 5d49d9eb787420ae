"""Iterative classifier calibration: LMD as published."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import LogUniform, Times, above, at_least, at_most, below
from lmdbench.models.classifier import Encoder
from lmdbench.training import gaussians as cal
from lmdbench.training.method import MeanLogs, Method, register_method
from lmdbench.training.optimisation import Optimisation
from lmdbench.training.task import Batch, batch_sizes

logger = logging.getLogger("lmdbench")


@register_method("lmd")
class LMD(Method):
    """Stage 2 of LMD. The encoder of stage 1 and a new linear head are trained in turn, for 200
    rounds of expectation and maximisation:

    1. Encode the training images; Gaussian (μ_c, Σ_c + ridge·I) of every class's features.
    2. Draw R virtual features from every class's Gaussian.
    3. M-step: the encoder frozen, train the head on the virtual features, one pass, shuffled.
    4. E-step: the head frozen, train the encoder on the long-tailed images, one pass, by
       cross-entropy through the head and feature distribution consistency,
       FDC = mean M_y(z) − mean M_c(z) over the other classes c, with M_c the squared Mahalanobis
       distance to the class's running Gaussian.

    Ablations: `--starts-from ce` (without RRL), `rrl` itself (without ICC), `calibration=real` or
    `real-once` (without virtual features), `fdc_weight=0` (without FDC), `encoder_lr=0` (without
    the E-step).
    """

    version = 2
    title = "LMD: iterative classifier calibration on RRL, as published"
    source = (
        "Pan et al., LMD, Computers in Biology and Medicine 188:109772, 2025 (arXiv 2502.03238); "
        "virtual features from their MICCAI 2023 paper"
    )
    deviations = (
        "Follows the publication where the released code differs; `lmd-released` follows the code. "
        "Here the label loss is cross-entropy whose gradient reaches the encoder through the head, "
        "FDC draws features to their own class, the Gaussians are of the training set, no batch is "
        "dropped, and scores are of the encoder after the last E-step, in the released code of "
        "features encoded before it.",
        "Batch norm of the E-step sees all images of a batch; the released code divides them over "
        "four devices and keeps the statistics of the first.",
        "Images are resized with antialiasing for both stages; the released stage 1 resizes "
        "without.",
    )
    starts_from = "rrl"
    views = ("test",)
    scaffolding = ("running",)
    passes = (2, 1)  # of a round: step 1, and the E-step; the head's training is not counted
    replayable = True
    accumulates = True
    of_encoder = ("encoder_lr", "fdc_weight", "label_loss", "gce_q", "through_head")
    drop_last: ClassVar[bool] = False  # leave out the last, incomplete batch of images
    e_step_opens_round: ClassVar[bool] = False  # the E-step of a round waits for the next one

    @dataclass(frozen=True, kw_only=True)
    class Settings(Optimisation):
        rounds: int = 200  # of expectation and maximisation; the last one counts
        calibration: Literal["virtual", "real", "real-once"] = (
            "virtual"  # what trains the head; real: as many real ones, drawn by class; once: N
        )
        virtual_per_class: int = 50_000  # R: virtual features of each class in a round
        gaussians: Literal["training-set", "balanced-draw"] = (
            "training-set"  # what they are fitted to; balanced-draw: N images drawn by class
        )
        ridge: Annotated[float, LogUniform(1e-3, 1e-1)] = (
            0.01  # added to the diagonal of every covariance
        )
        head_lr: Annotated[float, Times(0.1, 10.0)] = (
            1e-5  # of SGD; presumes features of norm 25 (ResNet-18) and this R
        )
        head_batch_size: int = 352  # virtual features an update
        encoder_lr: Annotated[float, LogUniform(1e-7, 1e-5)] = 1e-6  # of SGD; 0: no E-step
        batch_size: int = 128  # images an update of the encoder
        momentum: float = 0.9  # of both, kept from round to round
        weight_decay: Annotated[float, LogUniform(1e-5, 1e-3)] = 1e-4  # of both
        label_loss: Literal["ce", "gce"] = "ce"  # of the E-step; gce: (1 − p^q)/q
        gce_q: float = 0.7  # q of gce
        through_head: bool = True  # whether the label loss's gradient reaches the encoder
        fdc_weight: Annotated[float, Times(0.1, 10.0)] = (
            1e-4  # 0: no FDC. It has no lower bound: with far more it can diverge
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, rounds=1, virtual_per_class=1, head_batch_size=1, batch_size=1, ridge=0)
            at_least(self, head_lr=0, encoder_lr=0, momentum=0, weight_decay=0)
            below(self, momentum=1)
            above(self, gce_q=0)
            at_most(self, gce_q=1)
            if self.ridge <= 0 and self.fdc_weight != 0:
                raise ValueError(f"ridge is {self.ridge}, but FDC (fdc_weight) needs it above 0")

    @property
    def epochs(self) -> int:
        return int(self.settings.rounds)

    @property
    def share_of_update(self) -> float:
        """Of a round's: the encoder's rate is one within it."""
        return 1 / self.epochs

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        self.model.head.requires_grad_(False)  # the M-step is written out and needs no autograd
        labels, C = self.task.train.host_labels, self.task.num_classes
        self.running = cal.RunningGaussians(C, encoder.out_features)
        self.places = cal.places_by_class(labels, C, self.task.device)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        s, head, encoder = self.settings, self.model.head, self.model.encoder
        sgd = {"momentum": s.momentum, "weight_decay": s.weight_decay}
        return {
            "head": torch.optim.SGD(head.parameters(), lr=s.head_lr, **sgd),
            "encoder": self.new_optimizer(encoder.parameters(), s.encoder_lr),
        }

    def epoch(self, number: int) -> dict[str, float]:
        logs: dict[str, Tensor | float] = {}
        if self.e_step_opens_round and number > 0:
            logs |= self.e_step()
        features = self.features(self.task.train)
        means, covariances = self.gaussians(features)
        self.running.follow(means, covariances, number)
        logs |= self.m_step(features, means, covariances)
        if number == 0:
            self.report_single_images()
        if not self.e_step_opens_round:
            logs |= self.e_step()
        return {name: float(value) for name, value in logs.items()}

    @property
    def generator(self) -> torch.Generator:
        return self.task.streams.get("virtual", on_device=True)

    @property
    def image_batch_size(self) -> int:
        """At most the number of images: else nothing is left where the last batch is dropped."""
        return min(self.settings.batch_size, len(self.task.train))

    @cached_property
    def head_training(self) -> cal.HeadTraining:
        """Made at its first use, when the momentum of a resumed run is there."""
        head, optimizer = self.model.head, self.running_optimizers["head"]
        batch_size = self.settings.head_batch_size
        return cal.HeadTraining(head, optimizer, batch_size, self.task.execution)

    def gaussians(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """This round's means (C, D) and covariances (C, D, D), float64."""
        places, N, C = self.places, len(self.task.train), self.task.num_classes
        if self.settings.gaussians == "balanced-draw":
            dropped = N % self.image_batch_size if self.drop_last else 0
            counts = cal.balanced_counts(max(C, N - dropped), C)
            places = cal.draw_members(places, counts, self.generator)
        return cal.class_gaussians(features, places, self.settings.ridge)

    def m_step(self, features: Tensor, means: Tensor, covariances: Tensor) -> dict[str, Tensor]:
        """Train the head for one pass over virtual (or drawn) features, shuffled, in chunks."""
        s, C, random = self.settings, self.task.num_classes, self.task.streams.get("virtual")
        means, roots = means.float(), cal.covariance_roots(covariances).float()
        total = len(features) if s.calibration == "real-once" else C * s.virtual_per_class
        wanted, loss = cal.balanced_counts(total, C), features.new_zeros(())
        for counts in cal.shuffled_chunks(wanted, self.head_training.chunk, random):
            if s.calibration == "virtual":
                drawn = cal.virtual_features(counts, means, roots, self.generator)
            else:
                members = cal.draw_members(self.places, counts, self.generator)
                drawn = features[torch.cat(members)]
            loss += self.head_training(*cal.shuffled(drawn, counts, self.generator))
        norm = features.norm(dim=1).mean()  # what head_lr should suit
        return {"m_step_loss": loss / total, "feature_norm": norm}

    def e_step(self) -> dict[str, float]:
        """Train the encoder for one pass over the images, unless it is frozen."""
        trained = any(p.requires_grad for p in self.model.encoder.parameters())
        if self.settings.encoder_lr == 0 or not trained:
            return {}
        if self.settings.fdc_weight != 0:
            self.running.settle()
        logs, size, dropped = MeanLogs(), self.image_batch_size, self.drop_last
        draws = self.task.draws(("instance",), self.views, size, drop_last=dropped)
        for raws in self.placed(draws, batch_sizes(len(self.task.train), size, drop_last=dropped)):
            logs.add(self.execute(raws))
        return logs.means()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the encoder."""
        s = self.settings
        with self.task.autocast():
            z = self.model.encoder(batch.images)
        z = z.float()
        loss = self.label_loss(z if s.through_head else z.detach(), batch.labels)
        log = {"label_loss": loss.detach()}
        if s.fdc_weight != 0:
            distances = self.running.distances(z)
            attraction, repulsion = cal.attraction_and_repulsion(distances, batch.labels)
            loss = loss + s.fdc_weight * (attraction - repulsion)
            log |= {"attraction": attraction.detach(), "repulsion": repulsion.detach()}
        if loss.requires_grad:  # else batch norm's statistics alone follow the images
            self.update(loss, "encoder")
        return log

    def label_loss(self, z: Tensor, labels: Tensor) -> Tensor:
        logits = self.model.head(z)
        if self.settings.label_loss == "gce":
            return cal.generalized_cross_entropy(logits, labels, self.settings.gce_q)
        return F.cross_entropy(logits, labels)

    def report_single_images(self) -> None:
        of_class = zip(self.task.classes, self.places, strict=True)
        single = [name for name, places in of_class if len(places) == 1]
        if single:
            logger.info("covariance is the ridge alone (one image): %s", ", ".join(single))
