"""``lmdbench report``: the finished runs as one HTML file, with tables, plots and images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import check_output, make_dataset, parse_device, plugin_option
from lmdbench.cli.selection import division_options, selection_options
from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache

if TYPE_CHECKING:
    from lmdbench.cli.selection import Selection
    from lmdbench.data.dataset import Dataset
    from lmdbench.reporting.page.content import AddMaps


@click.command()
@selection_options
@division_options
@click.option(
    "--output",
    metavar="FILE.html",
    default="report.html",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Write here.",
)
@click.option(
    "--images/--no-images",
    default=True,
    show_default=True,
    help="Thumbnails of the images most often wrong and right, where the very images of the runs "
    "are prepared in the cache.",
)
@click.option(
    "--larger",
    is_flag=True,
    help="A click on a thumbnail shows the image larger, from its original file: mostly needs "
    "--data-root, and makes the file much larger.",
)
@click.option(
    "--maps",
    metavar="[METHOD]",
    is_flag=False,
    flag_value="",
    help="A click on a thumbnail shows what in the image spoke for the answer of this row's runs "
    "(Grad-CAM; of the best row, where no METHOD is said): needs their weights.",
)
@click.option("--pairwise", is_flag=True, help="Add all pairs of rows, tested on the first metric.")
@click.option(
    "--ranks",
    is_flag=True,
    help="Add how stable the ranking of each table is: its ranks by the first metric on bootstrap "
    "samples of seeds and test images.",
)
@click.option(
    "--published",
    is_flag=True,
    help="Set the numbers that papers print beside, with what must be said of them.",
)
@plugin_option
def report(
    selection: Selection,
    division: dict[str, Any],
    output: Path,
    images: bool,
    larger: bool,
    maps: str | None,
    pairwise: bool,
    ranks: bool,
    published: bool,
) -> None:
    """Write one HTML file that answers: is the gain real, is it in the tail, on how many images.

    \b
    lmdbench report --dataset isic2019 --output isic2019.html
    lmdbench report --no-images                  to hand on without pictures of patients

    It needs nothing but itself to be read: no network, no server.
    """
    from datetime import date

    from lmdbench.comparison.leaks import needs_root
    from lmdbench.core.files import write_text
    from lmdbench.reporting.page.content import page_of
    from lmdbench.reporting.page.render import render
    from lmdbench.reporting.plots.figures import boxes

    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--output {output}: the name must end in .html")
    check_output(output)
    for option, asked in (("--larger", larger), ("--maps", maps is not None)):
        if asked and not images:
            raise UserError(
                f"{option} is about images, and --no-images leaves them out: leave one out"
            )

    def open_dataset(name: str) -> Dataset:
        if selection.data_root is None and needs_root(name):
            raise UserError("its tables would tell: give --data-root")
        return make_dataset(name, selection.data_root)

    page = page_of(
        selection.comparison(pairwise=pairwise, stability=ranks, published=published, **division),
        cache=default_cache(),
        open_dataset=open_dataset,
        images=images,
        larger=larger,
        maps=None if maps is None else adder_of_maps(maps),
        percent=selection.percent,
    )
    write_text(output, render(page, date.today().isoformat()))
    shown = sum(len(table.pictures.uris) for table in page.tables)
    megabytes = output.stat().st_size / 1e6
    click.echo(
        f"written: {output}, {megabytes:.1f} MB with {shown or 'no'} images"
        + ("; --no-images leaves them out" if shown else ""),
        err=True,
    )
    drawn = "".join(picture.lacking for table in page.tables for picture in table.figures)
    if line := boxes("".join(dict.fromkeys(drawn))):
        click.echo(line, err=True)
    for advice in dict.fromkeys(table.pictures.advice for table in page.tables):
        if advice:
            click.echo(advice, err=True)


def adder_of_maps(method: str) -> AddMaps:
    """What adds maps of a method's answers to the pictures of a table."""
    from functools import partial

    from lmdbench.reporting.page.maps import with_maps

    return partial(with_maps, method=method, device=parse_device("auto"))
