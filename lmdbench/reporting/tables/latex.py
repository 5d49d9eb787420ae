"""A comparison as LaTeX: a ``table`` with booktabs rules for each sheet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from lmdbench.comparison.types import Comparison
from lmdbench.reporting.tables.escape import escape_latex
from lmdbench.reporting.tables.sheets import Column, Entry, Section, Sheet, sections
from lmdbench.reporting.tables.words import MARKS, left_out

# Mark of an entry → the superscript that shows it, in math.
SUPERSCRIPTS = {"better": "+", "worse": "-", "equal": r"\approx"}
ABREAST = 3  # intervals in brackets, beside their numbers
ROWS = 45  # that fit a page; a longer sheet is set as several tables
COLUMNS = 9  # that a reader can read on one; a wider sheet likewise


def latex(
    comparison: Comparison,
    percent: bool = True,
    *,
    spread: str = "interval",
    layout: str = "metrics",
    caption: str | None = None,
    label: str | None = None,
) -> str:
    """A ``table`` for each sheet, to be included in a document that loads booktabs and graphicx.

    ``spread`` and ``layout`` as ``sections`` takes them. ``caption``: the first table's, instead of
    the one made of its title and legend. ``label``: of the first table, and the beginning of the
    others', instead of one made of data set and split.
    """
    lines = [r"% needs \usepackage{booktabs,graphicx}"]
    used: Counter[str] = Counter()
    for section in sections(comparison, percent, spread=spread, layout=layout):
        for number, sheet in enumerate(section.sheets):
            for part, (page, rows) in enumerate(_pages(sheet)):
                first = not used
                name = _label(section, sheet, label, used)
                if part:
                    words = f"{_title(section, sheet)} (continued)."
                elif first and caption is not None:
                    words = caption
                else:
                    words = f"{_title(section, sheet)}. {_legend(sheet)}"
                notes = [*sheet.notes, *(section.notes if number == 0 else ())]
                lines += ["", *table(page, rows, words, name, [] if part else notes)]
    if line := left_out(comparison):
        lines += ["", f"% {line}"]
    return "\n".join(lines) + "\n"


def _pages(sheet: Sheet) -> list[tuple[Sheet, tuple[tuple[Entry, ...], ...]]]:
    """The sheet with columns that fit, and rows that do."""
    return [
        (page, page.rows[k : k + ROWS])
        for page in _narrow(sheet)
        for k in range(0, len(page.rows), ROWS)
    ]


def _narrow(sheet: Sheet) -> list[Sheet]:
    """Sheets of at most ``COLUMNS`` columns, each beginning with the first one.

    Columns under one heading stay together where they can; one that would stand alone in a table
    of its own goes with those before.
    """
    room = COLUMNS - 1
    chosen: list[list[int]] = [[]]
    places = range(1, len(sheet.columns))
    for _, under in groupby(places, key=lambda k: sheet.columns[k].span or k):
        together = list(under)
        if len(chosen[-1]) + min(len(together), room) > room and together != [places[-1]]:
            chosen.append([])
        for k in together:
            if len(chosen[-1]) >= room and k != places[-1]:
                chosen.append([])
            chosen[-1].append(k)
    return [
        replace(
            sheet,
            columns=tuple(sheet.columns[k] for k in (0, *those)),
            rows=tuple(tuple(row[k] for k in (0, *those)) for row in sheet.rows),
        )
        for those in chosen
    ]


def _title(section: Section, sheet: Sheet) -> str:
    """A float stands alone, so it says of which data it is."""
    return f"{sheet.title}: {section.title}" if sheet.slug else section.title


def _legend(sheet: Sheet) -> str:
    if any(entry.half for row in sheet.rows for entry in row):
        return f"{sheet.legend} ± is half the interval, where its halves are equal."
    return sheet.legend


def _label(section: Section, sheet: Sheet, wanted: str | None, used: Counter[str]) -> str:
    """The name of a table for \\ref, each once."""
    base = f"tab:{_slug(section.slug)}" if wanted is None else wanted
    if sheet.slug and (wanted is None or used):
        base += f"-{_slug(sheet.slug)}"
    used[base] += 1
    return base if used[base] == 1 else f"{base}-{used[base]}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "table"


def table(
    sheet: Sheet,
    rows: tuple[tuple[Entry, ...], ...],
    caption: str,
    label: str,
    notes: list[str],
) -> list[str]:
    columns = "".join("l" if column.words else "r" for column in sheet.columns)
    lines = [
        r"\begin{table}",
        r"  \centering",
        r"  \setlength{\belowcaptionskip}{6pt}",
        rf"  \caption{{{_caption(caption)}}}",
        rf"  \label{{{label}}}",
        r"  \small",
        r"  \setlength{\tabcolsep}{4pt}",
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"  \begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"    \toprule",
        *(f"    {line}" for line in _heads(sheet.columns)),
        r"    \midrule",
        *(f"    {line}" for line in _body(rows)),
        r"    \bottomrule",
        r"  \end{tabular}}",
    ]
    if notes:
        words = " ".join(escape_latex(note) for note in notes)
        lines += [
            r"  \par\smallskip",
            rf"  \begin{{minipage}}{{\linewidth}}\footnotesize {words}\end{{minipage}}",
        ]
    return [*lines, r"\end{table}"]


def _caption(text: str) -> str:
    """The text with the marks as they look in the table."""
    escaped = escape_latex(text)
    for mark, sign in MARKS.items():
        escaped = escaped.replace(escape_latex(sign), f"$^{{{SUPERSCRIPTS[mark]}}}$")
    return escaped


def _heads(columns: tuple[Column, ...]) -> list[str]:
    """Spanning headings with their rules, then the headings in two lines, then the images."""
    lines = []
    if any(column.span for column in columns):
        words, rules, at = [], [], 1
        for span, together in groupby(columns, key=lambda column: column.span):
            width = len(list(together))
            if span:
                words.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(span)}}}")
                rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
            else:
                words += [""] * width
            at += width
        lines += [_line(words), " ".join(rules)]
    heads = [
        column.head.partition(" ") if not column.words else (column.head, "", "")
        for column in columns
    ]
    for words in ([first for first, _, _ in heads], [rest for _, _, rest in heads]):
        if any(words):
            lines.append(_line([escape_latex(word) for word in words]))
    if any(column.n for column in columns):
        sizes = [_size(column.n) if column.n else "" for column in columns]
        lines.append(_line(sizes))
    return lines


def _size(n: str) -> str:
    """``50 of 1,400`` images: numbers in math, words in text."""
    first, of, whole = n.replace(",", "{,}").partition(" of ")
    return f"$n={first}$" + (f" of ${whole}$" if of else "")


def _body(rows: tuple[tuple[Entry, ...], ...]) -> list[str]:
    """A line a row, or two where many intervals in brackets would make the table too wide."""
    entries = [entry for row in rows for entry in row]
    wide = max(sum(bool(entry.interval) for entry in row) for row in rows) > ABREAST
    if not wide or any(entry.half for entry in entries):
        cells = [_set(column) for column in zip(*rows, strict=True)]
        return [_line(row) for row in zip(*cells, strict=True)]
    lines = []
    for row in rows:
        lines.append(_line([_emphasised(entry) for entry in row]))
        lines.append(_line([_behind(entry, "").strip() for entry in row]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _set(column: tuple[Entry, ...]) -> list[str]:
    """The entries of a column, numbers beneath numbers and what stands behind them likewise."""
    widest = max((e.sd or e.half for e in column), key=len)
    marks = [SUPERSCRIPTS[entry.mark] for entry in column if entry.mark]
    room = rf"\phantom{{$^{{{max(marks, key=len)}}}$}}" if marks else ""
    return [
        _emphasised(entry)
        + _behind(entry, widest)
        + (rf"\rlap{{$^{{{SUPERSCRIPTS[entry.mark]}}}$}}" if entry.mark else "")
        + room
        for entry in column
    ]


def _emphasised(entry: Entry) -> str:
    text = escape_latex(entry.text)
    if entry.best:
        return rf"\textbf{{{text}}}"
    return rf"\underline{{{text}}}" if entry.second else text


def _behind(entry: Entry, widest: str) -> str:
    """The deviation or interval, or the room of the ``widest`` that others in the column take."""
    if text := entry.sd or entry.half:
        padding = (
            rf"\phantom{{{'0' * (len(widest) - len(text))}}}" if len(text) < len(widest) else ""
        )
        return rf" $\pm$ {padding}{text}"
    if entry.interval:
        return rf" {{\footnotesize [{escape_latex(entry.interval)}]}}"
    return rf"\phantom{{ $\pm$ {widest}}}" if widest else ""
