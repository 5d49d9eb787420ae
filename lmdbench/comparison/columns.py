"""What the tables of the runs' data sets say of images, read where they lie now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmdbench.comparison.leaks import needs_root
from lmdbench.comparison.results import Run
from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.data.dataset import Dataset, open_dataset
from lmdbench.data.lesions import UNIT_COLUMNS
from lmdbench.data.reading import read_metadata

# What people ask for → what tables call it, the likeliest first
CALLED = {
    "age": ("age", "age_approx", "age_years", "patient_age"),
    "sex": ("sex", "gender", "patient_sex"),
    "site": (
        *("site", "anatom_site_general", "anatom_site", "anatomical_site", "body_site"),
        *("localization", "localisation", "location"),
    ),
    **UNIT_COLUMNS,
}


@dataclass(frozen=True)
class Column:
    """``asked``: what it was asked for as; ``values``: image → cell, "" where it is empty."""

    asked: str
    name: str
    values: Mapping[str, str]

    @property
    def is_age(self) -> bool:
        return _plain(self.name) in CALLED["age"]


class Tables:
    """The tables of data sets under ``data_root``, each read once."""

    def __init__(self, data_root: Path | None, cache: Path) -> None:
        self.data_root, self.cache = data_root, cache
        self._opened: dict[str, Dataset] = {}

    def dataset(self, run: Run) -> Dataset:
        """The data set of a run. Raises UserError where its tables are not at hand."""
        name, results_name = str(run.spec.dataset), str(run.record.results_name)
        if self.data_root is None and needs_root(name):
            raise UserError(f"the table of {results_name} is needed; give --data-root DIR")
        if name not in self._opened:
            self._opened[name] = open_dataset(name, self.data_root, self.cache)
        opened = self._opened[name]
        if opened.results_name != results_name:
            raise UserError(
                f"--data-root {self.data_root} holds {opened.results_name}, not {results_name}; "
                f"leave that out by --dataset {opened.results_name}"
            )
        return opened

    def column(self, run: Run, asked: str) -> Column:
        """The column of that name, in any case, or that is what it asks for. Raises UserError, with
        near matches and the columns there are, where there is none."""
        found = self.find(run, (asked, *CALLED.get(_plain(asked), ())))
        if found is None:
            names = list(read_metadata(self.dataset(run)).columns)
            what = f"column of the table of {run.record.results_name}"
            raise unknown(what, asked, names, {name: _usual(name) for name in names})
        return Column(asked, *found)

    def find(self, run: Run, names: Iterable[str]) -> tuple[str, Mapping[str, str]] | None:
        """The first column that goes by one of the names, as the table has it."""
        table = read_metadata(self.dataset(run))
        for name in names:
            there = _called(name, list(table.columns))
            if there is not None:
                return there, dict(zip(table.index, table[there], strict=True))
        return None


def _called(name: str, columns: Sequence[str]) -> str | None:
    if name in columns:
        return name
    return next((column for column in columns if _plain(column) == _plain(name)), None)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _usual(column: str) -> str:
    """What people ask for a column as; empty where that is its own name."""
    return next((asked for asked, names in CALLED.items() if _plain(column) in names), "")
