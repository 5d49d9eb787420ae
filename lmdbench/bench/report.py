"""What was measured, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

NOT_TOLD = "–"


def print_measured(found: Mapping[str, Any], console: Console) -> None:
    """Everything of one workload, and the sentence at the end."""
    environment, size = found["environment"], found["workload"]
    ce, rrl, icc, start = (found[name] for name in ("ce", "rrl", "icc", "start"))
    threads = f"{environment['threads']} threads"
    console.print(
        f"{environment['device']}, {threads}, torch {environment['versions']['torch']}, "
        f"{environment['execution']} execution, {environment['precision']}\n"
        f"{size['backbone']}, {size['image_size_pixels']} px, batches of {size['batch_size']}, "
        f"{size['images']:,} random images, {size['classes']} classes\n"
    )
    rows = [
        ("ce: its model alone (ceiling)", ce["ceiling"], None),
        ("ce", ce["training"], ce["share_of_ceiling"]),
        ("rrl: student alone", rrl["ceiling_student_alone"], None),
        (
            "rrl before the relation losses",
            rrl["training_before_relations"],
            rrl["share_of_ceiling_before_relations"],
        ),
        ("rrl: student and teacher (ceiling)", rrl["ceiling"], None),
        ("rrl with the relation losses", rrl["training"], rrl["share_of_ceiling"]),
        ("evaluation", ce["evaluation"], None),
    ]
    if "bare_loop" in ce:
        rows += [
            ("bare loop, images ready", ce["bare_loop"], None),
            ("bare loop, same views", ce["bare_loop_with_views"], None),
        ]
    _print(
        console,
        ("training", "images/s", "±", "of its ceiling"),
        [
            (name, number(rates["images_per_second"]), _spread(rates), _percent(part))
            for name, rates, part in rows
        ],
    )
    if "bare_loop" in ce:
        console.print(
            f"ce against the bare loops: {_percent(ce['share_of_bare_loop'])} where images are "
            f"ready, {_percent(ce['share_of_bare_loop_with_views'])} with the same views\n"
        )
    _print(
        console,
        ("view", "eager, images/s", "as executed"),
        [
            (name, *(number(v[kind]["images_per_second"]) for kind in ("eager", "executed")))
            for name, v in found["views"].items()
        ],
    )
    steps = found["step"]
    keys = [key for key in steps["ce"] if key.endswith("_milliseconds")]
    _print(
        console,
        ("ms a step", *steps),
        [
            (
                key.removesuffix("_milliseconds").replace("_", " "),
                *(number(step[key]) for step in steps.values()),
            )
            for key in keys
        ],
    )
    parts = [key for key in icc if key.endswith("_seconds") and key not in APART]
    _print(
        console,
        ("round of ICC", "s"),
        [
            (NAMES.get(key, key.removesuffix("_seconds").replace("_", " ")), number(icc[key]))
            for key in parts
        ],
    )
    facts = [
        ("start of a run until its first step", f"{start['until_first_step_seconds']:.1f} s"),
        (
            "compiling, apart from that",
            ", ".join(
                f"{name} {found[key]['preparing_seconds']:.0f} s"
                for name, key in (("ce", "ce"), ("rrl", "rrl"), ("lmd", "icc"))
            ),
        ),
        ("a checkpoint of rrl, of lmd", _both(rrl, icc)),
    ]
    if "peak_memory_of_process_mib" in found:
        facts.append(("peak memory", f"{found['peak_memory_of_process_mib']:,.0f} MiB"))
    else:
        peaks = ", ".join(
            f"{name} {found[key]['peak_memory_mib']:,.0f} MiB"
            for name, key in (("ce", "ce"), ("rrl", "rrl"), ("lmd", "icc"))
        )
        facts.append(("peak memory of the GPU", peaks))
    _print(console, ("", ""), facts, right=())
    console.print(found["verdict"], soft_wrap=True)


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
    _print(console, ("target", "wanted", "measured", "ratio", ""), rows, right=(1, 2, 3))
    console.print("ratio: how many times as good as wanted; 1 is enough", soft_wrap=True)
    console.print(
        f"load before: {here['load_average']:.1f} on {here['processors']} processors; other work "
        "makes what is measured on the CPU worse",
        soft_wrap=True,
    )


APART = ("preparing_seconds", "checkpoint_seconds")  # of a round: no part of it
NAMES = {
    "gaussians_seconds": "Gaussians and factors",
    "m_step_seconds": "M-step",
    "e_step_seconds": "E-step",
    "round_seconds": "whole round",
}


def number(value: float | None) -> str:
    """Three digits that count, more where the number has them before its point."""
    if value is None:
        return NOT_TOLD
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _spread(rates: Mapping[str, float]) -> str:
    return f"{rates['spread_percent']:.0f} %"


def _both(*parts: Mapping[str, float]) -> str:
    return ", ".join(f"{part['checkpoint_seconds']:.2f} s" for part in parts)


def _print(
    console: Console,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[int] | None = None,
) -> None:
    """A table whose columns but the first are flush right, or those in ``right``."""
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
        show_header=any(header),
    )
    for place, name in enumerate(header):
        flush = place > 0 if right is None else place in right
        table.add_column(Text(name), justify="right" if flush else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    console.print()
