"""A comparison as LaTeX: a ``table`` with booktabs rules for each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from lmdbench.comparison.compare import Comparison
from lmdbench.reporting.tables.escape import GLYPH_COMMAND, code_point, escape_latex, glyphs
from lmdbench.reporting.tables.layout import Column, Section, Table, TableCell, sections
from lmdbench.reporting.tables.words import MARKS, left_out

# Mark of a cell → the superscript that shows it, in math.
SUPERSCRIPTS = {"better": "+", "worse": "-", "equal": r"\approx"}
ABREAST = 3  # intervals in brackets, beside their numbers
ROWS = 45  # that fit a page; a longer table is set as several
MOST_NAMED = 20  # characters that a comment names
COLUMNS = 9  # that a reader can read on one; a wider table likewise


def latex(
    comparison: Comparison,
    percent: bool = True,
    *,
    spread: str = "interval",
    layout: str = "metrics",
    caption: str | None = None,
    label: str | None = None,
) -> str:
    """A ``table`` for each, to be included in a document that loads booktabs and graphicx.
    Signs that pdfTeX has no font for are named at the top.

    ``spread`` and ``layout`` as ``sections`` takes them. ``caption``: the first table's, instead of
    the one made of its title and legend. ``label``: of the first table, and the beginning of the
    others', instead of one made of data set and split.
    """
    lines: list[str] = []
    used: Counter[str] = Counter()
    for section in sections(comparison, percent, spread=spread, layout=layout):
        for number, table in enumerate(section.tables):
            for part, (page, rows) in enumerate(_pages(table)):
                first = not used
                name = _label(section, table, label, used)
                if part:
                    words = f"{_title(section, table)} (continued)."
                elif first and caption is not None:
                    words = caption
                else:
                    words = f"{_title(section, table)}. {_legend(table)}"
                notes = [*table.notes, *(section.notes if number == 0 else ())]
                lines += ["", *table_lines(page, rows, words, name, [] if part else notes)]
    if line := left_out(comparison):
        lines += ["", f"% {line}"]
    return "\n".join([*_head(glyphs("\n".join(lines))), *lines]) + "\n"


def _head(beyond: str) -> list[str]:
    """What the document needs; ``beyond``: characters that pdfTeX can't set."""
    lines = [r"% needs \usepackage{booktabs,graphicx}"]
    if not beyond:
        return lines
    named = ", ".join(f"{one} ({code_point(one)})" for one in beyond[:MOST_NAMED])
    more = f" and {len(beyond) - MOST_NAMED} more" if len(beyond) > MOST_NAMED else ""
    return [
        *lines,
        f"% pdfLaTeX has no font for {named}{more}: it prints their numbers, such as "
        f"{code_point(beyond[0])}.",
        r"% Use xelatex or lualatex, with \usepackage{fontspec} and a \setmainfont that has them.",
        GLYPH_COMMAND,
    ]


def _pages(table: Table) -> list[tuple[Table, tuple[tuple[TableCell, ...], ...]]]:
    """The table with columns that fit, and rows that do."""
    return [
        (page, page.rows[k : k + ROWS])
        for page in _narrow(table)
        for k in range(0, len(page.rows), ROWS)
    ]


def _narrow(table: Table) -> list[Table]:
    """Tables of at most ``COLUMNS`` columns, each beginning with the first one.

    Columns under one heading stay together where they can; one that would stand alone in a table
    of its own goes with those before.
    """
    room = COLUMNS - 1
    chosen: list[list[int]] = [[]]
    places = range(1, len(table.columns))
    for _, under in groupby(places, key=lambda k: table.columns[k].span or k):
        together = list(under)
        if len(chosen[-1]) + min(len(together), room) > room and together != [places[-1]]:
            chosen.append([])
        for k in together:
            if len(chosen[-1]) >= room and k != places[-1]:
                chosen.append([])
            chosen[-1].append(k)
    return [
        replace(
            table,
            columns=tuple(table.columns[k] for k in (0, *those)),
            rows=tuple(tuple(row[k] for k in (0, *those)) for row in table.rows),
        )
        for those in chosen
    ]


def _title(section: Section, table: Table) -> str:
    """A float stands alone, so it says of which data it is."""
    return f"{table.title}: {section.title}" if table.slug else section.title


def _legend(table: Table) -> str:
    if any(cell.half for row in table.rows for cell in row):
        return f"{table.legend} ± is half the interval, where its halves are equal."
    return table.legend


def _label(section: Section, table: Table, wanted: str | None, used: Counter[str]) -> str:
    """The name of a table for \\ref, each once."""
    base = f"tab:{_slug(section.slug)}" if wanted is None else wanted
    if table.slug and (wanted is None or used):
        base += f"-{_slug(table.slug)}"
    used[base] += 1
    return base if used[base] == 1 else f"{base}-{used[base]}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "table"


def table_lines(
    table: Table,
    rows: tuple[tuple[TableCell, ...], ...],
    caption: str,
    label: str,
    notes: list[str],
) -> list[str]:
    columns = "".join("l" if column.words else "r" for column in table.columns)
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
        *(f"    {line}" for line in _heads(table.columns)),
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
    if any(column.brackets for column in columns):
        words = [
            rf"{{\footnotesize [{escape_latex(c.brackets)}]}}" if c.brackets else ""
            for c in columns
        ]
        lines.append(_line(words))
    return lines


def _size(n: str) -> str:
    """``50 of 1,400`` images: numbers in math, words in text."""
    first, of, whole = n.replace(",", "{,}").partition(" of ")
    return f"$n={first}$" + (f" of ${whole}$" if of else "")


def _body(rows: tuple[tuple[TableCell, ...], ...]) -> list[str]:
    """A line a row, or two where many intervals in brackets would make the table too wide."""
    everything = [cell for row in rows for cell in row]
    wide = max(sum(bool(cell.interval) for cell in row) for row in rows) > ABREAST
    if not wide or any(cell.half for cell in everything):
        cells = [_set(column) for column in zip(*rows, strict=True)]
        return [_line(row) for row in zip(*cells, strict=True)]
    lines = []
    for row in rows:
        lines.append(_line([_emphasised(cell) for cell in row]))
        lines.append(_line([_behind(cell, "").strip() for cell in row]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _set(column: tuple[TableCell, ...]) -> list[str]:
    """The cells of a column, numbers beneath numbers and what stands behind them likewise."""
    widest = max((e.sd or e.half for e in column), key=len)
    marks = [SUPERSCRIPTS[cell.mark] for cell in column if cell.mark]
    room = rf"\phantom{{$^{{{max(marks, key=len)}}}$}}" if marks else ""
    return [
        _emphasised(cell)
        + _behind(cell, widest)
        + (rf"\rlap{{$^{{{SUPERSCRIPTS[cell.mark]}}}$}}" if cell.mark else "")
        + room
        for cell in column
    ]


def _emphasised(cell: TableCell) -> str:
    text = escape_latex(cell.text)
    if cell.best:
        return rf"\textbf{{{text}}}"
    return rf"\underline{{{text}}}" if cell.second else text


def _behind(cell: TableCell, widest: str) -> str:
    """The deviation or interval, or the room of the ``widest`` that others in the column take."""
    if text := cell.sd or cell.half:
        padding = (
            rf"\phantom{{{'0' * (len(widest) - len(text))}}}" if len(text) < len(widest) else ""
        )
        return rf" $\pm$ {padding}{text}"
    if cell.interval:
        return rf" {{\footnotesize [{escape_latex(cell.interval)}]}}"
    return rf"\phantom{{ $\pm$ {widest}}}" if widest else ""
