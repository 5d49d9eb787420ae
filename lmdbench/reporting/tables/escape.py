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
LIKE_LATIN = "ΑΒΕΖΗΙΚΜΝΟΡΤΧο"  # Greek letters that LaTeX has no names for

# Character → what LaTeX wants for it; letters with accents are made of both.
LATEX = {
    **{k: rf"$\{name}$" for k, name in zip(GREEK, GREEK_NAMES.split(), strict=True)},
    **{
        k: rf"$\mathrm{{{letter}}}$" for k, letter in zip(LIKE_LATIN, "ABEZHIKMNOPTXo", strict=True)
    },
    "ς": r"$\varsigma$",
    "ϵ": r"$\epsilon$",
    "ϕ": r"$\phi$",
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
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "¿": "?`",
    "¡": "!`",
    "§": r"\S{}",
    "¶": r"\P{}",
    "©": r"\copyright{}",
    "£": r"\pounds{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "‐": "-",
    "‑": "-",
    "÷": r"$\div$",
    "½": r"$\frac{1}{2}$",
    "∆": r"$\Delta$",
    "∑": r"$\sum$",
    "∈": r"$\in$",
    "✓": r"$\surd$",
}

# Of a file that holds ``glyph``: XeTeX and LuaTeX set the character, others its number.
GLYPH_COMMAND = (
    r"\DeclareRobustCommand{\lmdbenchglyph}[1]"
    r'{\ifdefined\Umathchar\char"#1\relax\else U+#1\fi}'
)

DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # of writing
# What says how others are joined, shown or broken; LaTeX has other ways.
INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufe0e\ufe0f\ufeff"

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
MATH_ACCENTS = {"\u0300": "grave", "\u0301": "acute", "\u0308": "ddot", "\u0304": "bar"}  # of Greek


def one_line(text: str) -> str:
    """Text on one line, with nothing in it that acts on a terminal or turns what stands beside it:
    control characters are named, as in U+001B."""
    composed = unicodedata.normalize("NFC", " ".join(text.split()))
    return "".join(code_point(one) if _acts(one) else one for one in composed)


def _acts(character: str) -> bool:
    """Controls, halves of characters, and what changes the direction of writing."""
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs") or unicodedata.bidirectional(character) in DIRECTIONS


def code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def escape_markdown(text: str) -> str:
    """Text as GitHub's Markdown shows it literally, on one line, also inside a table."""
    return re.sub(r"([\\`*_\[\]<>|~#$])", r"\\\1", one_line(text))


def escape_latex(text: str) -> str:
    """Text as LaTeX sets it literally, with no package and any font encoding.

    What that cannot set is left to ``\\lmdbenchglyph`` (see ``GLYPH_COMMAND``).
    """
    line = one_line(text)
    letters = re.findall(r".[\u0300-\u036f]*", line)
    pieces = (_latex(letter) for letter in letters)
    # Two hyphens would be set as a dash.
    return "".join(
        "-{}" if character == following == "-" else piece
        for piece, character, following in zip(pieces, letters, [*letters[1:], ""], strict=False)
    )


def escape_html(text: str) -> str:
    """Text as HTML shows it literally, in an element or a quoted attribute."""
    return html.escape(one_line(text))


def glyphs(latex: str) -> str:
    """The characters that a LaTeX text leaves to ``\\lmdbenchglyph``, each once, in order."""
    found = re.findall(r"\\lmdbenchglyph\{([0-9A-F]+)\}", latex)
    return "".join(dict.fromkeys(chr(int(code, 16)) for code in found))


def _latex(letter: str) -> str:
    """A letter with the accents that stand on it."""
    if letter in LATEX:
        return LATEX[letter]
    if letter.isascii():
        return letter
    bare, *accents = list(unicodedata.normalize("NFD", letter))
    if accents and bare.isascii() and bare.isalpha() and set(accents) <= ACCENTS.keys():
        for accent in accents:
            bare = f"\\{ACCENTS[accent]}{{{bare}}}"
        return bare
    if accents and bare in GREEK + LIKE_LATIN and set(accents) <= MATH_ACCENTS.keys():
        name = LATEX[bare].strip("$")
        for accent in accents:
            name = f"\\{MATH_ACCENTS[accent]}{{{name}}}"
        return f"${name}$"
    if len(letter) > 1:
        return "".join(map(_latex, letter))
    plain = unicodedata.normalize("NFKC", letter)
    if plain != letter and plain.isascii():
        return escape_latex(plain)
    return "" if letter in INVISIBLE else rf"\lmdbenchglyph{{{ord(letter):04X}}}"
