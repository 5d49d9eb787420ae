"""``lmdbench results leaderboard``: pages of the reference results that need no server."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from lmdbench.cli.options import plugin_option
from lmdbench.cli.results.submit import repository_option
from lmdbench.core.errors import UserError
from lmdbench.core.files import temporary_path
from lmdbench.core.words import count


@click.command()
@repository_option
@click.option(
    "--output",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="A new folder, or one that this command made before, for the pages.",
)
@plugin_option
def leaderboard(repository: Path, output: Path) -> None:
    """Make a leaderboard: tables to filter and sort, each row with where it comes from.

    Open FOLDER/index.html, from the disk or from any web server. Papers' own numbers stand beside,
    marked as printed; of each row it says what of its code has changed since.

    \b
    lmdbench results leaderboard --output board
    """
    from datetime import date

    from lmdbench.comparison.results import read_results
    from lmdbench.reporting.board.content import board_of
    from lmdbench.reporting.board.render import INDEX, pages
    from lmdbench.reporting.page.sources import about_methods
    from lmdbench.sharing.archive import new_folder
    from lmdbench.sharing.repository import Entry, gather

    if output.exists() and not (output.is_dir() and _made_here(output, INDEX)):
        raise UserError(
            f"--output {output}: there is something else; give a new folder, or move it away"
        )
    with tempfile.TemporaryDirectory(prefix="lmdbench-") as folder:
        results = Path(folder) / "results"
        found = list(gather(repository, results))
        for one in found:
            if isinstance(one, UserError):
                raise one
        entries = [one for one in found if isinstance(one, Entry)]
        if not entries:
            raise UserError(f"{repository}: no entries; `lmdbench results submit` makes one")
        board = board_of(read_results(results), entries, about_methods())
    made = temporary_path(output.absolute())
    with new_folder(made) as folder_of_pages:
        for name, text in pages(board, date.today().isoformat()):
            (folder_of_pages / name).write_text(text, encoding="utf-8")
    _put(made, output.absolute())
    rows = sum(len(table.rows) for table in board.tables)
    tables = count(len(board.tables), "table")
    click.echo(f"written: {output / INDEX}, {tables}, {count(rows, 'row')}", err=True)


def _made_here(folder: Path, index: str) -> bool:
    """Whether a folder is empty or a leaderboard's."""
    if not any(folder.iterdir()):
        return True
    try:
        return "<title>Leaderboard of long-tail methods" in (folder / index).read_text()
    except (OSError, UnicodeDecodeError):
        return False


def _put(made: Path, output: Path) -> None:
    """Give a folder another one's place."""
    if output.exists():
        shutil.rmtree(output)
    made.rename(output)
