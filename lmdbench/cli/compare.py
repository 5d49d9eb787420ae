"""``lmdbench compare``: the finished runs in tables, methods × metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import check_output, json_option, plugin_option
from lmdbench.cli.selection import division_options, selection_options
from lmdbench.core.errors import UserError

if TYPE_CHECKING:
    from lmdbench.cli.selection import Selection
    from lmdbench.comparison.compare import Comparison

# Ending of --output → the format it asks for.
ENDINGS = {
    ".txt": "table",
    ".md": "markdown",
    ".tex": "latex",
    ".csv": "csv",
    ".json": "json",
    ".html": "html",
}
UNWRAPPED = 100_000  # columns where no terminal sets a limit


@click.command()
@selection_options
@division_options
@click.option(
    "--per-class",
    is_flag=False,
    flag_value="recall",
    default=None,
    metavar="[STAT]",
    help="Add a table of the classes: recall (if nothing is said), precision, f1, specificity, "
    "npv, auroc, auprc, lr+, lr-, sensitivity@specificity=0.9 or net_benefit@threshold=0.2.",
)
@click.option("--pairwise", is_flag=True, help="Add all pairs of rows, tested on the first metric.")
@click.option(
    "--ranks",
    is_flag=True,
    help="Add how stable the ranking of each table is: its ranks by the first metric on bootstrap "
    "samples of seeds and test images.",
)
@click.option(
    "--permutation",
    is_flag=True,
    help="Add the p of permutations over the test images: of these trained models only, blind to "
    "what another training would give.",
)
@click.option(
    "--published",
    is_flag=True,
    help="Set the numbers that papers print beside, with what must be said of them.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(ENDINGS.values())),
    help="[default: by the ending of --output, else table]",
)
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
@json_option
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write here, not to the screen.",
)
@plugin_option
def compare(
    selection: Selection,
    division: dict[str, Any],
    per_class: str | None,
    pairwise: bool,
    ranks: bool,
    permutation: bool,
    published: bool,
    form: str | None,
    spread: str | None,
    layout: str | None,
    caption: str | None,
    label: str | None,
    as_json: bool,
    output: Path | None,
) -> None:
    """Compare the finished runs: methods × metrics, with 95 % intervals and paired tests.

    Runs stand in one table only if they agree in everything but the method: the images, the split,
    backbone, weights, image size, precision and selection rule. One row is one method with one
    choice of settings, over its seeds. ce comes first; the other rows rise by the first metric,
    which is the one tested against --reference.
    """
    from lmdbench.core.files import write_text

    if as_json:
        if form not in (None, "json"):
            raise UserError(f"--json and --format {form} contradict each other; leave one out")
        if output is not None and ENDINGS.get(output.suffix, "json") != "json":
            raise UserError(f"--json and --output {output} contradict each other; leave one out")
        form = "json"
    form = form or _format_of(output)
    looks = _looks(form, spread=spread, columns=layout, caption=caption, label=label)
    if label is not None and not re.fullmatch(r"[A-Za-z0-9:._-]+", label):
        raise UserError(f"--label {label!r}: only letters of a to z, digits and : . _ -")
    if output is not None:
        check_output(output)
    comparison = selection.comparison(
        per_class=per_class or "",
        pairwise=pairwise,
        stability=ranks,
        permutation=permutation,
        published=published,
        **division,
    )
    if published and not any(table.published for table in comparison.tables):
        click.echo(_nothing_published(), err=True)
    if output is None and form == "table":
        _print_table(comparison, selection.percent)
        return
    text = _text(comparison, form, selection.percent, looks)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)
        click.echo(f"written: {output}", err=True)


def _nothing_published() -> str:
    from lmdbench.comparison.published import published_datasets

    return (
        "--published: no paper's numbers are of these images. There are some for "
        f"{', '.join(published_datasets())}: for all test images of the splits that their authors "
        "released."
    )


def _format_of(output: Path | None) -> str:
    if output is None:
        return "table"
    if output.suffix not in ENDINGS:
        raise UserError(
            f"--output {output}: say --format, or let the name end in {', '.join(ENDINGS)}"
        )
    return ENDINGS[output.suffix]


def _print_table(comparison: Comparison, percent: bool) -> None:
    from rich.console import Console

    from lmdbench.reporting.tables import print_comparison

    console = Console()
    if not console.is_terminal:
        console = Console(width=UNWRAPPED)
    print_comparison(comparison, console, percent)


def _looks(form: str, **asked: str | None) -> dict[str, str]:
    """The options of a format, as the functions of ``tables`` take them."""
    given = {name: value for name, value in asked.items() if value is not None}
    for name in given:
        fitting = ("latex",) if name in ("caption", "label") else ("markdown", "latex", "html")
        if form not in fitting:
            raise UserError(f"--{name} is for --format {' or '.join(fitting)}, not {form}")
    return {"layout" if name == "columns" else name: value for name, value in given.items()}


def _text(comparison: Comparison, form: str, percent: bool, looks: dict[str, str]) -> str:
    from lmdbench.reporting import tables

    if form == "csv":
        return tables.csv_text(comparison)
    if form == "json":
        return tables.json_text(comparison)
    if form == "markdown":
        return tables.markdown(comparison, percent, **looks)
    if form == "latex":
        return tables.latex(comparison, percent, **looks)
    if form == "html":
        return tables.html(comparison, percent, **looks)
    import io

    from rich.console import Console

    text = io.StringIO()
    tables.print_comparison(
        comparison, Console(file=text, width=UNWRAPPED, force_terminal=False), percent
    )
    return text.getvalue()
