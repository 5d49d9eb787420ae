"""Everything that is measured: of one workload, and every row of the targets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from icc_round import checkpoint_seconds, measure_round
from peers import ROUND, bare_loops, measure_peer
from startup import measure_start
from targets import NO_TIME, TARGETS, judge, run_seconds

from lmdbench.bench.bench import Say, described, give_back, measure
from lmdbench.bench.training import measure_ce
from lmdbench.bench.workload import Workload, memory_errors, require_memory
from lmdbench.core.environment import peak_memory_mib
from lmdbench.runs.model import train_epoch

WIDE = {"backbone": "resnet50", "classes": 23}
SUITE_SECONDS = 480.0  # for all targets
# Key of a target → seconds that measuring it may take on a slow machine, in the order in which they
# are measured; on a GPU what one workload comes to is measured before
NEEDED = {"start": 40.0, "ce_cpu_share": 60.0, "icc_memory": 90.0, "icc_cpu_times": 80.0}
WIDE_LIMIT = 16 << 30  # bytes of a GPU's memory that a round of it should fit into


def measure_all(w: Workload, say: Say) -> dict[str, Any]:
    """What ``lmdbench bench`` measures, and besides it the start of a run, checkpoints, a round of
    ICC and, on the CPU, bare loops. Raises UserError where the workload doesn't fit the memory, or
    where there is no room for what the start of a run writes."""
    require_memory(w)
    say("measuring: the start of a run")
    start = measure_start(w.device, w.seconds)
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


def measure_targets(
    gpu: Workload | None, cpu: Workload, say: Say, seconds: float = SUITE_SECONDS
) -> dict[str, Any]:
    """Every row of the targets that can be measured here, and the figures they come from.

    ``gpu``: the workload of the targets; None where there is no GPU. ``cpu``: a small one. What
    would take longer than is left of ``seconds`` is left out, and its row says so.
    """
    require_memory(cpu)
    ends = time.monotonic() + seconds
    on_cpu: dict[str, Any] = {"environment": described(cpu), "workload": cpu.describe()}
    found: dict[str, Any] = {"cpu": on_cpu}
    rows: dict[str, Any] = {}
    if gpu is not None:
        found["gpu"] = on_gpu = measure_all(gpu, say)
        rows |= _gpu_rows(gpu, on_gpu)
    measures = {key: partial(row, cpu, say, on_cpu) for key, row in CPU_ROWS.items()}
    if gpu is not None:
        measures["icc_memory"] = partial(_wide_round, gpu, say)
    for key in [key for key in NEEDED if key in measures]:
        late = time.monotonic() + NEEDED[key] > ends
        rows[key] = judge(key, None) | {"verdict": NO_TIME} if late else measures[key]()
    found["targets"] = [rows.get(key) or judge(key, None) for key in TARGETS]
    return found


def _start_row(cpu: Workload, say: Say, found: dict[str, Any]) -> dict[str, Any]:
    say("measuring: the start of a run, on the CPU")
    found["start"] = start = measure_start(cpu.device, cpu.seconds)
    return judge("start", start["until_first_step_seconds"])


def _ce_row(cpu: Workload, say: Say, found: dict[str, Any]) -> dict[str, Any]:
    say("measuring: ce on the CPU, and a bare loop")
    with memory_errors(cpu):
        found["ce"] = ce = measure_ce(cpu, bare_loops(cpu))
    views = 100 * ce["share_of_bare_loop_with_views"]
    note = f"{views:.0f} % of one that makes the same views"
    return judge("ce_cpu_share", 100 * ce["share_of_bare_loop"], note)


def _icc_row(cpu: Workload, say: Say, found: dict[str, Any]) -> dict[str, Any]:
    say("measuring: ICC on the CPU, and numpy with a DataLoader")
    found["icc_against_peer"] = peer = measure_peer(replace(ROUND, seconds=cpu.seconds))
    return judge("icc_cpu_times", peer["times_as_fast"])


# Rows of the CPU → what measures each, and keeps its figures
CPU_ROWS = {"start": _start_row, "ce_cpu_share": _ce_row, "icc_cpu_times": _icc_row}


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
