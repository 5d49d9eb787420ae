"""Everything the page shows, as plain data: a comparison, looked at from each side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from lmdbench.comparison.compare import Comparison
from lmdbench.comparison.results import NOT_STATED
from lmdbench.comparison.types import Cell, ResultTable
from lmdbench.core.words import pixels
from lmdbench.data.store.files import StoreFiles
from lmdbench.reporting.page.evidence import Evidence, Mistake, Sample, gather, mistakes, most_often
from lmdbench.reporting.page.figures import Picture, across, figures
from lmdbench.reporting.page.pictures import NOT_ASKED, OpenDataset, Pictures, find_pictures
from lmdbench.reporting.page.provenance import (
    AuditFacts,
    DatasetFacts,
    MethodFacts,
    RunFacts,
    audit_facts,
    compute,
    dataset_facts,
    leaks_sentence,
    method_facts,
    run_facts,
)
from lmdbench.reporting.page.sources import About, about_methods
from lmdbench.reporting.page.verdict import Verdict, verdict
from lmdbench.reporting.plots.style import MOST_PANELS, drawn_rows
from lmdbench.reporting.tables.html import html_tables
from lmdbench.reporting.tables.words import left_out

# Pictures, the prepared images that they are of, and their table, to pictures with maps
AddMaps = Callable[[Pictures, StoreFiles, ResultTable], Pictures]


@dataclass(frozen=True)
class OfMethod:
    """A row's recall of one class, and what it takes the class for."""

    label: str
    cell: Cell
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True)
class ClassPage:
    """A class: its images in each part, and what became of them."""

    anchor: str
    name: str
    group: str  # head, medium, tail; empty for none
    images: Mapping[str, int]  # part → images
    rows: tuple[OfMethod, ...]
    wrong: tuple[Sample, ...]
    right: tuple[Sample, ...]
    best: tuple[OfMethod, ...]  # of the rows, those that stand side by side in a table of classes


@dataclass(frozen=True)
class TablePage:
    """One table of the comparison, with all that belongs to it."""

    anchor: str
    table: ResultTable
    verdict: Verdict
    leaks: str  # what its audit found, in a sentence; empty where that is nothing
    facts: tuple[tuple[str, str], ...]  # what was compared: name, value
    scores: Markup
    figures: tuple[Picture, ...]
    classes: tuple[ClassPage, ...]
    pictures: Pictures
    evidence_runs: int
    methods: tuple[MethodFacts, ...]
    runs: tuple[RunFacts, ...]
    compute: str
    audits: tuple[tuple[str, AuditFacts], ...]


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    tables: tuple[TablePage, ...]
    ranks: Markup  # across data sets; empty where there are none
    across: Picture | None
    datasets: tuple[DatasetFacts, ...]
    left_out: str

    @property
    def runs(self) -> int:
        return len({run.directory for table in self.tables for run in table.runs})

    @property
    def synthetic(self) -> list[str]:
        return _named(page for page in self.tables if page.table.synthetic)

    @property
    def partial(self) -> list[str]:
        return _named(page for page in self.tables if page.table.partial)


def _named(pages: Iterable[TablePage]) -> list[str]:
    return list(dict.fromkeys(str(page.table.setting["results_name"]) for page in pages))


def page_of(
    comparison: Comparison,
    *,
    cache: Path,
    open_dataset: OpenDataset,
    images: bool = True,
    larger: bool = False,
    maps: AddMaps | None = None,
    percent: bool = True,
) -> Page:
    """Gather what the report of a comparison shows.

    ``cache``: where prepared images are looked for. Without ``images`` no picture of a patient is
    put in; ``larger``: with larger pictures from the original files; ``maps``: what adds maps to
    the pictures of a table, see ``with_maps``. Raises UserError for predictions that are damaged.
    """
    about = about_methods()

    def find(table: ResultTable, ids: Set[str]) -> Pictures:
        if not images:
            return NOT_ASKED
        if table.sample.units is not None:
            kind = table.sample.counted
            return Pictures(f"Each {kind} by its name; its images stand with the table of images.")
        run = table.rows[0].runs[0].members[0]
        found, stored = find_pictures(run, table.setting, ids, cache, open_dataset, larger)
        if maps is None:
            return found
        if stored is None:
            return found.without_maps("no maps either: they are drawn on the images of the page")
        return maps(found, stored, table)

    tables = [
        _table_page(replace(comparison, tables=(table,)), f"t{n}", about, find, percent)
        for n, table in enumerate(comparison.tables, start=1)
    ]
    names = dict.fromkeys(str(b.setting["results_name"]) for b in comparison.tables)
    records = [table.record for table in comparison.tables]
    return Page(
        ", ".join(names),
        tuple(tables),
        _tables(replace(comparison, tables=()), percent, 3),
        across(comparison),
        tuple(dataset_facts(records)),
        left_out(comparison),
    )


