"""What ``lmdbench bench`` measures in one go: everything of training, for one workload."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable, Mapping
from typing import Any

import torch

from lmdbench.bench.training import measure_ce, measure_rrl, measure_step, measure_views
from lmdbench.bench.workload import Workload, memory_errors, require_memory
from lmdbench.core.cores import usable_cores
from lmdbench.core.environment import environment, peak_memory_mib

Say = Callable[[str], None]

BUSY = 0.75  # load a processor, before measuring, from which on figures are not to be trusted
WELL_USED = {"ce": 0.90, "rrl": 0.85}  # method → the share of its ceiling that is enough


def measure(w: Workload, say: Say) -> dict[str, Any]:
    """Everything for one workload. Raises UserError where it doesn't fit the memory."""
    require_memory(w)
    found: dict[str, Any] = {"environment": described(w), "workload": w.describe()}
    with memory_errors(w):
        say("measuring: views")
        found["views"] = measure_views(w)
        say("measuring: ce and its ceiling")
        found["ce"] = measure_ce(w)
        give_back(w)
        say("measuring: rrl and its ceiling")
        found["rrl"] = measure_rrl(w)
        give_back(w)
        say("measuring: where the time of a step goes")
        found["step"] = {name: measure_step(w, name, found[name]) for name in ("ce", "rrl")}
        give_back(w)
    if w.device.type == "cpu":
        found["peak_memory_of_process_mib"] = peak_memory_mib(w.device)
    found["verdict"] = verdict(found)
    return found


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


def give_back(w: Workload) -> None:
    """The memory that the last measurement held."""
    gc.collect()
    if w.device.type == "cuda":
        torch.cuda.empty_cache()


def verdict(found: Mapping[str, Any]) -> str:
    """One sentence on how well the machine is used and what limits it."""
    ce, rrl, step = found["ce"], found["rrl"], found["step"]["ce"]
    reached = f"ce trains at {100 * ce['share_of_ceiling']:.0f} % of what its model alone allows"
    reached += f", rrl at {100 * rrl['share_of_ceiling']:.0f} % of its own ceiling"
    here = found["environment"]
    if here["load_average"] > BUSY * here["processors"]:
        load = f"a load of {here['load_average']:.1f} on {here['processors']} processors"
        return (
            f"Other work was using the machine ({load}), so measure again when it rests: {reached}."
        )
    if all(found[name]["share_of_ceiling"] >= share for name, share in WELL_USED.items()):
        return f"The machine is well used: {reached}; what limits it is the model."
    costs = {
        "fetching images": step["data_milliseconds"],
        "augmentation": step["augmentation_milliseconds"],
        "waiting for launches": step.get("launch_gaps_milliseconds") or 0.0,
    }
    name, cost = max(costs.items(), key=lambda item: item[1])
    return (
        f"Some of the machine is unused: {reached}; beside the model it is {name} that takes most, "
        f"{cost:.3g} ms a step."
    )
