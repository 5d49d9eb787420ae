"""Everything that is measured: of one workload, and every row of the targets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from icc_round import checkpoint_seconds, measure_round
from peers import bare_loops, measure_peer
from startup import measure_start
from targets import TARGETS, judge, run_seconds

from lmdbench.bench.bench import Say, described, give_back, measure
from lmdbench.bench.training import measure_ce
from lmdbench.bench.workload import Workload, memory_errors, require_memory
from lmdbench.core.environment import peak_memory_mib
from lmdbench.runs.train import train_epoch

WIDE = {"backbone": "resnet50", "classes": 23}
WIDE_LIMIT = 16 << 30  # bytes of a GPU's memory that a round of it should fit into


def measure_all(w: Workload, say: Say) -> dict[str, Any]:
    """What ``lmdbench bench`` measures, and besides it the start of a run, checkpoints, a round of
    ICC and, on the CPU, bare loops. Raises UserError where the workload doesn't fit the memory, or
    where there is no room for what the start of a run writes."""
    require_memory(w)
    say("measuring: the start of a run")
    start = measure_start(w.device)
    found = {"start": start, **measure(w, say)}
    with memory_errors(w):
        say("measuring: a checkpoint")
        task = w.task("plain")
        rrl = w.method("rrl", task)
        train_epoch(rrl, task, 0)  # the optimiser's momentum is there from the first step on
        found["rrl"]["checkpoint_seconds"] = checkpoint_seconds(rrl)
        del task, rrl
        give_back(w)
        say("measuring: a round of ICC")
        found["icc"] = measure_round(w, least=1 if w.device.type == "cpu" else 3)
        give_back(w)
        if w.device.type == "cpu":
            say("measuring: bare loops")
            beside = measure_ce(w, bare_loops(w))
            found["ce"] |= {key: beside[key] for key in beside if "bare_loop" in key}
            found["peak_memory_of_process_mib"] = peak_memory_mib(w.device)
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
        ce = measure_ce(cpu, bare_loops(cpu))
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
        give_back(gpu)
        found["gpu"] = on_gpu = measure_all(gpu, say)
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
    give_back(gpu)
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
