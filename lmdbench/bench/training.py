"""Training measured: the ceiling, what runs reach of it, the views, and a step's parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lmdbench.bench.timing import LEAST, Marks, Timing, time_together
from lmdbench.bench.workload import BareStep, BareStudentAndTeacher, Workload
from lmdbench.core.environment import peak_memory_mib, reset_peak_memory
from lmdbench.runs.model import logits_of, train_epoch
from lmdbench.training.method import Method
from lmdbench.training.task import Batch, Task
from lmdbench.training.views.augmentation import VIEWS

VIEW_BATCHES = 8  # made in a row, where the images suffice
PARTS = ("data", "augmentation", "forward", "backward", "optimiser")


def rate(timing: Timing, images: int) -> dict[str, float]:
    return {
        "images_per_second": images / timing.median,
        "best_images_per_second": images / min(timing.seconds),
        "spread_percent": 100 * timing.spread,
        "repeats": len(timing.seconds),
    }


def share(rates: Mapping[str, float], of: Mapping[str, float]) -> float:
    return rates["images_per_second"] / of["images_per_second"]


def measure_views(w: Workload) -> dict[str, Any]:
    """What each view costs: images a second, eager and as runs execute it."""
    task = w.task()
    train, _ = w.parts
    generator = torch.Generator(w.device).manual_seed(0)
    batches = min(VIEW_BATCHES, w.images // w.batch_size)
    found = {}
    for name, view in VIEWS.all().items():
        ((_, (pixels,)),) = train.fetch(iter([[torch.arange(w.batch_size)]]))

        def work(
            apply: Callable[..., Tensor],
            pixels: Tensor = pixels,
            draw: Callable[..., tuple[Tensor, ...]] = view.draw,
        ) -> Callable[[], None]:
            def make() -> None:
                for _ in range(batches):
                    apply(pixels, *draw(len(pixels), generator))

            return make

        works = {"eager": work(view.apply)}
        if task.execution.mode == "compiled":
            works["executed"] = work(task.execution.compile(view.apply))
        with torch.inference_mode():
            timings = time_together(works, w.device, w.seconds / 4)
        rates = {kind: rate(t, batches * w.batch_size) for kind, t in timings.items()}
        found[name] = {"executed": rates["eager"], **rates}
    return found


def measure_ce(
    w: Workload, beside: Mapping[str, Callable[[], object]] = MappingProxyType({})
) -> dict[str, Any]:
    """Cross-entropy through the harness, and the ceiling beside it. ``beside``: other loops over an
    epoch's images by name, timed in turn with them."""
    task = w.task()
    method = w.method("ce", task)
    reset_peak_memory(w.device)
    train_epoch(method, task, 0)  # compiles, where that is done
    epoch, ceiling = timed_epoch(method, 0), _ceiling(w, method)
    works = {"epoch": epoch, "ceiling": ceiling, **beside}
    works["evaluation"] = lambda: logits_of(method, task, task.validation)
    timings = time_together(works, w.device, w.seconds)
    per_epoch = dict.fromkeys(timings, w.images)
    per_epoch |= {"ceiling": full_steps(w) * w.batch_size, "evaluation": len(task.validation)}
    rates = {name: rate(timings[name], n) for name, n in per_epoch.items()}
    found: dict[str, Any] = {
        "ceiling": rates["ceiling"],
        "training": rates["epoch"],
        "share_of_ceiling": share(rates["epoch"], rates["ceiling"]),
        "evaluation": rates["evaluation"],
        "preparing_seconds": task.execution.preparing_seconds,
        "peak_memory_mib": peak_memory_mib(w.device),
        "kernels_milliseconds": _kernel_milliseconds(w, works["epoch"]),
    }
    for name in beside:
        found[name] = rates[name]
        found[f"share_of_{name}"] = share(rates["epoch"], rates[name])
    return found


def measure_rrl(w: Workload) -> dict[str, Any]:
    """RRL before and after its relation losses begin, each beside the ceiling of its own: a student
    alone, and a student with a teacher's forward pass."""
    task = w.task()
    method = w.method("rrl", task)
    late = method.epochs - 1
    reset_peak_memory(w.device)
    train_epoch(method, task, 0)
    works = {
        "before": timed_epoch(method, 0),
        "with": timed_epoch(method, late),
        "student": _ceiling(w, method),
        "teacher": _ceiling(w, method, method.teacher.model),  # type: ignore[arg-type, union-attr]
    }
    timings = time_together(works, w.device, w.seconds)
    images = {"before": w.images, "with": w.images}
    rates = {n: rate(t, images.get(n, full_steps(w) * w.batch_size)) for n, t in timings.items()}
    return {
        "ceiling_student_alone": rates["student"],
        "ceiling": rates["teacher"],
        "training_before_relations": rates["before"],
        "share_of_ceiling_before_relations": share(rates["before"], rates["student"]),
        "training": rates["with"],
        "share_of_ceiling": share(rates["with"], rates["teacher"]),
        "preparing_seconds": task.execution.preparing_seconds,
        "peak_memory_mib": peak_memory_mib(w.device),
        "kernels_milliseconds": _kernel_milliseconds(w, works["with"]),
        "epochs_before_relations": round(method.settings.relations_after * method.epochs),
        "epochs": method.epochs,
    }


