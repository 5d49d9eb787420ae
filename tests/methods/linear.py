"""Methods whose network is a linear head on drawn numbers, as for the authors' own values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lmdbench.models.classifier import Encoder
from lmdbench.training.method import METHODS, Method
from lmdbench.training.task import Batch

from .released import B, Case, D


def linear_method(
    make_task: Callable[..., Any], case: Case, name: str, **settings: Any
) -> tuple[Method, Batch]:
    """x Wᵀ + b in float64, ready for one step of SGD, and the batch. Draws x, y, W and b."""
    x, y = case.normal(B, D), case.labels(B)
    cls = METHODS.get(name)
    task = make_task((B,) + (1,) * (case.C - 1))
    task.class_counts = case.counts
    known = {"lr": 0.1, "momentum": 0.0, **settings}
    method = cls(task, cls.Settings(**known), Encoder(nn.Identity(), D)).double()
    with torch.no_grad():
        method.model.head.weight.copy_(case.normal(case.C, D) / D**0.5)
        method.model.head.bias.copy_(case.normal(case.C, scale=0.1))
    method.start_training()
    return method, Batch((x,), y, torch.arange(B))


def gradient_of_step(method: Method, batch: Batch) -> float:
    """The norm of what the step went along, by how far it moved the parameters."""
    before = [p.detach().clone() for p in method.optimized]
    method.step(batch)
    moved = [a - b.detach() for a, b in zip(before, method.optimized, strict=True)]
    return float(torch.stack([m.norm() for m in moved]).norm()) / method.settings.lr
