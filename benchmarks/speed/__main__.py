"""How fast lmdbench works, held to its targets and to what others would write.

    python benchmarks/speed                    # every target that can be measured here
    python benchmarks/speed --json > speed.json
    python benchmarks/speed --backbone resnet50 --batch-size 64   # everything for one workload

The options are those of `lmdbench bench`, which measures training alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from suite import measure_all, measure_targets

from lmdbench.bench.report import NOT_TOLD, number, percent, print_measured, print_table, spread
from lmdbench.cli.bench import UNWRAPPED, say, workload
from lmdbench.core.errors import UserError

ON_CPU = {"batch_size": 16, "images": 48, "seconds": 5.0}  # of the targets
SIZES = {"backbone": str, "image-size": int, "batch-size": int, "classes": int, "images": int}

APART = ("preparing_seconds", "checkpoint_seconds")  # of a round: no part of it
NAMES = {
    "gaussians_seconds": "Gaussians and factors",
    "m_step_seconds": "M-step",
    "e_step_seconds": "E-step",
    "round_seconds": "whole round",
}


def print_all(found: Mapping[str, Any], console: Console) -> None:
    """Everything of one workload."""
    print_measured(found, console)
    console.print()
    ce, rrl, icc, start = (found[name] for name in ("ce", "rrl", "icc", "start"))
    loops = {"images ready": "bare_loop", "same views": "bare_loop_with_views"}
    if "bare_loop" in ce:
        print_table(
            console,
            ("bare loop", "images/s", "±", "ce against it"),
            [
                (
                    title,
                    number(ce[key]["images_per_second"]),
                    spread(ce[key]),
                    percent(ce[f"share_of_{key}"]),
                )
                for title, key in loops.items()
            ],
        )
    print_table(
        console,
        ("round of ICC", "s"),
        [
            (NAMES.get(key, key.removesuffix("_seconds").replace("_", " ")), number(icc[key]))
            for key in icc
            if key.endswith("_seconds") and key not in APART
        ],
    )
    checkpoints = ", ".join(f"{part['checkpoint_seconds']:.2f} s" for part in (rrl, icc))
    facts = [
        ("start of a run until its first step", f"{start['until_first_step_seconds']:.1f} s"),
        ("compiling for ICC, apart from that", f"{icc['preparing_seconds']:.0f} s"),
        ("a checkpoint of rrl, of lmd", checkpoints),
        ("peak memory of ICC", f"{icc['peak_memory_mib']:,.0f} MiB"),
    ]
    print_table(console, ("", ""), facts, right=())


def print_targets(
    targets: Sequence[Mapping[str, Any]], here: Mapping[str, Any], console: Console
) -> None:
    """The table of targets. ``here``: the machine, as it was before anything was measured."""
    rows = []
    for row in targets:
        sign, unit = "≤" if row["at_most"] else "≥", row["unit"]
        measured = row["measured"]
        rows.append(
            (
                row["target"],
                f"{sign} {row['wanted']:,g} {unit}",
                NOT_TOLD if measured is None else f"{number(measured)} {unit}",
                NOT_TOLD if row["ratio"] is None else f"{row['ratio']:.2f}",
                "; ".join(filter(None, (row["verdict"], row["note"]))),
            )
        )
    print_table(console, ("target", "wanted", "measured", "ratio", ""), rows, right=(1, 2, 3))
    console.print("ratio: how many times as good as wanted; 1 is enough", soft_wrap=True)
    console.print(
        f"load before: {here['load_average']:.1f} on {here['processors']} processors; other work "
        "makes what is measured on the CPU worse",
        soft_wrap=True,
    )


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """What the options ask for: one workload where they give a size, else the targets."""
    how = options.precision, options.execution
    given = {key: value for key, value in vars(options).items() if value is not None}
    sizes = {key: value for key, value in given.items() if key in ALL_SIZES}
    seconds = {key: value for key, value in given.items() if key == "seconds"}
    chosen = workload(options.device, *how, {**sizes, **seconds})
    if sizes:
        return measure_all(chosen, say)
    gpu = chosen if chosen.device.type == "cuda" else None
    if gpu is None:
        say("no GPU: only what is of the CPU is measured, in a few minutes")
    small = workload("cpu", options.precision, "auto", {**ON_CPU, **seconds})
    return measure_targets(gpu, small, say)


ALL_SIZES = {name.replace("-", "_") for name in SIZES}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python benchmarks/speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, kind in SIZES.items():
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--seconds", type=float, help="how long each thing is timed, about")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="mixed", choices=("mixed", "float32"))
    parser.add_argument("--execution", default="auto", choices=("auto", "plain", "compiled"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(words)
    try:
        found = measured(options)
    except UserError as error:
        sys.exit(f"speed: {error}")
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=UNWRAPPED)
    if "targets" not in found:
        print_all(found, console)
        return
    if "gpu" in found:
        print_all(found["gpu"], console)
    print_targets(found["targets"], found["cpu"]["environment"], console)


if __name__ == "__main__":
    main()
