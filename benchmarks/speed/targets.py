"""What lmdbench is held to, and how far a machine's figures reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lmdbench.bench.bench import WELL_USED

NEEDS_A_GPU = "not measured here: needs a GPU"
NO_TIME = "not measured: no time was left"


@dataclass(frozen=True)
class Target:
    """``measured_on``: the device whose figure is meant."""

    title: str
    wanted: float
    unit: str
    measured_on: Literal["GPU", "CPU"]
    at_most: bool = False


# Key → target, in the order in which they are shown.
TARGETS = {
    "ce_share": Target("ce against the ceiling of its model", 100 * WELL_USED["ce"], "%", "GPU"),
    "rrl_share": Target("rrl against its own ceiling", 100 * WELL_USED["rrl"], "%", "GPU"),
    "rrl_rate": Target("rrl on an H100", 9000, "images/s", "GPU"),
    "icc_round": Target("a round of ICC on an H100", 0.6, "s", "GPU", at_most=True),
    "lmd_run": Target("a whole LMD run on an H100, compiling apart", 180, "s", "GPU", at_most=True),
    "icc_memory": Target(
        "a round of ICC, 2048 wide, 23 classes: memory", 16, "GiB", "GPU", at_most=True
    ),
    "ce_cpu_share": Target("ce on the CPU against a bare loop", 95, "%", "CPU"),
    "icc_cpu_times": Target(
        "ICC's Gaussians, sampling, M-step against numpy and a DataLoader", 5, "× as fast", "CPU"
    ),
    "start": Target("a run's start until its first step, CPU", 5, "s", "CPU", at_most=True),
}


def judge(key: str, measured: float | None, note: str = "") -> dict[str, Any]:
    """One row. ``ratio``: how many times as good as wanted, so that 1 is enough."""
    target = TARGETS[key]
    row: dict[str, Any] = {
        "key": key,
        "target": target.title,
        "wanted": target.wanted,
        "at_most": target.at_most,
        "unit": target.unit,
        "measured": measured,
        "ratio": None,
        "verdict": NEEDS_A_GPU,
        "note": note,
    }
    if measured is not None:
        ratio = target.wanted / measured if target.at_most else measured / target.wanted
        row |= {"ratio": ratio, "verdict": "ok" if ratio >= 1 else "missed"}
    elif target.measured_on == "CPU":
        row["verdict"] = "not measured"
    return row


def run_seconds(
    ce: Mapping[str, Any],
    rrl: Mapping[str, Any],
    icc: Mapping[str, Any],
    start_seconds: float,
    images: int,
    held_out: int,
) -> float:
    """A whole LMD run, from what its epochs, rounds, validation, checkpoints and start take."""
    before = rrl["epochs_before_relations"]
    epochs = before * images / rrl["training_before_relations"]["images_per_second"]
    epochs += (rrl["epochs"] - before) * images / rrl["training"]["images_per_second"]
    validation = held_out / ce["evaluation"]["images_per_second"]
    return float(
        start_seconds
        + epochs
        + rrl["epochs"] * (validation + rrl["checkpoint_seconds"])
        + icc["rounds"] * (icc["round_seconds"] + validation + icc["checkpoint_seconds"])
    )