def _tables(comparison: Comparison, percent: bool, level: int | None) -> Markup:
    """What ``compare`` shows, as HTML. Unfinished runs are told once, elsewhere."""
    text = html_tables(replace(comparison, unfinished=0), percent, level=level)
    return Markup(text)


def _table_page(
    comparison: Comparison,
    anchor: str,
    about: Mapping[str, About],
    find: Callable[[ResultTable, Set[str]], Pictures],
    percent: bool,
) -> TablePage:
    """Of a comparison with one table."""
    (table,) = comparison.tables
    results = comparison.results.folder
    evidence = gather(table)
    classes = _classes(table, evidence, anchor)
    shown = {s.image for page in classes for s in (*page.wrong, *page.right)}
    runs = tuple(run_facts(results, table))
    audits = audit_facts(results, table)
    return TablePage(
        anchor=anchor,
        table=table,
        verdict=_verdict(table),
        leaks=leaks_sentence([found for _, found in audits]) if table.dropped is None else "",
        facts=_facts(table, evidence),
        scores=_tables(replace(comparison, ranks=None), percent, None),
        figures=tuple(figures(table, anchor, results)),
        classes=tuple(classes),
        pictures=find(table, shown),
        evidence_runs=evidence.runs,
        methods=tuple(method_facts(table, about)),
        runs=runs,
        compute=compute(runs),
        audits=tuple(audits),
    )


def _verdict(table: ResultTable) -> Verdict:
    """In terms of what is scored."""
    told, words = verdict(table), table.sample.in_words
    return Verdict(told.kind, words(told.answer), tuple(map(words, told.details)))


def _facts(table: ResultTable, evidence: Evidence) -> tuple[tuple[str, str], ...]:
    setting, record = table.stated, table.record
    words = ["synthetic"] * table.synthetic + ["partial"] * bool(table.partial)
    data = f" ({', '.join(words)})" if words else ""
    facts = [
        ("Data set", f"{setting['results_name']}{data}"),
        ("Split", str(setting["split_label"])),
        ("Split fingerprint", str(setting["split_fingerprint"])),
        ("Scored on", table.counted),
    ]
    for part, images in table.images.items():
        groups = ", ".join(f"{g} {n:,}" for g, n in images.items() if g != "all")
        n = f"{images['all']:,}" + (f" ({groups})" if groups else "")
        what = table.counted if part == table.part else f"{part} images"
        facts.append((what.capitalize(), n))
    facts.append(("Classes", f"{len(record.classes)}"))
    facts.append(("Backbone", f"{setting['backbone']}, weights {setting['weights']}"))
    if setting["tuning"] != "full":
        facts.append(("Tuning", str(setting["tuning"])))
    size = setting["image_size"]
    facts.append(("Image size", size if size == NOT_STATED else pixels(int(size))))
    seeds = dict.fromkeys(seed for row in table.rows for seed in row.seeds)
    named = ", ".join(map(str, sorted(seeds)))
    facts.append(("Runs", f"{evidence.runs} of {len(table.rows)} methods, seeds {named}"))
    return tuple(facts)


def _classes(table: ResultTable, evidence: Evidence, anchor: str) -> list[ClassPage]:
    record = table.record
    names: Sequence[str] = record.classes
    beside = {row.label for row in drawn_rows(table, MOST_PANELS)}
    group_of = {name: g for g, members in record.groups.items() for name in members}
    pages = []
    for k, name in enumerate(names):
        wrong, right = most_often(evidence, k)
        rows = [
            OfMethod(
                row.label, row.recalls[name], tuple(mistakes(predicted, evidence.labels, k, names))
            )
            for row, predicted in zip(table.rows, evidence.predicted, strict=True)
        ]
        images = {part: int(counts[k]) for part, counts in record.class_counts.items()}
        images[table.part] = int((evidence.labels == k).sum())
        pages.append(
            ClassPage(
                f"{anchor}-class-{k + 1}",
                name,
                group_of.get(name, ""),
                images,
                tuple(rows),
                tuple(wrong),
                tuple(right),
                tuple(row for row in rows if row.label in beside),
            )
        )
    return pages
