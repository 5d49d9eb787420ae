"""Versions of libraries behind the runs of a table, named where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lmdbench.comparison.results import MethodRuns
from lmdbench.runs.record import RunRecord

NO_NUMBERS = ("python", "numpy")  # whose versions are recorded, but act on none
NOT_RECORDED = "not recorded"


def versions_of_row(row: MethodRuns) -> list[str]:
    """A remark on each library that a row's runs, of any fold, or what they started from had in
    several versions."""
    remarks = []
    stages = _stages(row)
    for name in _names(stages):
        numbers = [_numbers(stage, name) for stage in stages]
        if len(found := set[str]().union(*numbers)) > 1:
            whose = "seeds and folds" if any(run.folds for run in row.runs) else "seeds"
            if len(numbers[0]) < 2:
                whose = "runs and what they started from"
            remarks.append(f"its {whose} are of {name} {' and '.join(sorted(found))}")
    return remarks


def versions_of_table(rows: Sequence[MethodRuns]) -> list[str]:
    """A note on each library that rows had in other versions than others that name it."""
    notes = []
    stages = {row.label: _stages(row) for row in rows}
    for name in _names([stage for each in stages.values() for stage in each]):
        labels: dict[str, list[str]] = {}
        for label, of_row in stages.items():
            if numbers := set[str]().union(*(_numbers(stage, name) for stage in of_row)):
                labels.setdefault(" and ".join(sorted(numbers)), []).append(label)
        if len(labels) > 1:
            listed = "; ".join(f"{text}: {', '.join(named)}" for text, named in labels.items())
            notes.append(f"Rows differ in the version of {name} ({listed}).")
    return notes


def _stages(row: MethodRuns) -> list[list[RunRecord]]:
    """The records of a row's runs, those of what they started from, and so on."""
    chains = [(one, *one.above) for run in row.runs for one in run.members]
    longest = max(map(len, chains))
    return [[chain[k].record for chain in chains if k < len(chain)] for k in range(longest)]


def _names(stages: Iterable[Iterable[RunRecord]]) -> list[str]:
    versions = [record.versions for stage in stages for record in stage]
    return [n for n in dict.fromkeys(n for one in versions for n in one) if n not in NO_NUMBERS]


def _numbers(records: Sequence[RunRecord], name: str) -> set[str]:
    """All versions of the attempts of some runs; none where no run names the library."""
    found = {str(record.versions.get(name) or NOT_RECORDED) for record in records}
    for record in records:
        if text := (record.begun_versions or {}).get(name):
            found |= {*str(text).split(", ")}
    return found - {NOT_RECORDED} and found
