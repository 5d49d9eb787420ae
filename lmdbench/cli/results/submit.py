"""``lmdbench results submit``: runs as an entry of a repository of reference results."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

import click

from lmdbench.cli.options import plugin_option
from lmdbench.core.errors import UserError
from lmdbench.core.schema import is_line

REPOSITORY = "results/reference"


def repository_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--repository",
        metavar="FOLDER",
        type=click.Path(path_type=Path),
        default=REPOSITORY,
        show_default=True,
        help="The folder of reference results.",
    )(command)


@click.command()
@click.argument("archive", metavar="FILE.zip", type=click.Path(path_type=Path))
@click.option("--name", required=True, metavar="NAME", help="Of the entry: a new folder there.")
@click.option("--title", required=True, metavar="TEXT", help="What it is, in a line.")
@click.option("--by", required=True, metavar="TEXT", help="Who made it.")
@click.option("--command", required=True, metavar="TEXT", help="The command that made the runs.")
@click.option("--machine", default="", metavar="TEXT", help="What it ran on, if that matters.")
@click.option(
    "--source",
    default="",
    metavar="URL",
    help="Where the code is of methods that lmdbench does not have, as of imported predictions.",
)
@repository_option
@plugin_option
def submit(archive: Path, name: str, repository: Path, **card: str) -> None:
    """Check what `lmdbench results export` wrote, and make it an entry of the reference results.

    Beside what `import` checks: splits are those of the entries there, methods those of this
    version or with their source, no class is tested that was not trained, and each row has at least
    three seeds. Then commit the new folder, and open a pull request.

    \b
    lmdbench results export --dataset isic2019 --output mine.zip
    lmdbench results submit mine.zip --name focal-isic2019 --title "Focal loss, three seeds" \\
      --by "A. Author" --command "lmdbench run --method focal --dataset isic2019 --seeds 0-2"
    """
    from lmdbench.sharing import repository as reference

    for option, text in card.items():
        if text and not is_line(text):
            raise UserError(f"--{option}: give one line of text")
    full = reference.Card(date=date.today().isoformat(), **card)
    with tempfile.TemporaryDirectory(prefix="lmdbench-") as folder:
        entry = reference.submit(archive, name, full, repository, Path(folder) / "results")
    click.echo(f"{repository / name}: {len(entry.runs)} runs, {entry.nbytes / 1e6:.1f} MB")
    click.echo(
        f"next: lmdbench results leaderboard --repository {repository} --output board, look at "
        f"it, commit {repository / name}, and open a pull request",
        err=True,
    )
