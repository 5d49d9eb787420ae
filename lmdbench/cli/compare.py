"""``lmdbench compare``: the finished runs in tables, methods × metrics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmdbench.cli.options import (
    data_root_option,
    groups_option,
    json_option,
    make_dataset,
    plugin_option,
    results_option,
)
from lmdbench.errors import UserError

if TYPE_CHECKING:
    from lmdbench.audit.report import Leaks
    from lmdbench.data.dataset import Dataset
    from lmdbench.reporting.comparison import Comparison, LeaksOf
    from lmdbench.reporting.results import Run

# Ending of --output → the format it asks for.
ENDINGS = {
    ".txt": "table",
    ".md": "markdown",
    ".tex": "latex",
    ".html": "html",
    ".csv": "csv",
    ".json": "json",
}
UNWRAPPED = 100_000  # columns where no terminal sets a limit


@click.command()
@click.option(
    "--dataset", "datasets", multiple=True, metavar="NAME", help="Only this data set (repeatable)."
)
@click.option(
    "--method", "methods", multiple=True, metavar="NAME", help="Only this method (repeatable)."
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="LABEL",
    help="Only this split, named as its folder under the results (repeatable).",
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="SWEEP",
    help="Only the runs that this sweep asks for: a file or a preset (repeatable).",
)
@click.option(
    "--metric",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only this metric (repeatable): balanced_accuracy, macro_f1, macro_auroc, accuracy, mcc, "
    "group_mean, or a group such as tail.  [default: the first four and every group]",
)
@click.option(
    "--part",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="Which images.",
)
@click.option(
    "--drop-leaked",
    is_flag=True,
    help="A second table without the test images that share a lesion, or a picture, with training "
    "or validation images: by the audit kept beside the results, else by the tables.",
)
@data_root_option
@groups_option
@click.option(
    "--folds",
    type=click.Choice(["pooled", "each"]),
    default="pooled",
    show_default=True,
    help="Of a k-fold split: one table in which each image was tested once, or a table a fold "
    "(as always for validation images).",
)
@click.option(
    "--percent/--fraction",
    default=True,
    show_default=True,
    help="Percent with one decimal, or fractions with three. CSV and JSON hold full fractions.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(ENDINGS.values())),
    help="[default: by the ending of --output, else table]",
)
@json_option
@click.option(
    "--spread",
    type=click.Choice(["interval", "sd", "none"]),
    help="What stands behind a mean in markdown, latex and html: its 95 % interval, the standard "
    "deviation over seeds, or nothing.  [default: interval]",
)
@click.option(
    "--columns",
    "layout",
    type=click.Choice(["metrics", "split"]),
    help="For markdown, latex and html: split sets tables that differ only in the split, such as "
    "its imbalance factor, side by side.  [default: metrics]",
)
@click.option("--caption", metavar="TEXT", help="Of the first table, for latex.")
@click.option("--label", metavar="NAME", help="Of the first table, for latex.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write here, not to the screen.",
)
@results_option
@plugin_option
def compare(
    datasets: tuple[str, ...],
    methods: tuple[str, ...],
    splits: tuple[str, ...],
    sweeps: tuple[str, ...],
    names: tuple[str, ...],
    part: str,
    drop_leaked: bool,
    data_root: Path | None,
    groups: str | None,
    folds: str,
    percent: bool,
    form: str | None,
    as_json: bool,
    spread: str | None,
    layout: str | None,
    caption: str | None,
    label: str | None,
    output: Path | None,
    results: Path,
) -> None:
    """Compare the finished runs: methods × metrics, mean ± deviation over seeds.

    Runs stand in one table only if they agree in everything but the method: the images, the split,
    backbone, weights, image size, precision and selection rule. One row is one method with one
    choice of settings, over its seeds. ce comes first; the other rows rise by the first metric.
    """
    if as_json:
        if form not in (None, "json"):
            raise UserError(f"--json and --format {form} contradict each other; leave one out")
        form = "json"
    form = form or _format_of(output)
    looks = _looks(form, spread=spread, columns=layout, caption=caption, label=label)

    from lmdbench.reporting import comparison
    from lmdbench.reporting.results import read_results

    there = read_results(results)
    for problem in there.unreadable:
        click.echo(f"left out: {problem}", err=True)
    found = comparison.compare(
        there,
        datasets=datasets,
        methods=methods,
        splits=splits,
        names=names,
        part=part,
        pooled=folds == "pooled",
        leaked=_leaked(results, data_root) if drop_leaked else None,
        groups=groups,
        keys=_keys(sweeps, results, data_root) if sweeps else None,
    )
    if output is None and form == "table":
        _print_table(found, percent)
        return
    text = _text(found, form, percent, looks)
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text)
        click.echo(f"written: {output}", err=True)


def _keys(sweeps: tuple[str, ...], results: Path, data_root: Path | None) -> set[str]:
    """The directories of what the sweeps ask for, not of what is only started from."""
    from lmdbench.cli.sweep.common import load_plan

    plans = [load_plan(source, results, data_root) for source in sweeps]
    return {key for plan in plans for key, node in plan.nodes.items() if node.asked}


def _leaked(results: Path, data_root: Path | None) -> LeaksOf:
    from lmdbench.data.dataset import DATASETS
    from lmdbench.reporting.leaks import leaked_images

    def open_dataset(name: str) -> Dataset | None:
        if data_root is None and DATASETS.get(name).needs_root:
            return None
        return make_dataset(name, data_root)

    found: dict[tuple[str, str], Leaks] = {}

    def leaked(run: Run) -> Leaks:
        split = (str(run.record["split_label"]), str(run.spec["split"]["fingerprint"]))
        if split not in found:
            found[split] = leaked_images(results, run, open_dataset)
        return found[split]

    return leaked


def _format_of(output: Path | None) -> str:
    if output is None:
        return "table"
    if output.suffix not in ENDINGS:
        raise UserError(
            f"--output {output}: say --format, or let the name end in {', '.join(ENDINGS)}"
        )
    return ENDINGS[output.suffix]


def _print_table(found: Comparison, percent: bool) -> None:
    from rich.console import Console

    from lmdbench.reporting.tables import print_comparison

    console = Console()
    if not console.is_terminal:
        console = Console(width=UNWRAPPED)
    print_comparison(found, console, percent)


def _looks(form: str, **asked: str | None) -> dict[str, str]:
    """The options of a format, as the functions of ``tables`` take them."""
    given = {name: value for name, value in asked.items() if value is not None}
    for name in given:
        known = ("latex",) if name in ("caption", "label") else ("markdown", "latex", "html")
        if form not in known:
            raise UserError(f"--{name} is for --format {' or '.join(known)}, not {form}")
    return {"layout" if name == "columns" else name: value for name, value in given.items()}


def _text(found: Comparison, form: str, percent: bool, looks: dict[str, str]) -> str:
    from lmdbench.reporting import tables

    if form == "csv":
        return tables.csv_text(found)
    if form == "json":
        return tables.json_text(found)
    if form == "markdown":
        return tables.markdown(found, percent, **looks)
    if form == "latex":
        return tables.latex(found, percent, **looks)
    if form == "html":
        return tables.html(found, percent, **looks)
    import io

    from rich.console import Console

    text = io.StringIO()
    tables.print_comparison(
        found, Console(file=text, width=UNWRAPPED, force_terminal=False), percent
    )
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    from lmdbench.files import write_text

    if path.is_dir():
        raise UserError(f"--output {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}; make it first")
    write_text(path, text)
