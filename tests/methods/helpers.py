"""Random numbers that tests of methods work on, and looks at what a method does."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.training.method import Method


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_batch(classes: int = 4, batch: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (batch, classes) float64 and labels (batch,) int64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (batch,), generator=generator)


def random_counts(classes: int, seed: int = 0) -> Tensor:
    """From 1 to 999 images of each class (classes,) float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 1000, (classes,), generator=generator).double()


def unit_rows(n: int, width: int, seed: int = 0) -> Tensor:
    """Random rows of norm 1, (n, width) float64."""
    return F.normalize(randn(n, width, seed=seed), dim=1)


def redrawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with each parameter drawn at random, those that begin alike as well."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.double().parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return module


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """A copy of its state, parameters and buffers."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Which parts of the module's state are no longer bit for bit what they were."""
    after = module.state_dict()
    assert after.keys() == before.keys()
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def train_and_resume(
    train: Callable[..., object], whole: Method, resumed: Method, after: int
) -> None:
    """Trains one method without a break, and another from the checkpoint of the first after so many
    epochs."""
    train(whole, 0, after)
    state = copy.deepcopy(whole.state_dict())
    optimizers = {n: copy.deepcopy(o.state_dict()) for n, o in whole.running_optimizers.items()}
    train(whole, after)
    resumed.load_state_dict(state)
    for name, optimizer in resumed.running_optimizers.items():
        optimizer.load_state_dict(optimizers[name])
    train(resumed, after)


def drawn_by_class(method: Method) -> list[int]:
    """Images of each class in the batches of an epoch."""
    labels = torch.cat([batch.labels for _, batch in method.batches()])
    return torch.bincount(labels, minlength=method.task.num_classes).tolist()


@torch.no_grad()
def recall(method: Method, c: int) -> float:
    """Share of the validation images of class ``c`` that are taken for it."""
    (batch,) = method.task.in_order(method.task.validation)
    predicted = method.predict(batch.images).argmax(1)
    return (predicted[batch.labels == c] == c).float().mean().item()


def assert_finite(loss: Tensor, *leaves: Tensor) -> None:
    """The loss and its gradient by each of the leaves."""
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, leaves):
        assert gradient.isfinite().all()
