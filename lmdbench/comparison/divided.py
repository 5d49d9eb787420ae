"""What is scored beside the images of a table, if it is asked for: their lesions or patients, and
subgroups of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lmdbench.comparison.columns import Column, Tables
from lmdbench.comparison.outcomes import DamagedRun, predictions_of
from lmdbench.comparison.results import RunGroup
from lmdbench.comparison.samples import EVERYTHING, Sample
from lmdbench.comparison.subgroups import Division, check_bands, divide, scored_by
from lmdbench.comparison.types import ResultTable, Subgroups
from lmdbench.comparison.units import check_unit, in_numbers, units_of
from lmdbench.core.errors import UserError


class ScoreSample(Protocol):
    """Scores a sample of the images of a table's runs; ``subgroup``: what it is called, if it is
    one."""

    def __call__(self, sample: Sample, *, subgroup: str = "") -> ResultTable: ...


@dataclass(frozen=True)
class Further:
    """What is asked for: ``unit``, lesion or patient; ``by``, columns of the ``tables`` of data
    sets, numbers in bands that begin at ``bands``.

    Raises UserError for another unit and for bands that are none or of no column.
    """

    tables: Tables
    unit: str = ""
    by: tuple[str, ...] = ()
    bands: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.unit:
            check_unit(self.unit)
        check_bands(self.bands)
        if self.bands and not self.by:
            raise UserError("--bands are of a column of numbers; name it, as in --by age")


class Divided:
    """The further tables of a comparison; ``told``: why tables have none, once each."""

    def __init__(self, asked: Further | None, part: str, shown: Sequence[str]) -> None:
        """``shown``: metrics that were asked for; without any a table's primary one."""
        self.asked, self.part, self.shown = asked, part, shown
        self.told: list[str] = []

    def check(self, groups: Sequence[RunGroup]) -> None:
        """Raise UserError for what can be had of none of the groups, and for bands of no column or
        of several."""
        if self.asked is None:
            return
        if self.asked.unit:
            self._refuse([self._problem_of_units(group) for group in groups])
        banded = []
        for by in self.asked.by:
            divisions = [self._division(group, by) for group in groups]
            self._refuse([d if isinstance(d, UserError) else None for d in divisions])
            if any(not isinstance(d, UserError) and d[1].banded for d in divisions):
                banded.append(by)
        if self.asked.bands and len(banded) != 1:
            named = " and ".join(banded or self.asked.by)
            which = "those are several" if banded else "that is none"
            raise UserError(f"--bands are of one column of numbers, and of --by {named} {which}")

    def tables(self, table: ResultTable, score: ScoreSample) -> list[ResultTable]:
        """The table, and that of lesions or patients, each with its subgroups, as far as they are
        asked for; why one can't be made is noted in the table."""
        if self.asked is None:
            return [table]
        found = [table]
        if self.asked.unit:
            try:
                found = self._with_units(table, score)
            except UserError as problem:
                found = [self._noted(table, f"No scores per {self.asked.unit}", problem)]
        return [self._with_subgroups(one, score) for one in found]

    def _with_units(self, table: ResultTable, score: ScoreSample) -> list[ResultTable]:
        assert self.asked is not None
        kind, run = self.asked.unit, table.rows[0].runs[0]
        found = units_of(kind, table, self.part, self.asked.tables)
        notes = in_numbers(found, run, self.part, table.sample)
        if not notes:
            same = f"Every {kind} has one {self.part} image: scores per {kind} are these."
            return [_with_remark(table, same)]
        scored = score(Sample(units=found.units))
        return [table, replace(scored, remarks=table.remarks, of_units=notes)]

    def _with_subgroups(self, table: ResultTable, score: ScoreSample) -> ResultTable:
        assert self.asked is not None
        subgroups: list[Subgroups] = []
        for by in self.asked.by:
            found = self._division(table, by, table.sample)
            if isinstance(found, UserError):
                table = self._noted(table, f"No subgroups by {by}", found)
            else:
                scored = scored_by(*found, table, score)
                subgroups.append(replace(scored, metrics=tuple(self.shown or [table.primary])))
        return replace(table, subgroups=tuple(subgroups))

    def _noted(self, table: ResultTable, what: str, problem: UserError) -> ResultTable:
        if str(problem) not in self.told:
            self.told.append(str(problem))
        return _with_remark(table, f"{what}: {str(problem).rstrip('.')}.")

    def _division(
        self, group: RunGroup, by: str, sample: Sample = EVERYTHING
    ) -> tuple[Column, Division] | UserError:
        """The column, and the images of a sample by it; or why that can't be."""
        assert self.asked is not None
        run = group.rows[0].runs[0]
        try:
            column = self.asked.tables.column(run, by)
            images = Sample(sample.leaked).of(predictions_of(run, self.part)).ids.tolist()
            return column, divide(column, images, self.asked.bands)
        except UserError as problem:
            return problem

    def _problem_of_units(self, group: RunGroup) -> UserError | None:
        assert self.asked is not None
        try:
            units_of(self.asked.unit, group, self.part, self.asked.tables)
        except UserError as problem:
            return problem
        return None

    @staticmethod
    def _refuse(problems: Sequence[UserError | None]) -> None:
        """Raise the first of them if nothing is without; what is damaged is told elsewhere."""
        if problems and all(p is not None and not isinstance(p, DamagedRun) for p in problems):
            raise next(problem for problem in problems if problem is not None)


def _with_remark(table: ResultTable, remark: str) -> ResultTable:
    return replace(table, remarks=(*table.remarks, remark))
