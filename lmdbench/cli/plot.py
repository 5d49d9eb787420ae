"""``lmdbench plot``: pictures of the finished runs, as PDF, PNG or SVG."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.completion import complete
from lmdbench.cli.options import check_output, make_dataset, parse_device, plugin_option
from lmdbench.cli.selection import selection_options, unit_option
from lmdbench.cli.text import table
from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache
from lmdbench.core.registry import unknown
from lmdbench.core.words import some

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lmdbench.cli.selection import Selection
    from lmdbench.comparison.compare import Comparison
    from lmdbench.comparison.results import Run, RunGroup
    from lmdbench.reporting.plots import Plot
    from lmdbench.reporting.plots.embedding import Embedding

IMAGES = 100  # of a class, of an embedding, at most
WIDTH = 7.0  # inches
FITTING = {"--class": ("class",), "--run": ("run", "features")}  # what plots are of; else features


@click.command()
@click.argument("kind", required=False, shell_complete=complete("plots"))
@selection_options
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write here (.pdf, .png or .svg), over what is there; where there are several tables, one "
    "file each with data set and split in its name.  [default: a new PDF here, named after what it "
    "shows]",
)
@click.option(
    "--width", type=float, default=WIDTH, show_default=True, metavar="INCHES", help="Of the figure."
)
@click.option(
    "--bare",
    is_flag=True,
    help="For a paper: without title and footer, which are printed instead, and cut to what it "
    "shows.",
)
@unit_option
@click.option(
    "--class",
    "class_name",
    metavar="CLASS",
    help="Of roc, precision-recall, decision-curve and operating-points: this class against the "
    "rest.  [default: the mean over all classes; decision-curve has none]",
)
@click.option(
    "--run",
    "run",
    metavar="DIR|ID",
    help="Of embedding, and of other plots of a run: the run.  [default: the first seed of the "
    "only row that is chosen]",
)
@click.option(
    "--images",
    type=int,
    metavar="N",
    help=f"Of embedding: at most so many images of a class.  [default: {IMAGES}]",
)
@click.option("--device", metavar="auto|cpu|cuda[:N]", help="Of embedding.  [default: auto]")
@click.option(
    "--accept-changed", is_flag=True, help="Of embedding: a run made by code that changed since."
)
@plugin_option
def plot(
    kind: str | None,
    selection: Selection,
    output: Path | None,
    width: float,
    bare: bool,
    unit: str | None,
    class_name: str | None,
    run: str | None,
    images: int | None,
    device: str | None,
    accept_changed: bool,
) -> None:
    """Draw a picture of the finished runs; without KIND, list the kinds.

    \b
    lmdbench plot groups --dataset isic2019 --output groups.pdf
    lmdbench plot forest --reference lmd
    lmdbench plot confusion --method lmd --output lmd.svg
    lmdbench plot roc --class MEL --bare
    lmdbench plot embedding --run results/isic2019/published/lmd/seed0-1a2b3c4d

    Each table of `lmdbench compare` is a picture of its own; the same options choose them.
    """
    from lmdbench.reporting.plots import PLOTS
    from lmdbench.reporting.plots.figures import picture_kind
    from lmdbench.reporting.plots.style import NARROWEST, WIDEST

    if kind is None:
        rows = [[name, plot.title] for name, plot in PLOTS.all().items()]
        click.echo(table(["kind", "what"], rows, right=()))
        click.echo("\nlmdbench plot KIND: draw one; docs/adding-a-plot.md: add one")
        return
    plot = PLOTS[kind]
    if not NARROWEST <= width <= WIDEST:
        raise UserError(f"--width {width:g}: give {NARROWEST:g} to {WIDEST:g} inches")
    if not selection.percent:
        raise UserError("plots are in percent; leave --fraction out")
    if output is not None:
        picture_kind(output)
        check_output(output)
    given = {
        "--class": class_name,
        "--run": run,
        "--images": images,
        "--device": device,
        "--accept-changed": accept_changed or None,
    }
    for option, value in given.items():
        fitting = FITTING.get(option, ("features",))
        if value is not None and plot.of not in fitting:
            those = [name for name, other in PLOTS.all().items() if other.of in fitting]
            named = " or ".join(f"`lmdbench plot {name}`" for name in those)
            raise UserError(f"{option} is for {named}; leave it out")
    if plot.of in ("run", "features"):
        if selection.calibrate or selection.prior:
            raise UserError(f"{kind} shows no probabilities; leave --calibrate and --prior out")
        if unit:
            raise UserError(f"{kind} is of images, one by one; leave --unit out")
        if images is not None and images < 1:
            raise UserError(f"--images {images}: give 1 or more")
        chosen = _run(selection, run, kind)
        name = f"{chosen.record.results_name}-{chosen.method}-{chosen.directory.name}"
        list(_paths([name], kind, output))  # told before anything is worked for
        data: Run | Embedding = chosen
        if plot.of == "features":
            data = _features(chosen, selection, images or IMAGES, device or "auto", accept_changed)
        parts: list[tuple[str, Any]] = [(name, data)]
    elif plot.of == "class":
        parts = _classes(selection, class_name, plot, unit)
    else:
        comparison = selection.comparison(check=plot.check, unit=unit or "")
        parts = [("", comparison)] if plot.of == "comparison" else _named_tables(comparison)
    _write(_drawn(plot, parts, width), kind, output, bare)


def _named_tables(comparison: Comparison) -> list[tuple[str, Any]]:
    """Each table with a name of its own, to be part of a file's."""
    named: dict[str, Any] = {}
    for result in comparison.tables:
        setting = result.setting
        name = f"{setting['results_name']}-{setting['split_label']}"
        if result.dropped is not None:
            name += "-without-leaks"
        if result.sample.units is not None:
            name += f"-per-{result.sample.counted}"
        number = 2
        while name in named:
            name = f"{name.removesuffix(f'-{number - 1}')}-{number}"
            number += 1
        named[name] = result
    return list(named.items())


