"""Text that comes out of every form as it went in."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.reporting.tables.escape import (
    LATEX,
    escape_html,
    escape_latex,
    escape_markdown,
    glyphs,
    one_line,
)

# ASCII, spaces of other kinds, and signs of our own.
TEXT = "".join(map(chr, range(128))) + "\u00a0\u2028é–…±·×−←τ≈▲中ą"


@given(st.text(alphabet=TEXT))
def test_markdown_cells_hold_no_bare_bar_or_line_break(text: str) -> None:
    escaped = escape_markdown(text)
    assert len(escaped.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(\\\\)*\|", escaped)
    assert re.sub(r"\\([\\`*_\[\]<>|~#$])", r"\1", escaped) == one_line(text)


@given(st.text(alphabet=TEXT))
def test_html_comes_back(text: str) -> None:
    escaped = escape_html(text)
    assert not set(escaped) & set("<>\"'")
    assert html.unescape(escaped) == one_line(text)


def is_balanced(text: str) -> bool:
    """Whether braces match, those that stand for themselves left aside."""
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@given(st.text(alphabet=TEXT))
def test_latex_escapes_leave_nothing_active(text: str) -> None:
    escaped = re.sub(r"\\lmdbenchglyph\{[0-9A-F]+\}", "", escape_latex(text))
    assert is_balanced(escaped)
    assert escaped.isascii()
    assert "--" not in escaped.replace(LATEX["–"], "", text.count("–"))
    for command in sorted({*LATEX.values(), r"\'{e}", "-{}"}, key=len, reverse=True):
        escaped = escaped.replace(command, "")
    assert not set(escaped) & set(r"\{}&%#_~^<>|")


def test_letters_beyond_ascii() -> None:
    assert escape_latex("é ő ç Ş τ Ω ß ø") == (
        r"\'{e} \H{o} \c{c} \c{S} $\tau$ $\Omega$ \ss{} \o{}"
    )
    assert escape_latex("中 ą \x1b") == r"\lmdbenchglyph{4E2D} \lmdbenchglyph{0105} U+001B"
    assert glyphs(escape_latex("中 文中 ą")) == "中文ą"
    assert escape_latex("e\u0301 x\u0304 ά Α ﬁ ①") == (
        r"\'{e} \={x} $\acute{\alpha}$ $\mathrm{A}$ fi 1"
    )
    assert escape_latex("a--b – -") == "a-{}-b -- -"
    assert escape_latex("") == ""


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\x07b\x00", "\u202egnirts", "x\x9b2J", "\ud800"])
def test_what_acts_on_a_terminal_is_named(name: str) -> None:
    shown = one_line(name)
    assert shown.isprintable()
    assert "U+" in shown
    assert one_line("Melanom  (bösartig)\n黑 😀") == "Melanom (bösartig) 黑 😀"