def full_steps(w: Workload) -> int:
    """Whole batches in an epoch."""
    return w.images // w.batch_size


def timed_epoch(method: Method, number: int) -> Callable[[], object]:
    return lambda: train_epoch(method, method.task, number)


def fixed_batch(w: Workload, task: Task, views: tuple[str, ...]) -> Batch:
    generator = torch.Generator(w.device).manual_seed(0)
    return task.train.batch(torch.arange(w.batch_size), views, generator)


def _ceiling(
    w: Workload, method: Method, teacher: torch.nn.Module | None = None
) -> Callable[[], None]:
    """An epoch's whole batches as bare training steps on one batch of ready views, the model
    compiled and the step captured as the method's own are."""
    task, optimizer = method.task, method.running_optimizers["sgd"]
    batch = fixed_batch(w, task, ("strong", "weak"))
    strong, weak = batch.views
    if teacher is None:
        bare, inputs = BareStep(method.model, optimizer, task), (strong, batch.labels)
    else:
        bare = BareStudentAndTeacher(method.model, optimizer, task, teacher)
        inputs = (strong, weak, batch.labels)  # type: ignore[assignment]
    step = task.execution.replay(bare, method.stepper.tensors, "ceiling")

    def train() -> None:
        method.train()
        for _ in range(full_steps(w)):
            step(*inputs)

    return train


def measure_step(w: Workload, name: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Where the time of a step goes, in ms of the median step in plain execution.

    On a GPU also of the step as it is executed, which was ``measured``: of its time some goes by
    without any computing, between launches.
    """
    task = w.task("plain")
    method = w.method(name, task)
    method.train()
    late = method.epochs - 1
    task.streams.start_epoch(late + 1)
    method.progress = late / method.epochs
    steps: list[dict[str, float]] = []
    while len(steps) < LEAST + 1:  # the first is the warm-up
        steps += _parts_of_steps(method, LEAST + 1 - len(steps))
    found: dict[str, Any] = {
        f"{part}_milliseconds": sorted(step[part] for step in steps[1:])[LEAST // 2]
        for part in PARTS
    }
    found["plain_step_milliseconds"] = sum(found.values())
    if w.device.type == "cuda":
        executed = 1000 * w.batch_size / measured["training"]["images_per_second"]
        kernels = measured["kernels_milliseconds"]
        found["executed_step_milliseconds"] = executed
        found["kernels_milliseconds"] = kernels
        found["launch_gaps_milliseconds"] = kernels and max(0.0, executed - kernels)
    return found


def _parts_of_steps(method: Method, most: int) -> list[dict[str, float]]:
    """Milliseconds of each part of up to so many of an epoch's steps on whole batches."""
    marks: Marks
    loss_of = method.loss

    def loss(batch: Any) -> Tensor:
        found = loss_of(batch)
        marks.mark("forward")
        return found

    def before_optimiser(*_: Any) -> None:
        marks.mark("backward")

    hooks = [
        optimizer.register_step_pre_hook(before_optimiser)
        for optimizer in method.running_optimizers.values()
    ]
    method.loss = loss  # type: ignore[method-assign]
    found: list[dict[str, float]] = []
    marks = Marks(method.task.device)
    try:
        for _, raws in method.draws():
            marks.mark("data")
            batch = raws[0].batch(method.views)
            marks.mark("augmentation")
            method.step(batch)
            marks.mark("optimiser")  # with a teacher's update
            if len(batch) == method.usual_size:
                found.append(marks.milliseconds())
            if len(found) == most:
                break
            marks = Marks(method.task.device)
    finally:
        del method.loss
        for hook in hooks:
            hook.remove()
    return found


def _kernel_milliseconds(w: Workload, epoch: Callable[[], object]) -> float | None:
    """What a GPU computes for a step as executed, by its profiler; None where that can't tell."""
    if w.device.type != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        epoch()
        torch.cuda.synchronize(w.device)
    busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1000
    return busy * w.batch_size / w.images if busy else None
