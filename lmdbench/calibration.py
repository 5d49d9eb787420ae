"""Gaussians of a class's features: virtual features drawn from them, distances to them, and the
linear head trained on such draws.

Shapes: N features of width D, labels (N,) int64, C classes; means (C, D); covariances, their roots
and whitenings (C, D, D).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def class_gaussians(
    features: Tensor, labels: Tensor, num_classes: int, ridge: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of each class's features, plus ``ridge`` on the covariances' diagonal.

    In float64: with fewer images than dimensions nothing but the ridge keeps a covariance regular,
    and beside variances in the thousands float32 would round it away. A class with one image has
    the ridge alone.
    """
    means, covariances = [], []
    for c in range(num_classes):
        members = features[labels == c].double()
        means.append(members.mean(dim=0))
        centred = members - means[-1]
        covariances.append(centred.T @ centred / max(1, len(members) - 1))
        covariances[-1].diagonal().add_(ridge)
    return torch.stack(means), torch.stack(covariances)


class RunningGaussians(nn.Module):
    """Moving averages of means (C, D) and covariances (C, D, D), float64."""

    means: Tensor
    covariances: Tensor

    def __init__(self, num_classes: int, width: int, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("means", torch.zeros(num_classes, width).double())
        self.register_buffer("covariances", torch.zeros(num_classes, width, width).double())

    def follow(self, means: Tensor, covariances: Tensor, number: int) -> None:
        """Decay min(1 − 1/(round + 1), 0.999), rounds counted from 0: at first a plain mean."""
        share = max(1 / (number + 1), 1 - self.decay)
        self.means.lerp_(means, share)
        self.covariances.lerp_(covariances, share)


def covariance_roots(covariances: Tensor) -> Tensor:
    """A with A Aᵀ = Σ: the Cholesky factor, or from the eigenvalues where Σ is singular."""
    roots, failed = torch.linalg.cholesky_ex(covariances)
    singular = failed != 0
    if singular.any():
        values, vectors = torch.linalg.eigh(covariances[singular])
        roots[singular] = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
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


def balanced_labels(n: int, num_classes: int, generator: torch.Generator) -> Tensor:
    """Labels (n,) in random order on the generator's device, every class equally often (where C
    does not divide n, the first classes once more)."""
    return torch.randperm(n, generator=generator, device=generator.device) % num_classes


def draw_members(labels: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
    """For each of ``labels`` (n,) the place (n,) of a random one of its like in ``pool`` (N,), with
    replacement. Every class asked for must occur in the pool."""
    order = pool.argsort(stable=True)
    counts = torch.bincount(pool)
    first = counts.cumsum(0) - counts
    share = torch.rand(len(labels), generator=generator, device=labels.device, dtype=torch.float64)
    return order[first[labels] + (share * counts[labels]).long()]


def virtual_features(
    labels: Tensor, means: Tensor, roots: Tensor, generator: torch.Generator
) -> Tensor:
    """For each label (n,) a draw from its class's Gaussian, (n, D)."""
    features = torch.randn(
        len(labels),
        means.shape[1],
        generator=generator,
        device=generator.device,
        dtype=means.dtype,
    )
    counts = torch.bincount(labels, minlength=len(means)).tolist()
    drawn = torch.empty_like(features)
    places = labels.argsort().split(counts)
    for place, noise, mean, root in zip(places, features.split(counts), means, roots, strict=True):
        drawn[place] = torch.addmm(mean, noise, root.T)
    return drawn


@torch.no_grad()
def train_linear_head(
    head: nn.Module,
    optimizer: torch.optim.Optimizer,
    features: Tensor,
    labels: Tensor,
    batch_size: int,
) -> Tensor:
    """Train an ``nn.Linear`` by cross-entropy with ``torch.optim.SGD``, one update for each
    ``batch_size`` features in their order. Returns the sum of all features' losses, a scalar.

    It does what autograd and ``optimizer.step`` would, momentum in the optimiser's state included;
    written out, because on a problem as small as this they take most of the time.
    """
    (group,) = optimizer.param_groups
    momentum, decay, lr = group["momentum"], group["weight_decay"], group["lr"]
    weight, bias = head.parameters()
    weight_velocity, bias_velocity = (
        optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
        for parameter in (weight, bias)
    )
    targets = F.one_hot(labels, len(weight)).to(features.dtype)
    loss = features.new_zeros(())
    for x, target in zip(features.split(batch_size), targets.split(batch_size), strict=True):
        log_p = torch.addmm(bias, x, weight.T).log_softmax(dim=1)
        loss -= torch.dot(log_p.flatten(), target.flatten())
        error = log_p.exp_().sub_(target).div_(len(x))
        for parameter, velocity, gradient in (
            (weight, weight_velocity, error.T @ x),
            (bias, bias_velocity, error.sum(dim=0)),
        ):
            velocity.mul_(momentum).add_(gradient).add_(parameter, alpha=decay)
            parameter.sub_(velocity, alpha=lr)
    return loss
