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
    ce, rrl = found["ce"], found["rrl"]
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
    print_table(
        console,
        ("training", "images/s", "±", "of its ceiling"),
        [
            (name, number(rates["images_per_second"]), spread(rates), percent(part))
            for name, rates, part in rows
        ],
    )
    print_table(
        console,
        ("view", "eager, images/s", "as executed"),
        [
            (name, *(number(v[kind]["images_per_second"]) for kind in ("eager", "executed")))
            for name, v in found["views"].items()
        ],
    )
    steps = found["step"]
    keys = [key for key in steps["ce"] if key.endswith("_milliseconds")]
    print_table(
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
    methods = ("ce", "rrl")
    compiling = ", ".join(f"{name} {found[name]['preparing_seconds']:.0f} s" for name in methods)
    facts = [("compiling, apart from that", compiling)]
    if (peak := found.get("peak_memory_of_process_mib", 0.0)) is None:
        facts.append(("peak memory", NOT_TOLD))
    elif peak:
        facts.append(("peak memory", f"{peak:,.0f} MiB"))
    else:
        peaks = ", ".join(f"{name} {found[name]['peak_memory_mib']:,.0f} MiB" for name in methods)
        facts.append(("peak memory of the GPU", peaks))
    print_table(console, ("", ""), facts, right=())
    console.print(found["verdict"], soft_wrap=True)


def number(value: float | None) -> str:
    """Three digits that count, more where the number has them before its point."""
    if value is None:
        return NOT_TOLD
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def spread(rates: Mapping[str, float]) -> str:
    return f"{rates['spread_percent']:.0f} %" if rates["repeats"] > 1 else NOT_TOLD


def print_table(
    console: Console,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[int] | None = None,
) -> None:
    """A table whose columns but the first are flush right, or those in ``right``."""
    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(header)
    )
    for place, name in enumerate(header):
        flush = place > 0 if right is None else place in right
        table.add_column(Text(name), justify="right" if flush else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    console.print()
