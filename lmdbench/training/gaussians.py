"""Gaussians of a class's features: virtual features drawn from them, distances to them, and the
linear head trained on such draws.

Shapes: N features of width D, C classes; means (C, D); covariances, their roots and whitenings
(C, D, D). Numbers of features are known on the host, so nothing here waits for a GPU but what
takes a root.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.training.engine import Execution

# Numbers in the features made at a time: what fits a processor's caches, and on a GPU so many that
# launching the work takes no time beside it.
CPU_CHUNK, GPU_CHUNK = 2**22, 2**25
STEPS = 16  # updates of the head in one replay
BANDS = 4  # of a triangular matrix: products skip most of the half that is zero


def features_at_a_time(width: int, device: torch.device) -> int:
    return max(1, (GPU_CHUNK if device.type == "cuda" else CPU_CHUNK) // width)


def places_by_class(labels: Tensor, num_classes: int, device: torch.device) -> tuple[Tensor, ...]:
    """For each class its places (n_c,) among ``labels`` (N,), which lie on the CPU."""
    counts = torch.bincount(labels, minlength=num_classes).tolist()
    return labels.argsort(stable=True).to(device).split(counts)


def class_gaussians(
    features: Tensor, places: Sequence[Tensor], ridge: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of each class's features, plus ``ridge`` on the covariances' diagonal.
    ``places``: for each class which of the features are its own.

    In float64: with fewer images than dimensions nothing but the ridge keeps a covariance regular,
    and beside variances in the thousands float32 would round it away. A class with one image has
    the ridge alone.
    """
    C, D = len(places), features.shape[1]
    means = features.new_empty(C, D, dtype=torch.float64)
    covariances = features.new_zeros(C, D, D, dtype=torch.float64)
    for own, mean, covariance in zip(places, means, covariances, strict=True):
        blocks = own.split(features_at_a_time(D, features.device))
        mean.copy_(sum(features[block].sum(dim=0, dtype=torch.float64) for block in blocks))
        mean /= len(own)
        for block in blocks:
            centred = features[block].double() - mean
            covariance.addmm_(centred.T, centred, alpha=1 / max(1, len(own) - 1))
    covariances.diagonal(dim1=1, dim2=2).add_(ridge)
    return means, covariances


class RunningGaussians(nn.Module):
    """Moving averages of means (C, D) and covariances (C, D, D), float64, and distances to them."""

    means: Tensor
    covariances: Tensor
    centres: Tensor
    whitenings: Tensor

    def __init__(self, num_classes: int, width: int, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("means", torch.zeros(num_classes, width).double())
        self.register_buffer("covariances", torch.zeros(num_classes, width, width).double())
        # What distances are computed from stays at one address, for steps that are replayed.
        self.register_buffer("centres", torch.zeros(num_classes, width), persistent=False)
        self.register_buffer("whitenings", torch.zeros(num_classes, width, width), persistent=False)

    def follow(self, means: Tensor, covariances: Tensor, number: int) -> None:
        """Decay min(1 − 1/(round + 1), 0.999), rounds counted from 0: at first a plain mean."""
        share = max(1 / (number + 1), 1 - self.decay)
        self.means.lerp_(means, share)
        self.covariances.lerp_(covariances, share)

    def settle(self) -> None:
        """Let ``distances`` be those to the averages as they are now."""
        self.centres.copy_(self.means)
        self.whitenings.copy_(whitenings(self.covariances))

    def distances(self, features: Tensor) -> Tensor:
        """``mahalanobis`` distances (N, C) to the averages, as of the last ``settle``."""
        return mahalanobis(features, self.centres, self.whitenings)


def covariance_roots(covariances: Tensor) -> Tensor:
    """Lower triangular A with A Aᵀ = Σ: the Cholesky factor, or from the eigenvalues where Σ is
    singular."""
    roots, failed = torch.linalg.cholesky_ex(covariances)
    singular = failed != 0
    if singular.any():
        values, vectors = torch.linalg.eigh(covariances[singular])
        upright = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
        roots[singular] = torch.linalg.qr(upright.mT).R.mT
    return roots


def whitenings(covariances: Tensor) -> Tensor:
    """L⁻¹ of the Cholesky factors L Lᵀ = Σ, so that ‖L⁻¹(z − μ)‖² is the Mahalanobis distance."""
    factors = torch.linalg.cholesky(covariances)
    identity = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device)
    return torch.linalg.solve_triangular(factors, identity.expand_as(factors), upper=False)


def mahalanobis(features: Tensor, means: Tensor, whitenings: Tensor) -> Tensor:
    """Squared distances M_c(z) = (z − μ_c)ᵀ Σ_c⁻¹ (z − μ_c), (N, C)."""
    differences = features - means.unsqueeze(1)
    return (differences @ whitenings.mT).square().sum(dim=-1).T


