"""What all pictures have in common: fonts, colours, and how a file of one is written."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.figure import Figure

from lmdbench.core.errors import UserError
from lmdbench.core.files import atomic

ENDINGS = ("png", "pdf", "svg")
DOTS = 200  # per inch, of a PNG
# Colours that colour-blind people tell apart (Okabe and Ito), by group of classes.
COLOURS = {"head": "#0072B2", "medium": "#E69F00", "tail": "#CC79A7"}
OTHER = "#56B4E9"  # a group of another name
ALONE = "#999999"  # a class in no group
STYLE: dict[str, Any] = {
    # Without a salt the ids in an SVG, and so the file, would differ from run to run.
    "svg.hashsalt": "lmdbench",
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "font.size": 8.0,
    "text.parse_math": False,  # a name may hold a $
    "hatch.linewidth": 0.4,
}
FONT = "DejaVu Sans"  # matplotlib's own; it has no Chinese, Japanese, Korean, nor emoji
# Fonts with other scripts: of those that are installed, letters are taken that it lacks.
FALLBACKS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "IPAexGothic"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Hiragino Sans"),
    *("Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS", "Noto Sans Thai"),
    *("Noto Sans Devanagari", "Noto Emoji", "Symbola", "Segoe UI Emoji"),
)
UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


@contextmanager
def drawing(**settings: Any) -> Iterator[None]:
    """Draw and write in the common style; ``settings`` of matplotlib go before it."""
    common: Any = STYLE | {"font.family": list(fonts())} | settings
    with mpl.rc_context(common), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


@cache
def fonts() -> tuple[str, ...]:
    """Families in which letters are looked for, the usual one first."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (FONT, *(name for name in FALLBACKS if name in installed))


def picture_kind(path: Path) -> str:
    """``png``, ``pdf`` or ``svg``. Raises UserError for a name that ends otherwise."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ENDINGS:
        raise UserError(f"{path}: the name of a picture must end in .{', .'.join(ENDINGS)}")
    return kind


def save_figure(figure: Figure, path: Path, dots: int = DOTS) -> None:
    """Write a figure in the format of the file's ending; the same figure gives the same bytes.

    Raises UserError for another ending and where nothing can be written.
    """
    kind = picture_kind(path)
    with drawing(), atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dots, metadata=UNDATED.get(kind))


def svg_text(figure: Figure) -> str:
    """The figure as an SVG document, its letters as outlines: it needs no fonts to be shown."""
    with drawing():
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=UNDATED["svg"])
    return text.getvalue()


def wrapped(text: str, letters: float) -> list[str]:
    """Lines of at most so many letters; a longer word is broken."""
    return textwrap.wrap(text, max(int(letters), 1), break_on_hyphens=False)


def shortened(name: str, letters: int) -> str:
    """Long names differ at their ends as often as at the beginning: the middle is left out."""
    half = letters // 2
    return name if len(name) <= letters else f"{name[: half - 1]}…{name[-half:]}"
