"""What is measured in one go: everything for one workload, or every row of the targets."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from lmdbench.bench.icc import measure_round
from lmdbench.bench.peers import measure_peer
from lmdbench.bench.startup import measure_start
from lmdbench.bench.targets import TARGETS, judge, run_seconds, verdict
from lmdbench.bench.training import (
    measure_ce,
    measure_rrl,
    measure_step,
    measure_views,
)
from lmdbench.bench.workload import Workload, memory_errors, require_memory
from lmdbench.core.cores import usable_cores
from lmdbench.core.environment import environment, peak_memory_mib

Say = Callable[[str], None]

WIDE = {"backbone": "resnet50", "classes": 23}
WIDE_LIMIT = 16 << 30  # bytes of a GPU's memory that a round of it should fit into


def measure(w: Workload, say: Say) -> dict[str, Any]:
    """Everything for one workload. Raises UserError where it doesn't fit the memory, or where
    there is no room for what the start of a run writes."""
    require_memory(w)
    say("measuring: the start of a run")
    found: dict[str, Any] = {"environment": described(w), "workload": w.describe()}
    found["start"] = measure_start(w.device)
    with memory_errors(w):
        say("measuring: views")
        found["views"] = measure_views(w)
        say("measuring: ce and its ceiling")
        found["ce"] = measure_ce(w)
        _forget(w)
        say("measuring: rrl and its ceiling")
        found["rrl"] = measure_rrl(w)
        _forget(w)
        say("measuring: where the time of a step goes")
        found["step"] = {name: measure_step(w, name, found[name]) for name in ("ce", "rrl")}
        _forget(w)
        say("measuring: a round of ICC")
        found["icc"] = measure_round(w, least=1 if w.device.type == "cpu" else 3)
        _forget(w)
    if w.device.type == "cpu":
        found["peak_memory_of_process_mib"] = peak_memory_mib(w.device)
    found["verdict"] = verdict(found)
    return found


def measure_targets(gpu: Workload | None, cpu: Workload, say: Say) -> dict[str, Any]:
    """Every row of the targets that can be measured here, and the figures they come from.

    ``gpu``: the workload of the targets; None where there is no GPU. ``cpu``: a small one.
    """
    require_memory(cpu)
    here = described(cpu)
    say("measuring: the start of a run, on the CPU")
    start = measure_start(cpu.device)
    rows = {"start": judge("start", start["until_first_step_seconds"])}
    say("measuring: ce on the CPU, and a bare loop")
    with memory_errors(cpu):
        ce = measure_ce(cpu)
    views = 100 * ce["share_of_bare_loop_with_views"]
    note = f"{views:.0f} % of one that makes the same views"
    rows["ce_cpu_share"] = judge("ce_cpu_share", 100 * ce["share_of_bare_loop"], note)
    say("measuring: ICC on the CPU, and numpy with a DataLoader")
    peer = measure_peer()
    rows["icc_cpu_times"] = judge("icc_cpu_times", peer["times_as_fast"])
    found: dict[str, Any] = {
        "cpu": {
            "environment": here,
            "workload": cpu.describe(),
            "ce": ce,
            "icc_against_peer": peer,
            "start": start,
        }
    }
    if gpu is not None:
        _forget(gpu)
        found["gpu"] = on_gpu = measure(gpu, say)
        rows |= _gpu_rows(gpu, on_gpu)
        rows["icc_memory"] = _wide_round(gpu, say)
    found["targets"] = [rows.get(key) or judge(key, None) for key in TARGETS]
    return found


def _gpu_rows(w: Workload, found: dict[str, Any]) -> dict[str, Any]:
    ce, rrl, icc = found["ce"], found["rrl"], found["icc"]
    device = str(found["environment"]["device"])
    other = "" if "H100" in device else f"measured on {device}"
    held_out = len(w.parts[1])
    start = found["start"]["until_first_step_seconds"]
    whole = run_seconds(ce, rrl, icc, start, w.images, held_out)
    compiling = rrl["preparing_seconds"] + icc["preparing_seconds"]
    how = f"extrapolated from its parts; {compiling:.0f} s of compiling apart"
    return {
        "ce_share": judge("ce_share", 100 * ce["share_of_ceiling"]),
        "rrl_share": judge("rrl_share", 100 * rrl["share_of_ceiling"]),
        "rrl_rate": judge("rrl_rate", rrl["training"]["images_per_second"], other),
        "icc_round": judge("icc_round", icc["round_seconds"], other),
        "lmd_run": judge("lmd_run", whole, "; ".join(filter(None, (how, other)))),
    }


def _wide_round(gpu: Workload, say: Say) -> dict[str, Any]:
    """A round with wide features under the limit of the target: whether it works, and its peak."""
    gpu.forget_images()
    wide = replace(gpu, **WIDE, seconds=0.0)  # type: ignore[arg-type]
    _forget(gpu)
    say("measuring: the memory of a round of ICC with ResNet-50 and 23 classes")
    try:
        with _limited(wide.device):
            peak = measure_round(wide, least=1)["peak_memory_mib"] / 1024
    except torch.cuda.OutOfMemoryError:
        return judge("icc_memory", None, "out of memory under that limit") | {"verdict": "missed"}
    return judge("icc_memory", peak, "worked under that limit")


@contextmanager
def _limited(device: torch.device) -> Iterator[None]:
    """No more of the GPU's memory than the limit."""
    index = torch.cuda.current_device() if device.index is None else device.index
    total = torch.cuda.get_device_properties(index).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, WIDE_LIMIT / total), index)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, index)


def described(w: Workload) -> dict[str, Any]:
    """The machine, and how it works on a workload."""
    return {
        **environment(w.device),
        "machine": platform.platform(),
        "processors": usable_cores(),
        "load_average": os.getloadavg()[0],  # of the last minute: before anything is measured
        "execution": w.mode,
        "precision": str(w.precision or torch.float32).removeprefix("torch."),
    }


def _forget(w: Workload) -> None:
    """Give back what the last measurement held."""
    gc.collect()
    if w.device.type == "cuda":
        torch.cuda.empty_cache()
