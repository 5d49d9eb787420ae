"""The page as HTML text: templates, style and script put together, nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from lmdbench.reporting.page.content import Page
from lmdbench.reporting.page.provenance import duration
from lmdbench.version import __version__

TEMPLATES = Path(__file__).parent / "templates"


def render(page: Page, date: str) -> str:
    """The page as HTML; the same page and date give the same text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = as_code
    environment.globals |= {"percent": _percent, "share": _share, "duration": duration}
    return environment.get_template("report.html.j2").render(
        page=page,
        date=date,
        version=__version__,
        privacy=_privacy(page),
        style=_source("style.css"),
        script=_source("page.js"),
    )


def as_code(text: str) -> Markup:
    """A text as HTML in which what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _source(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _share(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def _privacy(page: Page) -> str:
    images = sum(len(table.pictures.uris) for table in page.tables)
    if not images:
        return "It holds no images."
    return f"It holds thumbnails of {images:,} images of the data sets: mind their licences."
