"""A leaderboard as a folder of pages that need no server and no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lmdbench.core.words import size
from lmdbench.reporting.board.content import Board
from lmdbench.reporting.page.provenance import duration
from lmdbench.reporting.page.render import TEMPLATES as OF_PAGE
from lmdbench.reporting.page.render import as_code
from lmdbench.version import __version__

TEMPLATES = Path(__file__).parent / "templates"
INDEX = "index.html"


def pages(board: Board, date: str) -> Iterator[tuple[str, str]]:
    """File names with the pages' HTML; the same board and date give the same text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = as_code
    environment.globals |= {
        "duration": duration,
        "size": size,
        "version": __version__,
        "date": date,
        "style": _source(OF_PAGE / "style.css") + _source(TEMPLATES / "board.css"),
        "sorting": _source(OF_PAGE / "page.js"),
        "choosing": _source(TEMPLATES / "board.js"),
    }
    yield INDEX, environment.get_template("index.html.j2").render(board=board)
    row_page = environment.get_template("row.html.j2")
    for table in board.tables:
        for row in table.rows:
            yield row.page, row_page.render(board=board, table=table, row=row)


def _source(path: Path) -> Markup:
    return Markup(path.read_text(encoding="utf-8"))