def attraction_and_repulsion(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance (N, C) to the own class, and over all other classes: FDC's two terms."""
    own = distances.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = (distances.sum(dim=1) - own) / max(1, distances.shape[1] - 1)
    return own.mean(), others.mean()


def generalized_cross_entropy(logits: Tensor, labels: Tensor, q: float) -> Tensor:
    """(1 − p_y^q)/q (Zhang and Sabuncu, NeurIPS 2018); p_y at least 1e-7, as LMD's code has it."""
    p = logits.softmax(dim=1).gather(1, labels.unsqueeze(1)).clamp(min=1e-7)
    return ((1 - p**q) / q).mean()


def balanced_counts(n: int, num_classes: int) -> list[int]:
    """How often each class occurs among n of them, equally often (where C does not divide n, the
    first classes once more)."""
    return [n // num_classes + (c < n % num_classes) for c in range(num_classes)]


def shuffled_chunks(
    counts: Sequence[int], rows: int, generator: torch.Generator
) -> Iterator[list[int]]:
    """``counts`` of each class, shuffled and divided into chunks of ``rows`` (the last one may have
    fewer): how many of each are in each. The generator is one of the CPU's."""
    random = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
    left = np.array(counts)
    while left.any():
        taken = random.multivariate_hypergeometric(left, min(rows, left.sum()))
        left -= taken
        yield taken.tolist()


def draw_members(
    places: Sequence[Tensor], counts: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, ...]:
    """So many of each class's places at random, with replacement."""
    device = generator.device
    return tuple(
        own[torch.randint(len(own), (n,), generator=generator, device=device)] if n else own[:0]
        for own, n in zip(places, counts, strict=True)
    )


def virtual_features(
    counts: Sequence[int], means: Tensor, roots: Tensor, generator: torch.Generator
) -> Tensor:
    """So many draws from each class's Gaussian, class after class, (Σ counts, D).
    ``roots``: of the covariances, lower triangular."""
    width, device = means.shape[1], generator.device
    noise = torch.randn(sum(counts), width, generator=generator, device=device, dtype=means.dtype)
    drawn = torch.empty_like(noise)
    bands = [slice(width * b // BANDS, width * (b + 1) // BANDS) for b in range(BANDS)]
    for part, own, mean, root in zip(
        noise.split(counts), drawn.split(counts), means, roots, strict=True
    ):
        for band in bands:
            known = slice(band.stop)  # what is right of the diagonal is zero
            torch.addmm(mean[band], part[:, known], root[band, known].T, out=own[:, band])
    return drawn


def shuffled(
    features: Tensor, counts: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Features (n, D) that lie class after class in random order, with their labels (n,)."""
    labels = torch.empty(len(features), dtype=torch.int64, device=features.device)
    for c, own in enumerate(labels.split(counts)):
        own.fill_(c)
    order = torch.randperm(len(features), generator=generator, device=generator.device)
    return features.index_select(0, order), labels[order]


class HeadTraining:
    """Trains an ``nn.Linear`` by cross-entropy with ``torch.optim.SGD``, one update for each
    ``batch_size`` features in their order.

    It does what autograd and ``optimizer.step`` would, momentum in the optimiser's state included;
    written out, because on a problem as small as this they take most of the time, and several
    updates to a replay. The learning rate is that of the beginning.

    ``chunk``: how many features to give at a time, but for the last: a number of whole replays.
    """

    def __init__(
        self,
        head: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch_size: int,
        execution: Execution,
    ) -> None:
        (group,) = optimizer.param_groups
        self.momentum, self.decay, self.lr = (
            group[name] for name in ("momentum", "weight_decay", "lr")
        )
        weight, bias = head.parameters()
        self.parameters = [weight.detach(), bias.detach()]
        self.velocities = [
            optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
            for parameter in (weight, bias)
        ]
        self.batch_size = batch_size
        most = features_at_a_time(weight.shape[1], weight.device) // batch_size
        self.rows = max(1, min(STEPS, most)) * batch_size  # features in a replay
        self.chunk = max(1, most * batch_size // self.rows) * self.rows
        self.execution = execution
        self._replay = execution.replay(
            self._train, lambda: [*self.parameters, *self.velocities], "training of the head"
        )

    @torch.no_grad()
    def __call__(self, features: Tensor, labels: Tensor) -> Tensor:
        """Train on features (n, D), labels (n,). Returns the sum of their losses, a scalar."""
        loss = features.new_zeros(())
        for x, y in zip(features.split(self.rows), labels.split(self.rows), strict=True):
            train = self._replay if len(x) == self.rows else self._train
            loss += train(x, y)["loss"]
        self.execution.note("calibration", "graphs" if self._replay.captured else "plain")
        return loss

    def _train(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        weight, bias = self.parameters
        weight_velocity, bias_velocity = self.velocities
        logits = features.new_empty(len(features), len(bias))
        targets = labels.unsqueeze(1) == torch.arange(len(bias), device=labels.device)
        ones = features.new_ones(self.batch_size)
        for x, target, own in zip(
            *(t.split(self.batch_size) for t in (features, targets.to(features.dtype), logits)),
            strict=True,
        ):
            torch.addmm(bias, x, weight.T, out=own)
            error = own.softmax(dim=1).sub_(target)
            # v ← momentum · v + ∇ + decay · θ;  θ ← θ − lr · v
            mean = {"beta": self.momentum, "alpha": 1 / len(x)}
            weight_velocity.addmm_(error.T, x, **mean)
            bias_velocity.addmv_(error.T, ones[: len(x)], **mean)
            torch._foreach_add_(self.velocities, self.parameters, alpha=self.decay)
            torch._foreach_add_(self.parameters, self.velocities, alpha=-self.lr)
        return {"loss": F.cross_entropy(logits, labels, reduction="sum")}
