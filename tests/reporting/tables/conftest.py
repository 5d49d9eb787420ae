"""Comparisons that every form of a table is tested with."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lmdbench.comparison.compare import Comparison, compare
from lmdbench.comparison.published import PublishedColumn
from lmdbench.comparison.results import read_results
from lmdbench.comparison.types import MethodResult, Pair, Rank, Ranks, RankSpread, RankStability
from lmdbench.evaluation.differences import Difference
from lmdbench.evaluation.inference import Estimate

FakeRun = Callable[..., Path]

HALF = 0.02  # of the intervals
PRIMARY = "balanced_accuracy"
NO_INTERVAL = "df has 2 test images; fewer than 5"

# Names that need care in some form.
AWKWARD = ["nv_1", "mel & co", "50% {a}", "x|y<z>#$^~\\"]
AWKWARD_GROUPS = {"head": AWKWARD[:1], "medium": AWKWARD[1:3], "tail": AWKWARD[3:], "a_b|c": []}


def filled(comparison: Comparison, **more: Any) -> Comparison:
    """With statistics made up by hand: intervals of ± 2 points and differences to lmd, of which
    ce's is significant. ``more``: fields of every table."""
    blocks = []
    for block in comparison.tables:
        found = [row for row in block.rows if row.method == "lmd"]
        reference = found[0] if found else None
        rows = tuple(_filled(row, block.rows, reference) for row in block.rows)
        label = None if reference is None else reference.label
        blocks.append(replace(block, rows=rows, reference=label, primary=PRIMARY, **more))
    return replace(comparison, tables=tuple(blocks))


def _filled(
    row: MethodResult, rows: Sequence[MethodResult], reference: MethodResult | None
) -> MethodResult:
    cells = {}
    for name, cell in row.cells.items():
        means = sorted({r.cells[name].mean or 0.0 for r in rows}, reverse=True)
        cell = replace(
            cell,
            best=cell.mean is not None and len(means) > 1 and cell.mean == means[0],
            second=cell.mean is not None and len(means) > 1 and cell.mean == means[1],
            estimate=estimate(cell.mean, nan=name == "macro_f1"),
            difference=None,
            p_corrected=None,
            mark="",
            no_interval=NO_INTERVAL if name == "macro_f1" else "",
        )
        if reference not in (None, row) and cell.mean is not None:
            assert reference is not None
            gap = cell.mean - (reference.cells[name].mean or 0.0)
            primary, worse = name == PRIMARY, row.method == "ce"
            cell = replace(
                cell,
                difference=difference(gap),
                p_corrected=0.024 if primary else None,
                mark="worse" if primary and worse else "",
            )
        cells[name] = cell
    recalls = {name: replace(c, estimate=estimate(c.mean)) for name, c in row.recalls.items()}
    return replace(row, cells=cells, recalls=recalls, by_class=recalls)


def estimate(value: float | None, nan: bool = False) -> Estimate | None:
    if value is None:
        return None
    low, high = (math.nan, math.nan) if nan else (max(0.0, value - HALF), min(1.0, value + HALF))
    return Estimate(value, low, high, HALF / 2, HALF / 2, math.nan, math.inf, 3)


def difference(value: float) -> Difference:
    test = (HALF / 2, HALF / 2, HALF / 4, 5.0, 3)
    return Difference(
        value, value - HALF, value + HALF, *test, 0.012, 0.25, 0.051, 0.034, False, 0.08
    )


@pytest.fixture
def two(tmp_path: Path, fake_run: FakeRun) -> Comparison:
    """ce and lmd with three seeds, focal with one, on partial data; another table for resnet50."""
    folder = tmp_path / "two"
    write = partial(fake_run, results=folder)
    missing = {"missing": 1, "total": 143, "dropped_classes": ["vasc_x"]}
    record = {"partial": missing, "synthetic": True}
    for seed in range(3):
        write("ce", seed, skill=0.5, record=record)
        write("lmd", seed, skill=2.0, settings={"rounds": 20}, record=record)
    write("focal", 0, skill=1.0, record=record)
    write("ce", 0, backbone="resnet50", record=record)
    write("crt", 0, state=None)
    return filled(compare(read_results(folder)))


@pytest.fixture
def awkward(tmp_path: Path, fake_run: FakeRun) -> Comparison:
    """A comparison full of names that could break a form."""
    folder = tmp_path / "awkward"
    write = partial(fake_run, results=folder)
    record: dict[str, Any] = {"classes": AWKWARD, "groups": AWKWARD_GROUPS, "synthetic": True}
    write("ce", record=record, dataset="my_data&co")
    write("[odd] 100%_|", settings={"a_b": "x#y"}, record=record, dataset="my_data&co")
    write("τ-norm ≈ ▲", record=record, dataset="my_data&co", skill=2.0)
    write("中--文 ą", record=record, dataset="my_data&co")
    comparison = compare(read_results(folder))
    labels = [row.label for row in comparison.tables[0].rows]
    pairs = tuple(Pair(a, b, difference(0.1), 0.03) for a, b in itertools.combinations(labels, 2))
    column = PublishedColumn(
        "A paper & more", "Some_one, 100%", "F1 {maybe}", "macro_f1", {"CE_1": 0.5, "RS": 0.25},
        {"CE_1": ("ce",)}, ("#1: single runs.",),
    )  # fmt: skip
    rank = Rank("[odd] 100%_|", 1.5, 1.0, 2.0, 1, 0, 1)
    ranks = Ranks(PRIMARY, ("a_b", "c|d"), (rank,), "Two settings_only.")
    spreads = tuple(RankSpread(label, 1.0, 1.5, 1.0, 2.0, (0.75, 0.25)) for label in labels)
    stability = RankStability(PRIMARY, spreads, 0.5, -1.0, 1.0, 1000, ("One_seed: only images.",))
    comparison = filled(
        comparison, per_class="recall", pairwise=pairs, stability=stability, published=(column,)
    )
    return replace(comparison, ranks=ranks)


@pytest.fixture
def factors(tmp_path: Path, fake_run: FakeRun) -> Comparison:
    """Runs at two imbalance factors, and on another split; focal is not at the second factor."""
    folder = tmp_path / "factors"
    write = partial(fake_run, results=folder)
    for number, factor in enumerate((100, 200)):
        split = {"name": "plain", "seed": 42, "imbalance_factor": factor}
        for seed in range(3):
            for method, skill in (("ce", 0.5), ("focal", 1.0), ("lmd", 2.0)):
                if (method, factor) != ("focal", 200):
                    write(
                        method,
                        seed,
                        skill=skill - number / 4,
                        split={**split, "fingerprint": str(number) * 64},
                        record={"split_label": f"plain-if{factor}"},
                    )
    return compare(read_results(folder), names=["macro_f1", "tail"])