def _classes(
    selection: Selection, name: str | None, plot: Plot, unit: str | None
) -> list[tuple[str, Any]]:
    """The class of each table. Raises UserError for one that no table has."""
    from lmdbench.reporting.plots.one_vs_rest import OneVsRest, needs_class

    def check(groups: Sequence[RunGroup]) -> None:
        known = list(dict.fromkeys(one for group in groups for one in group.record.classes))
        if name is not None and name not in known:
            raise unknown("class", name, known)
        if name is None and plot.one_class:
            raise needs_class(plot.name, known)
        if plot.check is not None:
            plot.check(groups)

    of = "" if name is None else re.sub(r"[^\w.-]+", "_", name) + "-"
    tables = _named_tables(selection.comparison(check=check, unit=unit or ""))
    return [(f"{of}{place}", OneVsRest(table, name)) for place, table in tables]


def _drawn(plot: Plot, parts: list[tuple[str, Any]], width: float) -> list[tuple[str, Figure]]:
    """The figures by name. What can't be drawn is told; raises UserError where nothing can be."""
    figures = []
    problems = []
    for name, data in parts:
        try:
            figures.append((name, plot.draw(data, width)))
        except UserError as error:
            problems.append(error)
    if not figures:
        raise problems[0]
    for problem in problems:
        click.echo(f"not drawn: {problem}", err=True)
    return figures


def _write(figures: list[tuple[str, Figure]], kind: str, output: Path | None, bare: bool) -> None:
    """``bare``: what title and footer say goes to standard output instead."""
    from lmdbench.reporting.plots.figures import boxes, lacking, save_figure
    from lmdbench.reporting.plots.style import take_caption

    paths = list(_paths([name for name, _ in figures], kind, output))
    for path, (_, figure) in zip(paths, figures, strict=True):
        if bare:
            click.echo(f"{path}\n{take_caption(figure)}\n")
        save_figure(figure, path, tight=bare)
        click.echo(f"written: {path}", err=True)
    drawn = "".join(lacking(figure) for _, figure in figures)
    if line := boxes("".join(dict.fromkeys(drawn))):
        click.echo(line, err=True)


def _paths(names: list[str], kind: str, output: Path | None) -> Iterator[Path]:
    """A file for each name. Raises UserError for one that nobody named and that is there."""
    for name in names:
        if output is None:
            path = Path("-".join(filter(None, (kind, name))).replace("/", "-") + ".pdf")
            if path.exists():
                raise UserError(f"{path} is there already; --output {path} writes over it")
        elif len(names) == 1:
            path = output
        else:
            path = output.with_name(f"{output.stem}-{name}{output.suffix}")
        yield path


def _run(selection: Selection, run: str | None, kind: str) -> Run:
    """The run that is named, else the first seed of the only row that is chosen."""
    from lmdbench.comparison.results import Run
    from lmdbench.runs.record import read_record
    from lmdbench.runs.state import find_run

    if run is not None:
        directory = find_run(run, selection.results)
        return Run(directory, read_record(directory))
    article = "an" if kind[0] in "aeiou" else "a"

    def check(groups: Sequence[RunGroup]) -> None:
        labels = [row.label for group in groups for row in group.rows]
        if len(labels) > 1:
            raise UserError(
                f"{article} {kind} is of one run, here are {len(labels)} rows: {some(labels, 8)}; "
                "choose one by --method (and --dataset, --split), or name a run by --run"
            )

    rows = [row for table in selection.comparison(check=check).tables for row in table.rows]
    return rows[0].runs[0].members[0]


def _features(
    run: Run, selection: Selection, images: int, device: str, accept_changed: bool
) -> Embedding:
    from lmdbench.runs.state import check_model

    check_model(run.directory)
    from lmdbench.reporting.plots.features import embedding_of

    return embedding_of(
        run.directory,
        lambda name: make_dataset(name, selection.data_root),
        default_cache(),
        part=selection.part,
        per_class=images,
        device=parse_device(device),
        accept_changed=accept_changed,
        say=lambda text: click.echo(text, err=True),
    )
