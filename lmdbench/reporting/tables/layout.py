"""A comparison laid out: sections of tables of cells, which Markdown, LaTeX and HTML then set.

A section is one table of the comparison with what belongs to it: scores, differences to the
reference, classes, pairs, published numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmdbench.comparison.compare import Comparison
from lmdbench.comparison.notes import class_notes, column_title, in_text, subgroup_notes
from lmdbench.comparison.published import PublishedColumn, stands_for
from lmdbench.comparison.results import chain_key
from lmdbench.comparison.types import Cell, MethodResult, ResultTable, Subgroups
from lmdbench.core.words import MOST_NAMES, both_ends
from lmdbench.evaluation.metrics import class_stat, described
from lmdbench.reporting.tables.words import (
    MARKS,
    MISSING,
    images_of,
    is_share,
    number,
    p_text,
    signed,
)

if TYPE_CHECKING:
    from lmdbench.comparison.types import Rank, RankStability
    from lmdbench.evaluation.differences import Difference

SPREADS = ("interval", "sd", "none")  # what stands behind a mean
LAYOUTS = ("metrics", "split")
UNADJUSTED = "95 %, unadjusted"  # an interval, beside a p that is corrected
SIMULTANEOUS = "95 %, simultaneous"
BEST = "Best of a column in bold, second best underlined."  # of a legend


@dataclass(frozen=True)
class TableCell:
    """One cell: a number or words, and what stands behind it.

    ``half``: half the interval where its two halves are equal as shown, else empty; ``interval`` as
    "low, high". ``mark``: a key of ``MARKS``, or empty.
    """

    text: str
    sd: str = ""
    interval: str = ""
    half: str = ""
    best: bool = False
    second: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Column:
    """``span``: the heading over this and the columns beside it with the same one.

    ``n``: images behind it, as words. ``brackets``: what stands in brackets behind its numbers,
    where it is no interval like those of other columns.
    """

    head: str
    n: str = ""
    span: str = ""
    words: bool = False  # and no numbers
    brackets: str = ""


@dataclass(frozen=True)
class Table:
    """One table. The first column names the row; ``legend`` explains the numbers.

    ``slug``: of its label, empty for the scores.
    """

    slug: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    legend: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """Tables under one title, with the notes that hold for all of them."""

    slug: str
    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Style:
    """How numbers are shown: percent or fractions; ``spread``: one of ``SPREADS``."""

    percent: bool = True
    spread: str = "interval"

    def cell(self, cell: Cell, name: str) -> TableCell:
        """The cell of a metric."""

        def shown(value: float | None) -> str:
            return number(value, self.percent and is_share(name))

        plain = TableCell(shown(cell.mean), best=cell.best, second=cell.second, mark=cell.mark)
        if self.spread == "sd" and cell.sd is not None:
            return replace(plain, sd=shown(cell.sd))
        if self.spread != "interval" or cell.estimate is None or cell.mean is None:
            return plain
        low, high = cell.estimate.low, cell.estimate.high
        if MISSING in (shown(low), shown(high)):
            return plain
        halves = {shown(cell.mean - low), shown(high - cell.mean)}
        half = halves.pop() if len(halves) == 1 else ""
        return replace(plain, interval=f"{shown(low)}, {shown(high)}", half=half)

    def difference(self, difference: Difference | None, name: str) -> TableCell:
        """A difference in a metric, with its interval."""
        if difference is None:
            return TableCell(MISSING)
        percent = self.percent and is_share(name)
        low, high = signed(difference.low, percent), signed(difference.high, percent)
        interval = "" if MISSING in (low, high) else f"{low}, {high}"
        return TableCell(signed(difference.value, percent), interval=interval)

    @property
    def unit(self) -> str:
        return "in percent" if self.percent else "as fractions"

    @property
    def points(self) -> str:
        return "in points" if self.percent else "as fractions"


def sections(
    comparison: Comparison,
    percent: bool = True,
    *,
    spread: str = "interval",
    layout: str = "metrics",
) -> list[Section]:
    """Everything a comparison says, in the order it is shown.

    ``spread``: one of ``SPREADS``, what stands behind a mean. ``layout``: one of ``LAYOUTS``;
    "split" sets the scores of tables that differ in nothing but the split side by side, a group of
    columns for each.
    """
    style = Style(percent, spread)
    laid_out = []
    families = _families(comparison.tables) if layout == "split" else {}
    for family in families.values():
        if len(family) > 1:
            laid_out.append(_side_by_side(family, style))
    beside = {id(result) for family in families.values() if len(family) > 1 for result in family}
    for result in comparison.tables:
        tables = [] if id(result) in beside else [_scores(result, style)]
        tables += _further(result, style)
        if tables:
            notes = () if id(result) in beside else tuple(result.notes)
            laid_out.append(Section(_slug(result), result.title, tuple(tables), notes))
    return [*laid_out, *_ranks(comparison)]


def _slug(result: ResultTable) -> str:
    return f"{result.setting['results_name']}-{result.setting['split_label']}"


# Scores


def _scores(result: ResultTable, style: Style) -> Table:
    columns = [Column("Method", words=True), *_metric_columns(result), Column("Seeds")]
    rows = [
        (
            TableCell(row.label),
            *(style.cell(row.cells[name], name) for name in result.metrics),
            TableCell(str(len(row.seeds))),
        )
        for row in result.rows
    ]
    legend = score_legend([result], style)
    return Table("", "Scores", tuple(columns), tuple(rows), legend)


def _metric_columns(result: ResultTable) -> list[Column]:
    """Groups stand under a heading of their own where other metrics are beside them."""
    groups = result.setting["groups"]
    span = "Recall by group" if any(name not in groups for name in result.metrics) else ""
    return [
        Column(column_title(name), images_of(result, name), span if name in groups else "")
        for name in result.metrics
    ]


def score_legend(results: Sequence[ResultTable], style: Style) -> str:
    """What the numbers and marks of a table of scores are."""
    rows = [row for result in results for row in result.rows]
    cells = [cell for row in rows for cell in row.cells.values()]
    repeated = any(len(row.seeds) > 1 for row in rows)
    what = "Mean over seeds" if repeated else "Scores"
    if style.spread == "sd" and repeated:
        what = "Mean ± standard deviation over seeds"
    elif style.spread == "interval" and any(cell.estimate is not None for cell in cells):
        what += " with 95 % intervals"
    words = [f"{what}, {style.unit}; n: {results[0].sample.counted}s."]
    names = dict.fromkeys(name for result in results for name in result.metrics)
    if style.percent and (others := [column_title(n) for n in names if not is_share(n)]):
        words.append(f"{' and '.join(others)}: no percent.")
    if any(cell.best for cell in cells):
        words.append(BEST)
    references = {result.reference for result in results if result.reference is not None}
    marks = {cell.mark for cell in cells}
    if references and marks - {""}:
        reference = references.pop() if len(references) == 1 else "the reference beside it"
        told = {
            "better": f"better than {reference}",
            "worse": f"worse than {reference}",
            "equal": f"practically equal to {reference}",
        }
        words.append(
            "; ".join(f"{MARKS[mark]} {text}" for mark, text in told.items() if mark in marks) + "."
        )
    return " ".join(words)


# Several splits side by side


def _families(results: Sequence[ResultTable]) -> dict[str, list[ResultTable]]:
    """Tables of one data set that differ only in what belongs to a split."""
    families: dict[str, list[ResultTable]] = {}
    for result in results:
        common = {
            name: value
            for name, value in result.setting.items()
            if not name.startswith("split_") and name not in ("store", "groups")
        }
        key = json.dumps(
            [common, result.counted, result.dropped is None, result.metrics], sort_keys=True
        )
        families.setdefault(key, []).append(result)
    return families


def _side_by_side(results: Sequence[ResultTable], style: Style) -> Section:
    heads = _split_heads(results)
    keys = dict.fromkeys(_key(row) for result in results for row in result.rows)
    columns = [Column("Method", words=True)]
    for head, result in zip(heads, results, strict=True):
        columns += [replace(column, span=head) for column in _metric_columns(result)]
    rows, notes = [], []
    for key in keys:
        cells = [TableCell(key[0])]
        absent = []
        for head, result in zip(heads, results, strict=True):
            matching = [row for row in result.rows if _key(row) == key]
            if matching:
                cells += [style.cell(matching[0].cells[name], name) for name in result.metrics]
            else:
                cells += [TableCell(MISSING)] * len(result.metrics)
                absent.append(head)
        if absent:
            notes.append(f"No finished run of {key[0]} at {', '.join(absent)}.")
        rows.append(tuple(cells))
    first = results[0]
    setting = first.setting
    title = " · ".join([str(setting["results_name"]), first.counted, *heads])
    if any(result.partial for result in results):
        title += " · PARTIAL DATA"
    if any(result.synthetic for result in results):
        title += " · SYNTHETIC DATA"
    legend = score_legend(results, style)
    table = Table("", "Scores", tuple(columns), tuple(rows), legend, tuple(notes))
    slug = f"{setting['results_name']}-splits"
    return Section(slug, title, (table,), tuple(_merged_notes(heads, results)))


def _key(row: MethodResult) -> tuple[str, str]:
    """What makes rows of two tables one: their label, and everything behind it."""
    return row.label, chain_key(row.chain)


def _split_heads(results: Sequence[ResultTable]) -> list[str]:
    """What the groups of columns are called: the imbalance factor if no more differs."""
    splits = [
        {
            name: value
            for name, value in result.setting.items()
            if name.startswith("split_") and name not in ("split_label", "split_fingerprint")
        }
        for result in results
    ]
    factors = [split.pop("split_imbalance_factor", None) for split in splits]
    if all(split == splits[0] for split in splits) and len(set(factors)) == len(factors):
        return [f"IF {factor:g}" if factor else "natural IF" for factor in factors]
    heads = [str(result.setting["split_label"]) for result in results]
    if len(set(heads)) == len(heads):
        return heads
    return [
        f"{head} ({result.setting['split_fingerprint'][:8]})"
        for head, result in zip(heads, results, strict=True)
    ]


def _merged_notes(heads: Sequence[str], results: Sequence[ResultTable]) -> list[str]:
    """The notes of all results, those that not all of them have with the heads they are of."""
    of: dict[str, list[str]] = {}
    for head, result in zip(heads, results, strict=True):
        for note in result.notes:
            of.setdefault(note, []).append(head)
    return [
        note if len(where) == len(results) else f"{', '.join(where)}: {note}"
        for note, where in of.items()
    ]


# What stands beneath the scores of a table


def _further(result: ResultTable, style: Style) -> list[Table]:
    makers = (_differences, _by_subgroup, _per_class, _pairs, _stability, _published)
    return [table for make in makers for table in make(result, style)]


def _differences(result: ResultTable, style: Style) -> list[Table]:
    """How far each row is from the reference."""
    reference, primary = result.reference, result.primary
    rows = [row for row in result.rows if row.label != reference]
    if reference is None or not rows:
        return []
    # The groups go with the primary metric; of the others there may be too many for a page.
    groups = result.setting["groups"]
    others = sorted((n for n in result.metrics if n != primary), key=lambda n: n not in groups)
    spans = {name: "Recall by group" if name in groups else "Other metrics" for name in others}
    verdicts = _verdicts(result, rows, style)
    differences = [
        row.cells[primary].difference for row in rows if row.cells[primary].p_corrected is not None
    ]
    columns = (
        Column("Method", words=True),
        Column(column_title(primary), brackets=_brackets(differences)),
        *(Column(verdict.head) for verdict in verdicts),
        *(Column(column_title(name), span=spans[name]) for name in others),
    )
    body = tuple(
        (
            TableCell(row.label),
            style.difference(row.cells[primary].difference, primary),
            *(TableCell(verdict.text(row.cells[primary])) for verdict in verdicts),
            *(style.difference(row.cells[name].difference, name) for name in others),
        )
        for row in rows
    )
    legend = [
        f"On the same {result.sample.counted}s and seeds, {style.points}, with "
        f"{_intervals(differences)}.",
        *(verdict.legend for verdict in verdicts),
    ]
    title = f"Differences to {reference}"
    return [Table("differences", title, columns, body, " ".join(legend))]


@dataclass(frozen=True)
class _Verdict:
    """A column of what the test says; ``text``: of a cell of the primary metric."""

    head: str
    text: Callable[[Cell], str]
    legend: str


def _verdicts(result: ResultTable, rows: Sequence[MethodResult], style: Style) -> list[_Verdict]:
    """Those that any of the rows has."""
    primary = result.primary
    percent = style.percent and is_share(primary)

    def of_difference(name: str, percent: bool) -> Callable[[Cell], str]:
        return lambda cell: number(getattr(cell.difference, name, None), percent)

    verdicts = (
        _Verdict(
            "p (Holm)",
            lambda cell: p_text(cell.p_corrected),
            f"p: of {in_text(primary)}, corrected after Holm for the comparisons of this table; "
            "the other metrics have none.",
        ),
        _Verdict(
            "p (images)",
            lambda cell: p_text(cell.permutation_p),
            "p (images): of permutations over the test images; it holds for these trained models "
            "only and is not corrected.",
        ),
        _Verdict(
            "P(A>B)",
            of_difference("superiority", False),
            f"P(A>B): of all pairs of a seed of the row and one of {result.reference}, the share "
            f"in which the row's {_larger(primary)}.",
        ),
        _Verdict(
            "Detectable",
            of_difference("detectable", percent),
            "Detectable: the smallest true difference that would be found in 80 % of tables with "
            "these seeds, images and comparisons, were it the only one.",
        ),
    )
    return [v for v in verdicts if any(v.text(row.cells[primary]) != MISSING for row in rows)]


def _brackets(tested: Sequence[Difference | None]) -> str:
    """What stands in the brackets beside the differences that are ``tested``."""
    if not tested:
        return ""
    return SIMULTANEOUS if any(d and d.simultaneous for d in tested) else UNADJUSTED


def _intervals(tested: Sequence[Difference | None]) -> str:
    """What the intervals of differences are, of which some are ``tested``."""
    if not tested:
        return "95 % intervals"
    if many := next((d.comparisons for d in tested if d and d.simultaneous), 0):
        each = "; those of other metrics each for itself" if many > 1 else ""
        return f"95 % intervals that hold together for {many} comparisons (Bonferroni){each}"
    return "95 % intervals, each for itself (unadjusted: Holm's correction is of the p alone)"


def _larger(primary: str) -> str:
    worse = " (the smaller is the better)" if described(primary).lower_is_better else ""
    return f"{in_text(primary)} is the larger{worse}, ties one half"


def _published(result: ResultTable, style: Style) -> list[Table]:
    """What papers print, a table a paper, beside the measured rows that stand for theirs."""
    tables = []
    for paper in dict.fromkeys(column.paper for column in result.published):
        printed = [column for column in result.published if column.paper == paper]
        columns = (
            Column(f"{paper}", words=True),
            *(Column(column.title, "", "As printed") for column in printed),
            Column("Measured", "", "Here", words=True),
            *(Column(column_title(column.metric), "", "Here") for column in printed),
        )
        rows: list[tuple[TableCell, ...]] = []
        for name in printed[0].values:
            numbers = [TableCell(_as_printed(column.values[name], style)) for column in printed]
            methods = printed[0].methods.get(name)
            measured = [row for row in result.rows if methods and stands_for(row) == methods]
            for row in (*measured,) or (None,):
                here = [
                    replace(
                        style.cell(row.cells[column.metric], column.metric),
                        best=False,
                        second=False,
                        mark="",
                    )
                    if row is not None and column.metric in row.cells
                    else TableCell(MISSING)
                    for column in printed
                ]
                label = TableCell(row.label if row is not None else MISSING)
                rows.append((TableCell(name), *numbers, label, *here))
        legend = (
            f"As printed in {printed[0].source}, {style.unit}; beside it what was measured here."
        )
        notes = (*printed[0].caveats, *_to_ask_for(result, printed))
        tables.append(
            Table("published", f"Published: {paper}", columns, tuple(rows), legend, notes)
        )
    return tables


def _to_ask_for(result: ResultTable, printed: Sequence[PublishedColumn]) -> list[str]:
    """Which metrics would fill the columns that are empty."""
    names = [c.metric for c in printed if c.metric not in result.metrics]
    if not names:
        return []
    titles = ", ".join(column_title(name) for name in names)
    options = " ".join(f"--metric {name}" for name in (*result.metrics, *names))
    return [f"Not among the metrics shown, so empty here: {titles}. To see them: {options}."]


def _as_printed(value: float, style: Style) -> str:
    return f"{100 * value:.2f}" if style.percent else f"{value:.4f}"


def _per_class(result: ResultTable, style: Style) -> list[Table]:
    """A statistic of each class, most training images first."""
    if not result.per_class:
        return []
    record = result.record
    classes = record.classes
    training = dict(zip(classes, record.class_counts.get("train", ()), strict=False))
    columns = [Column("Class", words=True)]
    if training:
        columns.append(Column("Train"))
    columns += [
        Column(result.part.capitalize()),
        Column("Share"),
        *(Column(row.label) for row in result.rows),
    ]
    rows = []
    whole = result.images[result.part]["all"] or math.nan
    for name in sorted(classes, key=lambda name: -training.get(name, 0)):
        counts = [TableCell(f"{training[name]:,}")] if training else []
        n = result.rows[0].recalls[name].n
        counts += [TableCell(f"{n:,}"), TableCell(number(n / whole, style.percent))]
        asked = f"{result.per_class}:{name}"
        cells = (style.cell(row.by_class[name], asked) for row in result.rows)
        rows.append((TableCell(name), *counts, *cells))
    what = class_stat(result.per_class)[1].title
    unit = f", {style.unit}," if is_share(f"{result.per_class}:{classes[0]}") else ""
    legend = (
        f"{what} of each class{unit} and its {result.sample.counted}s; share: of the "
        f"{result.counted}."
    )
    if result.per_class != "recall":
        legend += f" {what} is of all {result.images[result.part]['all']:,} "
        legend += f"{result.sample.counted}s."
    notes = class_notes(result)
    nothing = [TableCell("")] * (len(columns) - 1)
    shown = both_ends(rows, lambda n: (TableCell(f"… {n:,} more"), *nothing))
    if len(shown) < len(rows):
        notes.insert(
            0,
            f"The {MOST_NAMES // 2} largest and the {MOST_NAMES // 2} smallest of {len(rows):,} "
            "classes; --format csv and json have all.",
        )
    table = Table("classes", f"{what} by class", tuple(columns), tuple(shown), legend, tuple(notes))
    return [table]


def _by_subgroup(result: ResultTable, style: Style) -> list[Table]:
    """Scores of subgroups, and how far each method is from the reference in them."""
    return [
        table
        for subgroups in result.subgroups
        for name in subgroups.metrics
        for make in (_subgroup_scores, _subgroup_differences)
        for table in make(result, subgroups, name, style)
    ]


def _subgroup_scores(
    result: ResultTable, subgroups: Subgroups, name: str, style: Style
) -> list[Table]:
    counted = result.sample.counted
    columns = [
        Column(subgroups.by, words=True),
        Column("n"),
        *(Column(row.label) for row in result.rows),
    ]
    rows = [
        (
            TableCell(subgroup),
            TableCell(f"{cells[0].n:,}"),
            *(style.cell(cell, name) for cell in cells),
        )
        for subgroup, cells in _subgroup_cells(result, subgroups, name)
    ]
    title = f"{column_title(name)} by {subgroups.by}"
    source = f"column {subgroups.column} of the data set's table"
    what = "Mean over seeds" if any(len(row.seeds) > 1 for row in result.rows) else "Scores"
    spread = _unadjusted(rows)
    unit = f", {style.unit}" * is_share(name)
    legend = f"{what}{spread}{unit}, by {source}; n: {counted}s."
    averages = ":" not in name and described(name).averages_classes
    lacking = subgroups.lacking if averages else ()
    notes = (*subgroups.notes, *lacking, *subgroup_notes(subgroups, name))
    slug = _subgroup_slug(subgroups, name)
    return [Table(slug, title, tuple(columns), tuple(rows), legend, notes)]


def _subgroup_differences(
    result: ResultTable, subgroups: Subgroups, name: str, style: Style
) -> list[Table]:
    others = [n for n, row in enumerate(result.rows) if row.label != result.reference]
    if result.reference is None or not others:
        return []
    columns = (
        Column(subgroups.by, words=True),
        Column("n"),
        *(Column(result.rows[n].label) for n in others),
    )
    rows = tuple(
        (
            TableCell(subgroup),
            TableCell(f"{cells[0].n:,}"),
            *(style.difference(cells[n].difference, name) for n in others),
        )
        for subgroup, cells in _subgroup_cells(result, subgroups, name)
    )
    points = f", {style.points}" * is_share(name)
    spread = _unadjusted(rows, ",")
    legend = (
        f"On the same {result.sample.counted}s and seeds{points}{spread}. "
        "Exploratory: nothing is tested within a subgroup, nor whether a difference varies "
        "between them."
    )
    title = f"Differences to {result.reference} in {in_text(name)} by {subgroups.by}"
    slug = f"{_subgroup_slug(subgroups, name)}-differences"
    return [Table(slug, title, columns, rows, legend)]


def _unadjusted(rows: Sequence[Sequence[TableCell]], comma: str = "") -> str:
    """That the cells have intervals, for a legend; empty where none has."""
    some = any(cell.interval for row in rows for cell in row)
    return f"{comma} with unadjusted 95 % intervals" * some


def _subgroup_cells(
    result: ResultTable, subgroups: Subgroups, name: str
) -> list[tuple[str, list[Cell]]]:
    """Of all images and of each subgroup the cells of a metric, in the order of the rows."""
    tables = [("all", result), *((part.name, part.table) for part in subgroups.parts)]
    found = []
    for subgroup, table in tables:
        cells = {row.label: row.cells[name] for row in table.rows}
        plain = [
            replace(cells[row.label], best=False, second=False, mark="") for row in result.rows
        ]
        found.append((subgroup, plain))
    return found


def _subgroup_slug(subgroups: Subgroups, name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", f"{name} by {subgroups.by}".lower())
    return words.strip("-")


def _pairs(result: ResultTable, style: Style) -> list[Table]:
    """Every pair of rows on the primary metric."""
    if not result.pairwise:
        return []
    of_primary = column_title(result.primary)
    tested = [pair.difference for pair in result.pairwise if pair.p_corrected is not None]
    columns = (
        Column("A", words=True),
        Column("B", words=True),
        Column("A−B", brackets=_brackets(tested)),
        Column("p (Holm)"),
        Column("P(A>B)"),
    )
    rows = tuple(
        (
            TableCell(pair.a),
            TableCell(pair.b),
            style.difference(pair.difference, result.primary),
            TableCell(p_text(pair.p_corrected)),
            TableCell(number(pair.difference.superiority, False)),
        )
        for pair in result.pairwise
    )
    legend = (
        f"{of_primary} of A minus that of B on the same {result.sample.counted}s and seeds, "
        f"{style.points}, with "
        f"{_intervals(tested)}; p corrected after Holm for all pairs. P(A>B): of all pairs of a "
        f"seed of A and one of B, the share in which A's {_larger(result.primary)}."
    )
    return [Table("pairs", "All pairs", columns, rows, legend)]


def _stability(result: ResultTable, style: Style) -> list[Table]:
    """The ranks of the rows on bootstrap samples."""
    found = result.stability
    if found is None:
        return []
    columns = (
        Column("Method", words=True),
        Column("Rank"),
        Column("Resampled", brackets="95 %"),
        Column("First"),
    )
    rows = tuple(
        (
            TableCell(spread.label),
            TableCell(_rank_text(spread.rank)),
            TableCell(
                _rank_text(spread.median),
                interval=f"{_rank_text(spread.low)}, {_rank_text(spread.high)}",
            ),
            TableCell(number(spread.shares[0], style.percent)),
        )
        for spread in found.rows
    )
    return [
        Table(
            "ranks",
            "Stability of the ranking",
            columns,
            rows,
            _stability_legend(found, style),
            found.notes,
        )
    ]


def _stability_legend(found: RankStability, style: Style) -> str:
    words = (
        f"Ranks by {in_text(found.primary)}, 1 the best, and on {found.rounds:,} bootstrap samples "
        "of seeds and test images: the median, where 95 % lie, and the share of samples in which "
        f"the method is first, {style.unit}.",
        tau_text(found),
        "Stability of the ranking in these data; no confidence intervals.",
    )
    return " ".join(filter(None, words))


def tau_text(found: RankStability) -> str:
    """How far the rankings of samples agree with the table's; empty where all methods tie."""
    if math.isnan(found.tau):
        return ""
    low, middle, high = (number(v, False) for v in (found.tau_low, found.tau, found.tau_high))
    return f"Kendall's τ of a sample's ranking with the table's: median {middle} [{low}, {high}]."


