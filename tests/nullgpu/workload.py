"""Methods ready to train on the null GPU. Imported by the scripts that run on it."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
from typing import Any

import kernels
import torch

from lmdbench.core.randomness import Streams
from lmdbench.models.backbones import get_backbone
from lmdbench.training.method import METHODS, Method, Start
from lmdbench.training.task import Images, Task

kernels.install()
GPU = torch.device("cuda")
runtime = ctypes.CDLL(None)
for name in ("nullgpu_peak", "nullgpu_used"):
    getattr(runtime, name).restype = ctypes.c_size_t
SHORT = {"trials": 0, "epochs": 5, "rounds": 4, "virtual_per_class": 600, "head_batch_size": 16}


class Told(logging.Handler):
    """Collects what a run's log would warn of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        logging.getLogger("lmdbench").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


told = Told()


def make_task(
    mode: str,
    images: int = 58,
    size: int = 32,
    classes: int = 5,
    validation: int = 20,
    device: torch.device = GPU,
) -> Task:
    pixels = torch.zeros(max(images, validation), 3, size, size, dtype=torch.uint8)
    labels = torch.arange(len(pixels)) % classes
    parts = (Images(pixels, torch.arange(n), labels[:n], device) for n in (images, validation))
    names = tuple(f"class {c}" for c in range(classes))
    return Task(names, *parts, Streams(0, device), device, precision=torch.bfloat16, mode=mode)


def make_method(
    name: str, task: Task, ancestor: Method | None = None, backbone: str = "small", **settings: Any
) -> Method:
    cls = METHODS.get(name)
    known = {field.name for field in dataclasses.fields(cls.Settings)}
    given = {k: v for k, v in {**SHORT, "batch_size": 16, **settings}.items() if k in known}
    method = cls(task, cls.Settings(**given), get_backbone(backbone).construct())
    method.to(task.device).to(memory_format=torch.channels_last)
    if ancestor is not None:
        method.start(ancestor)
    method.start_training()
    return method


def ancestor_of(name: str) -> str | None:
    start = METHODS.get(name).starts_from
    return start.method if isinstance(start, Start) else start
