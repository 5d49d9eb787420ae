"""A comparison as HTML: tables to be put in a page, and a page of their own."""

from __future__ import annotations

from itertools import groupby

from lmdbench.comparison.compare import Comparison
from lmdbench.reporting.tables.escape import escape_html
from lmdbench.reporting.tables.layout import Column, Table, TableCell, sections
from lmdbench.reporting.tables.words import MARKS, left_out

# Of a page of its own. Colours stand against their background by 7 to 1 or more.
CSS = """
:root { color-scheme: light dark; --text: #1a1a1a; --back: #fff; --line: #8a8a8a; --soft: #4a4a4a;
  --stripe: #f4f4f4; }
@media (prefers-color-scheme: dark) { :root { --text: #ececec; --back: #16181b; --line: #777;
  --soft: #bdbdbd; --stripe: #1f2226; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 75rem; font: 1rem/1.45 system-ui, sans-serif;
  color: var(--text); background: var(--back); }
.scroll { overflow-x: auto; margin: 1rem 0 .5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; border-top: 2px solid;
  border-bottom: 2px solid; }
caption { text-align: left; padding-bottom: .4rem; font-weight: 600; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; vertical-align: baseline; }
th { font-weight: 600; }
.words { text-align: left; }
thead { border-bottom: 1px solid; }
th[scope=colgroup] { text-align: center; border-bottom: 1px solid var(--line); }
tbody th { font-weight: 400; }
tbody tr:nth-child(even) > * { background: var(--stripe); }
tr > :first-child { position: sticky; left: 0; background: var(--back); }
thead tr + tr > :first-child { position: static; }
.n, .behind { color: var(--soft); font-weight: 400; font-size: .85em; }
.n, .behind { display: block; }
.second { text-decoration: underline; text-underline-offset: .2em; }
ul.notes { color: var(--soft); font-size: .9rem; padding-left: 1.2rem; }
""".strip()


def html_tables(
    comparison: Comparison,
    percent: bool = True,
    *,
    spread: str = "interval",
    layout: str = "metrics",
    level: int | None = 2,
) -> str:
    """A section for each table of the comparison, with a heading of this ``level`` (None: without
    one), for a page.

    Classes to style: ``scroll`` around a table, ``words`` on cells that hold no numbers, ``n``,
    ``behind`` (deviation or interval), ``second``, ``mark``, ``notes``. The best is ``strong``.
    ``spread`` and ``layout`` as ``sections`` takes them.
    """
    lines = []
    for section in sections(comparison, percent, spread=spread, layout=layout):
        lines.append("<section>")
        if level is not None:
            lines.append(f"<h{level}>{escape_html(section.title)}</h{level}>")
        for number, table in enumerate(section.tables):
            notes = [table.legend, *table.notes, *(section.notes if number == 0 else ())]
            lines += [*_table(table), '<ul class="notes">']
            lines += [f"<li>{escape_html(note)}</li>" for note in notes]
            lines.append("</ul>")
        lines.append("</section>")
    if line := left_out(comparison):
        lines.append(f"<p>{escape_html(line)}</p>")
    return "\n".join(lines) + "\n"


def html(
    comparison: Comparison,
    percent: bool = True,
    *,
    spread: str = "interval",
    layout: str = "metrics",
) -> str:
    """A whole page, light or dark as the reader prefers, that needs nothing from elsewhere."""
    sets = dict.fromkeys(str(b.setting["results_name"]) for b in comparison.tables)
    title = escape_html(f"Comparison: {', '.join(sets)}")
    tables = html_tables(comparison, percent, spread=spread, layout=layout)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{CSS}\n</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{title}</h1>\n{tables}</main>\n</body>\n</html>\n"
    )


def _table(table: Table) -> list[str]:
    caption = escape_html(table.title)
    return [
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">',
        f"<table>\n<caption>{caption}</caption>",
        *_head(table.columns),
        "<tbody>",
        *(f"<tr>{_row(table.columns, row)}</tr>" for row in table.rows),
        "</tbody>\n</table>\n</div>",
    ]


def _head(columns: tuple[Column, ...]) -> list[str]:
    spanned = any(column.span for column in columns)
    upper, lower = "", ""
    for span, together in groupby(columns, key=lambda column: column.span):
        beneath = list(together)
        if span:
            upper += f'<th scope="colgroup" colspan="{len(beneath)}">{escape_html(span)}</th>'
        for column in beneath:
            tall = ' rowspan="2"' if spanned and not span else ""
            words = ' class="words"' if column.words else ""
            n = f'<span class="n">n = {escape_html(column.n)}</span>' if column.n else ""
            if column.brackets:
                n += f'<span class="behind">[{escape_html(column.brackets)}]</span>'
            head = f'<th scope="col"{tall}{words}>{escape_html(column.head)}{n}</th>'
            if tall:
                upper += head
            else:
                lower += head
    rows = [f"<tr>{cells}</tr>" for cells in (upper, lower) if cells]
    return ["<thead>", *rows, "</thead>"]


def _row(columns: tuple[Column, ...], row: tuple[TableCell, ...]) -> str:
    cells = []
    for k, (column, cell) in enumerate(zip(columns, row, strict=True)):
        words = ' class="words"' if column.words else ""
        tag, scope = ("th", ' scope="row"') if k == 0 else ("td", "")
        cells.append(f"<{tag}{scope}{words}>{_cell(cell)}</{tag}>")
    return "".join(cells)


def _cell(cell: TableCell) -> str:
    text = escape_html(cell.text)
    if cell.best:
        text = f"<strong>{text}</strong>"
    elif cell.second:
        text = f'<span class="second">{text}</span>'
    behind = f"± {cell.sd}" if cell.sd else f"[{cell.interval}]" if cell.interval else ""
    if cell.mark:
        text += f' <span class="mark {cell.mark}">{MARKS[cell.mark]}</span>'
    return f'{text} <span class="behind">{escape_html(behind)}</span>' if behind else text
