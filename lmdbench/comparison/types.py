"""What a comparison is made of: tables of methods × metrics, and ranks across them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmdbench.comparison.published import PublishedColumn
from lmdbench.comparison.results import MethodRuns, RunGroup
from lmdbench.comparison.samples import EVERYTHING, Sample
from lmdbench.evaluation.differences import Difference
from lmdbench.evaluation.inference import Estimate
from lmdbench.evaluation.recalibration import Calibration, ValidationFit


@dataclass(frozen=True)
class Cell:
    """One metric of one row. ``values`` by seed; ``mean`` is missing if any of them is."""

    values: tuple[float | None, ...]
    n: int  # images behind each value
    mean: float | None
    sd: float | None  # sample standard deviation over seeds; missing for one seed
    reason: str = ""  # why the mean is missing
    best: bool = False
    second: bool = False
    estimate: Estimate | None = None
    no_interval: str = ""  # why the estimate has no interval
    difference: Difference | None = None  # to the reference
    p_corrected: float | None = None  # of the primary metric only
    mark: str = ""  # "better", "worse" or "equal" to the reference
    permutation_p: float | None = None  # over images, of the primary metric, if asked for


@dataclass(frozen=True, kw_only=True)
class MethodResult(MethodRuns):
    """A method's runs with its cells by metric, and the recall of each class by the class's name.

    ``by_class``: what ``per_class`` asked for, by the class's name. ``fits``: what was fitted on
    validation images, by seed and fold, if the table is calibrated.
    """

    cells: Mapping[str, Cell]
    recalls: Mapping[str, Cell]
    by_class: Mapping[str, Cell] = field(default_factory=dict)
    fits: tuple[tuple[ValidationFit, ...], ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two rows by their labels, ``a`` minus ``b`` on the primary metric; ``p`` after Holm."""

    a: str
    b: str
    difference: Difference
    p_corrected: float | None


@dataclass(frozen=True)
class RankSpread:
    """A row's ``rank`` and its ranks on bootstrap samples.

    ``median``, and 95 % between ``low`` and ``high``; ``shares``: in which share of the samples it
    has each place, the best first.
    """

    label: str
    rank: float
    median: float
    low: float
    high: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class RankStability:
    """The ranking of a table by its ``primary`` metric on bootstrap samples of seeds and images.

    ``rows`` by rank; ``rounds``: samples. ``tau``: the median of Kendall's rank correlation
    of a sample's ranking with the table's, 95 % between ``tau_low`` and ``tau_high``; NaN where all
    methods tie. ``notes``: what must be said beside it.
    """

    primary: str
    rows: tuple[RankSpread, ...]
    tau: float
    tau_low: float
    tau_high: float
    rounds: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ResultTable(RunGroup):
    """Runs that may be compared, scored: rows in the order they are shown.

    ``images``: part → images, all and by group.
    """

    rows: tuple[MethodResult, ...]
    part: str
    metrics: tuple[str, ...]
    images: Mapping[str, Mapping[str, int]]
    dropped: int | None = None  # test images left out because they leak; None: none was to be
    sample: Sample = EVERYTHING  # what of the part is scored, and as what
    dropped_by: str = "audit"  # or tables, where no audit was kept
    reference: str | None = None  # label of the row that others are compared with
    primary: str = "balanced_accuracy"
    per_class: str = ""  # the statistic of each class that is shown
    pairwise: tuple[Pair, ...] = ()
    stability: RankStability | None = None  # if asked for, and where two rows can be ranked
    published: tuple[PublishedColumn, ...] = ()
    wanted: str = ""  # the reference that was asked for
    grouped: int = 0  # images of the part whose lesion or patient is known
    margin: float = 1.0  # points within which methods are practically equal
    subgroup: str = ""  # the only images it is of, in words
    subgroups: tuple[Subgroups, ...] = ()
    of_units: tuple[str, ...] = ()  # how images became lesions or patients, where these are scored
    notes: tuple[str, ...] = ()  # what a reader must know beside the numbers, see ``notes.py``

    def __repr__(self) -> str:
        return f"{self.title}: {', '.join(row.label for row in self.rows)}"

    @property
    def partial(self) -> Mapping[str, Any] | None:
        return self.record.partial

    @property
    def synthetic(self) -> bool:
        return bool(self.setting["synthetic"])

    @property
    def calibration(self) -> Calibration | None:
        """What was done to the logits of all runs."""
        return self.sample.calibration

    @property
    def counted(self) -> str:
        """What is scored, as in "test images"."""
        return f"{self.part} {self.sample.counted}s"

    @property
    def title(self) -> str:
        """Data set, split, part, what differs from other tables, and what must not be missed."""
        setting = self.setting
        words = [setting["results_name"], setting["split_label"], self.counted]
        words += self.differs
        if self.calibration is not None:
            words += self.calibration.words
        if self.dropped is not None:
            words.append(f"without the {self.dropped:,} that leak")
        if self.subgroup:
            words.append(self.subgroup)
        if self.partial:
            words.append("PARTIAL DATA")
        if self.synthetic:
            words.append("SYNTHETIC DATA")
        return " · ".join(words)


@dataclass(frozen=True)
class Subgroup:
    """Some of a table's images, scored alone; without tests and marks."""

    name: str
    table: ResultTable


@dataclass(frozen=True)
class Subgroups:
    """A table's images divided by a column of the data set's table: ``by`` as it was asked for."""

    by: str
    column: str
    parts: tuple[Subgroup, ...]
    notes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()  # notes on averages over classes that subgroups lack
    metrics: tuple[str, ...] = ()  # those that are shown; ``parts`` have all


@dataclass(frozen=True)
class Rank:
    """A method across data sets: its mean rank with an interval, NaN where there are too few.

    ``wins``, ``neither`` and ``losses`` count the settings in which the method was tested against
    the reference: where the corrected test finds it better, neither better nor worse, and worse.
    None where it never was, as the reference itself.
    """

    label: str
    mean: float
    low: float
    high: float
    wins: int | None
    neither: int | None
    losses: int | None


@dataclass(frozen=True)
class Ranks:
    """Methods that all ``settings`` (titles of tables) have, by the primary metric.

    ``note``: what the numbers are, and what can be made of so many settings. ``caveats``: the
    omnibus test, and what must be said wherever the mean ranks are shown.
    """

    primary: str
    settings: tuple[str, ...]
    rows: tuple[Rank, ...]
    note: str
    caveats: str = ""