def _rank_text(rank: float) -> str:
    """A rank, or the mean of those that tied methods share."""
    return f"{rank:g}"


# Beneath all tables


def _ranks(comparison: Comparison) -> list[Section]:
    """Mean ranks across data sets."""
    ranks = comparison.ranks
    if ranks is None:
        return []
    columns = (
        Column("Method", words=True),
        Column("Mean rank"),
        Column("Won"),
        Column("Neither"),
        Column("Lost"),
    )
    rows = tuple(
        (
            TableCell(rank.label),
            TableCell(f"{rank.mean:.2f}", interval=_rank_interval(rank)),
            *(
                TableCell(MISSING if n is None else str(n))
                for n in (rank.wins, rank.neither, rank.losses)
            ),
        )
        for rank in ranks.rows
    )
    intervals = " with 95 % intervals" * any(_rank_interval(rank) for rank in ranks.rows)
    legend = (
        f"Ranks by {in_text(ranks.primary)}, 1 the best, mean over "
        f"{len(ranks.settings)} tables{intervals}: {'; '.join(ranks.settings)}."
    )
    notes = tuple(note for note in (ranks.caveats, ranks.note) if note)
    title = "Ranks across data sets"
    return [Section("ranks", title, (Table("", title, columns, rows, legend),), notes)]


def _rank_interval(rank: Rank) -> str:
    return "" if math.isnan(rank.low) else f"{rank.low:.2f}, {rank.high:.2f}"
