"""Text as Markdown, LaTeX and HTML show it literally."""

from __future__ import annotations

import html
import re
import unicodedata

GREEK = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ"
GREEK_NAMES = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)

# Character → what LaTeX wants for it; letters with accents are made of both.
LATEX = {
    **{k: rf"$\{name}$" for k, name in zip(GREEK, GREEK_NAMES.split(), strict=True)},
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': "''",
    "[": "{[}",  # or a row that begins with it is read as an option of the line break before
    "]": "{]}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "−": "$-$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "←": r"$\leftarrow$",
    "→": r"$\rightarrow$",
    "▲": r"$\bigtriangleup$",
    "▼": r"$\bigtriangledown$",
    "°": r"$^{\circ}$",
    "µ": r"$\mu$",
    "²": "$^{2}$",
    "³": "$^{3}$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}

# Combining accent → the command that sets it, in every font encoding.
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
    "\u0331": "b",
}


def escape_markdown(text: str) -> str:
    """Text as GitHub's Markdown shows it literally, on one line, also inside a table."""
    return re.sub(r"([\\`*_\[\]<>|~#$])", r"\\\1", _one_line(text))


def escape_latex(text: str) -> str:
    """Text as LaTeX sets it literally, with no package and any font encoding.

    What that cannot set is written by its number, as in U+4E2D.
    """
    line = _one_line(text)
    pieces = (_latex(character) for character in line)
    # Two hyphens would be set as a dash.
    return "".join(
        "-{}" if character == following == "-" else piece
        for piece, character, following in zip(pieces, line, f"{line} "[1:], strict=True)
    )


def escape_html(text: str) -> str:
    """Text as HTML shows it literally, in an element or a quoted attribute."""
    return html.escape(_one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _latex(character: str) -> str:
    if character in LATEX:
        return LATEX[character]
    if " " <= character < "\x7f":
        return character
    letter, *accents = list(unicodedata.normalize("NFD", character))
    if accents and letter.isascii() and letter.isalpha() and set(accents) <= ACCENTS.keys():
        for accent in accents:
            letter = f"\\{ACCENTS[accent]}{{{letter}}}"
        return letter
    return f"U+{ord(character):04X}"
