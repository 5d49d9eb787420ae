"""What all pictures have in common: fonts, colours, and how a file of one is written."""

from __future__ import annotations

import io
import logging
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
from matplotlib.font_manager import get_font
from matplotlib.text import Text

from lmdbench.core.errors import UserError
from lmdbench.core.files import atomic

ENDINGS = ("png", "pdf", "svg")
DOTS = 200  # per inch, of a PNG
EDGE = 0.02  # inches around a figure that is cut to what it shows
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
    *("Noto Sans CJK TC", "Noto Sans CJK KR", "Noto Sans KR", "Noto Sans TC", "PingFang SC"),
    *("SimHei", "Apple SD Gothic Neo", "Noto Sans Arabic", "Noto Sans Hebrew"),
    *("Noto Sans Devanagari", "Noto Emoji", "Symbola", "Segoe UI Emoji"),
)
MOST_NAMED = 20  # characters that a line names
UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


@contextmanager
def drawing(**settings: Any) -> Iterator[None]:
    """Draw and write in the common style; ``settings`` of matplotlib go before it."""
    common: Any = STYLE | {"font.family": list(fonts())} | settings
    with mpl.rc_context(common), warnings.catch_warnings(), _fonts_unmentioned():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # see ``lacking``
        yield


@contextmanager
def _fonts_unmentioned() -> Iterator[None]:
    """Without a line for each font, or weight of one, that matplotlib looks for in vain."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def lacking(figure: Figure) -> str:
    """The characters of a figure's texts that no installed font of ``fonts`` has, each once."""
    texts = [one.get_text() for one in figure.findobj(Text)]
    letters = dict.fromkeys("".join(texts))
    known = _letters()
    return "".join(one for one in letters if not one.isspace() and ord(one) not in known)


def boxes(characters: str) -> str:
    """What to say of pictures whose ``characters`` no font has; empty where there are none."""
    if not characters:
        return ""
    more = f" and {len(characters) - MOST_NAMED} more" if len(characters) > MOST_NAMED else ""
    named = " ".join(characters[:MOST_NAMED])
    return (
        f"drawn as boxes, as no installed font has them: {named}{more}; "
        "install one that has, such as Noto Sans CJK or Noto Emoji"
    )


@cache
def _letters() -> frozenset[int]:
    """Code points that the fonts have together."""
    paths = (font_manager.findfont(name, fallback_to_default=False) for name in fonts())
    return frozenset().union(*(get_font(path).get_charmap() for path in paths))


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


def save_figure(figure: Figure, path: Path, dots: int = DOTS, tight: bool = False) -> None:
    """Write a figure in the format of the file's ending; the same figure gives the same bytes.

    ``tight``: cut off what is empty around it. Raises UserError for another ending and where
    nothing can be written.
    """
    kind = picture_kind(path)
    cut: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": EDGE} if tight else {}
    with drawing(), atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dots, metadata=UNDATED.get(kind), **cut)


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
