"""How long a run will take, measured in moments without any image of its data set."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from lmdbench.core.environment import device_name
from lmdbench.core.errors import UserError
from lmdbench.core.randomness import Streams
from lmdbench.runs.model import (
    RANDOM,
    fit_last,
    logits_of,
    new_method,
    resolved_precision,
    train_epoch,
)
from lmdbench.runs.plan import PlannedRun
from lmdbench.sweep.estimate import Estimate
from lmdbench.training.method import Method
from lmdbench.training.task import Images, Task

FEW, MORE = 2, 4  # batches in the two epochs that are measured
DRAWN = 64  # different images: drawing takes time, and what they show takes none
ENOUGH_SECONDS, MOST_REPEATS = 1.0, 5  # short epochs are measured again; the median counts


@dataclass(frozen=True)
class Measured:
    """Seconds of one epoch with its validation, and of what is fitted after the last."""

    images: int
    epochs: int  # of the run
    epoch: float
    finish: float


def calibrate(run: PlannedRun, device: torch.device) -> Estimate:
    """Measure an epoch of a run's method at two small sizes, and what it fits after the last.

    The images are random pixels of the run's image size, the classes in proportion to its own. What
    an epoch takes is taken to be a + b · images: a is what does not depend on the images, such as
    LMD's virtual features. Left out are opening the store, loading weights and checkpoints, and
    that some methods are faster in their first epochs. Needs no file and no network: weights are
    random, those of its ancestor, too. As many CPU threads work as this process has. Raises
    UserError where the method fails.
    """
    split = run.context.prepared.split
    train, held_out = split.counts("train"), int(split.counts("validation").sum())
    total = int(train.sum())
    batch = int(run.spec.settings.get("batch_size", 128))
    sizes = (FEW * batch, MORE * batch) if total > MORE * batch else (total,)
    try:
        measured = []
        for size in sizes:
            task = _task(run, scaled_counts(train, size), round(held_out * size / total), device)
            measured.append(_measure(run, task))
    except Exception as error:  # a method of a plug-in may do anything
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{run.title} can't be measured: {type(error).__name__}: {reason}; "
            "leave out --calibrate, or mend the method"
        ) from error
    images = [m.images for m in measured]
    epoch = extrapolate(images, [m.epoch for m in measured], total)
    finish = extrapolate(images, [m.finish for m in measured], total)
    seconds = measured[0].epochs * epoch + finish
    return Estimate(seconds, device_name(device), f"a measurement of {run.spec.method}")


def scaled_counts(counts: np.ndarray, size: int) -> list[int]:
    """About ``size`` images in the proportions of ``counts`` (C,), of each class at least one."""
    return [max(1, round(n * size / counts.sum())) for n in counts.tolist()]


def extrapolate(images: list[int], seconds: list[float], total: int) -> float:
    """Seconds at ``total`` images, on the line a + b · images through one or two measurements.

    Neither a nor b may be negative, as they could by chance.
    """
    slope = seconds[-1] / images[-1]  # of a line through 0
    if len(images) > 1:
        slope = min(slope, max(0.0, (seconds[1] - seconds[0]) / (images[1] - images[0])))
    return seconds[-1] + slope * (total - images[-1])


def _task(run: PlannedRun, counts: list[int], held_out: int, device: torch.device) -> Task:
    """A task like the run's, of random pixels, or random features where its encoder is frozen."""
    size, backbone = run.spec.image_size, run.context.backbone
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (DRAWN, 3, size, size), dtype=torch.uint8, generator=generator)
    if backbone.frozen:
        pixels = torch.randn(DRAWN, backbone.construct().out_features, generator=generator)

    def images(labels: torch.Tensor) -> Images:
        return Images(pixels, torch.arange(len(labels)) % DRAWN, labels, device)

    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return Task(
        classes=run.context.prepared.split.classes,
        train=images(labels),
        validation=images(torch.arange(held_out) % len(counts)),
        streams=Streams(run.spec.seed, device),
        device=device,
        precision=resolved_precision(run.spec, device),
    )


def _measure(run: PlannedRun, task: Task) -> Measured:
    """Time one of the middle epochs, after a first one that is not counted."""
    method = _build(run, task)
    method.start_training()

    def epoch(number: int) -> None:
        train_epoch(method, task, number)
        logits_of(method, task, task.validation)

    seconds: list[float] = []
    if method.epochs:
        epoch(0)
        while len(seconds) < MOST_REPEATS and sum(seconds) < ENOUGH_SECONDS:
            seconds.append(_time(lambda: epoch(method.epochs // 2), task.device))
    finish = _time(lambda: fit_last(method, task), task.device)
    epoch_seconds = median(seconds) if seconds else 0.0
    return Measured(len(task.train), method.epochs, epoch_seconds, finish)


def _build(run: PlannedRun, task: Task) -> Method:
    """The run's method with random weights, started from its ancestor's with random weights."""
    context = replace(run.context, weights=RANDOM)
    method = new_method(replace(run, context=context), task)
    if run.ancestor is not None:
        method.start(_build(run.ancestor, task).eval())
    return method


def _time(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
