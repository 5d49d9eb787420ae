"""A comparison as text: for the terminal, Markdown, LaTeX, CSV and JSON.

CSV and JSON hold shares between 0 and 1 in full precision; the others round for people.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lmdbench.evaluation.metrics import TITLES
from lmdbench.reporting.comparison import (
    Cell,
    Comparison,
    ScoredBlock,
    ScoredRow,
    column_title,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

MISSING = "–"
TIGHT = (0, 1, 0, 0)  # padding of a rich table's cells


def number(value: float | None, percent: bool = True) -> str:
    """A share in percent with one decimal, or as a fraction with three."""
    if value is None:
        return MISSING
    return f"{100 * value:.1f}" if percent else f"{value:.3f}"


def scores_table(
    scores: Mapping[str, Mapping[str, float | None]],
    images: Mapping[str, Mapping[str, int]],
    reasons: Mapping[str, Mapping[str, str]] | None = None,
    *,
    percent: bool = True,
) -> Table:
    """The scores of one run as a rich table: a line a metric, a column a part.

    ``scores``: part → metric → value, as ``metrics.scores`` gives them. ``images``: part → group →
    images, with ``all``, as ``metrics.images_per_group`` gives them. ``reasons``: part → metric →
    why it is missing, as ``metrics.missing`` gives them, shown beneath.
    """
    from rich.table import Table
    from rich.text import Text

    unit = "%" if percent else "fraction"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(Text(f"score ({unit})"), no_wrap=True)
    for part in scores:
        table.add_column(Text(part), justify="right", no_wrap=True)
        table.add_column(Text("images"), justify="right", no_wrap=True, style="dim")
    for name in dict.fromkeys(name for values in scores.values() for name in values):
        cells = [Text(column_title(name))]
        for part, values in scores.items():
            counted = images.get(part, {})
            n = counted.get("all" if name in TITLES else name)
            cells += [Text(number(values.get(name), percent)), Text("" if n is None else f"{n:,}")]
        table.add_row(*cells)
    gaps: dict[str, list[str]] = {}
    for part, by_name in (reasons or {}).items():
        for name, reason in by_name.items():
            if name in scores.get(part, {}):
                gaps.setdefault(f"{part}: {reason}", []).append(column_title(name))
    if gaps:
        lines = (f"{MISSING} in {', '.join(names)}, {why}" for why, names in gaps.items())
        table.caption = Text("\n".join(lines))
        table.caption_justify = "left"
    return table


def legend(block: ScoredBlock, percent: bool, best: str) -> str:
    """What the numbers of a table are. ``best``: how the best are marked."""
    repeated = any(len(row.row.seeds) > 1 for row in block.rows)
    what = "Mean ± standard deviation over seeds" if repeated else "Scores"
    marked = any(cell.best for row in block.rows for cell in row.cells.values())
    unit = ", in percent" if percent else ""
    return f"{what}{unit}; n: images.{f' Best of a column {best}.' if marked else ''}"


def left_out(comparison: Comparison) -> str:
    """A line on unfinished runs, empty if there are none."""
    n = comparison.unfinished
    return f"{n} unfinished run{'s' * (n != 1)} left out." if n else ""


# Terminal


def print_comparison(comparison: Comparison, console: Console, percent: bool = True) -> None:
    """Print a table for each block, as wide as the console at most."""
    from rich.text import Text

    for block in comparison.blocks:
        console.print(Text(block.title, style="bold"), soft_wrap=True)
        table = _terminal_table(block, console, percent)
        if _width(table, console) > console.width:
            table.padding = TIGHT
        if _width(table, console) > console.width:
            table = _terminal_table(block, console, percent, stacked=True)
        console.print(table)
        best = "in bold" if console.is_terminal else "marked *"
        for note in [legend(block, percent, best), *block.notes]:
            console.print(Text(note, style="dim"), soft_wrap=not console.is_terminal)
        console.print()
    if line := left_out(comparison):
        console.print(Text(line))


def _width(table: Table, console: Console) -> int:
    """The columns a table takes when nothing is wrapped."""
    return console.measure(table, options=console.options.update(width=100_000)).maximum


def _terminal_table(
    block: ScoredBlock, console: Console, percent: bool, *, stacked: bool = False
) -> Table:
    """``stacked`` puts the deviation beneath the mean, for narrow terminals."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    if stacked:
        table.padding = TIGHT
    table.add_column("Method", overflow="fold")
    columns = []
    for name in block.metrics:
        cells = [row.cells[name] for row in block.rows]
        texts = _stacked(cells, console, percent) if stacked else _aligned(cells, console, percent)
        head = [*column_title(name).split(" ", 1), f"n={_n(block, name):,}"]
        width = max(
            len(line) for text in [*texts, Text("\n".join(head))] for line in text.plain.split("\n")
        )
        for text in texts:
            if not stacked:
                text.pad_left(width - len(text))
        table.add_column(
            Text("\n".join(line.rjust(width) for line in head)),
            justify="right" if stacked else "left",
            no_wrap=True,
            overflow="fold",
        )
        columns.append(texts)
    table.add_column("Seeds", justify="right", no_wrap=True)
    for row, cells_of_row in zip(block.rows, zip(*columns, strict=True), strict=True):
        table.add_row(Text(row.row.label), *cells_of_row, str(len(row.row.seeds)))
    return table


def _mean_text(cell: Cell, console: Console, percent: bool) -> Text:
    """The mean, marked if it is the best: bold, or a star where nothing is bold."""
    from rich.text import Text

    if not cell.best:
        return Text(number(cell.mean, percent))
    star = "" if console.is_terminal else "*"
    return Text.assemble((star + number(cell.mean, percent), "bold"))


def _stacked(cells: Sequence[Cell], console: Console, percent: bool) -> list[Text]:
    texts = [_mean_text(cell, console, percent) for cell in cells]
    for text, cell in zip(texts, cells, strict=True):
        if cell.sd is not None:
            text.append(f"\n±{number(cell.sd, percent)}")
    return texts


def _aligned(cells: Sequence[Cell], console: Console, percent: bool) -> list[Text]:
    """Means beneath means, deviations beneath deviations."""
    deviations = ["" if cell.sd is None else number(cell.sd, percent) for cell in cells]
    width = max(len(deviation) for deviation in deviations)
    texts = [_mean_text(cell, console, percent) for cell in cells]
    for text, deviation in zip(texts, deviations, strict=True):
        if deviation:
            text.append(f" ± {deviation:>{width}}")
        elif width:
            text.append(" " * (3 + width))
    return texts


def _n(block: ScoredBlock, name: str) -> int:
    return block.rows[0].cells[name].n


# Markdown and LaTeX


def markdown(comparison: Comparison, percent: bool = True) -> str:
    """A heading, a table in GitHub's form and a list of notes for each block."""
    lines = []
    for block in comparison.blocks:
        header = ["Method", *(f"{column_title(m)} (n = {_n(block, m):,})" for m in block.metrics)]
        lines += [f"### {escape_markdown(block.title)}", ""]
        lines.append(_markdown_row([escape_markdown(word) for word in [*header, "Seeds"]]))
        lines.append(_markdown_row(["---", *("---:" for _ in block.metrics), "---:"]))
        for row in block.rows:
            cells = [_with_sd(row.cells[m], percent, "**{}**".format, " ± ") for m in block.metrics]
            label = escape_markdown(row.row.label)
            lines.append(_markdown_row([label, *cells, str(len(row.row.seeds))]))
        notes = [legend(block, percent, "in bold"), *block.notes]
        lines += ["", *(f"- {escape_markdown(note)}" for note in notes), ""]
    if line := left_out(comparison):
        lines += [escape_markdown(line), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape_markdown(text: str) -> str:
    """Text as GitHub's Markdown shows it literally, on one line, also inside a table."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|~#$])", r"\\\1", one_line)


def _with_sd(cell: Cell, percent: bool, bold: Callable[[str], str], between: str) -> str:
    text = number(cell.mean, percent)
    if cell.best:
        text = bold(text)
    return text if cell.sd is None else text + between + number(cell.sd, percent)


# Character → what LaTeX wants for it.
LATEX = {
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
    '"': "''",
    "[": "{[}",  # or a row that begins with it is read as an option of the line break before
    "]": "{]}",
    "–": "--",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "−": "$-$",
    "←": r"$\leftarrow$",
    "τ": r"$\tau$",
}


def escape_latex(text: str) -> str:
    """Text as LaTeX sets it literally."""
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))


def latex(comparison: Comparison, percent: bool = True) -> str:
    """A ``table`` with booktabs rules for each block."""
    lines = [r"% needs \usepackage{booktabs,graphicx}"]
    used: Counter[str] = Counter()
    for block in comparison.blocks:
        setting = block.block.setting
        name = f"{setting['results_name']}-{setting['split_label']}".lower()
        label = re.sub(r"[^a-z0-9]+", "-", name)
        used[label] += 1
        if used[label] > 1:
            label += f"-{used[label]}"
        titles = [column_title(name).partition(" ") for name in block.metrics]
        heads = [
            ["Method", *(escape_latex(first) for first, _, _ in titles), "Seeds"],
            ["", *(escape_latex(rest) for _, _, rest in titles), ""],
            ["", *(f"$n={_n(block, name)}$" for name in block.metrics), ""],
        ]
        caption = f"{block.title}. {legend(block, percent, 'in bold')}"
        lines += [
            "",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape_latex(caption)}}}",
            rf"  \label{{tab:{label}}}",
            r"  \small",
            r"  \setlength{\tabcolsep}{4pt}",
            r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"  \begin{{tabular}}{{l{'r' * (len(block.metrics) + 1)}}}",
            r"    \toprule",
            *(f"    {' & '.join(head)} \\\\" for head in heads),
            r"    \midrule",
        ]
        for row in block.rows:
            cells = [
                _with_sd(row.cells[m], percent, r"\textbf{{{}}}".format, r" $\pm$ ")
                for m in block.metrics
            ]
            cells = [cell.replace(MISSING, "--") for cell in cells]
            words = [escape_latex(row.row.label), *cells, str(len(row.row.seeds))]
            lines.append(f"    {' & '.join(words)} \\\\")
        lines += [r"    \bottomrule", r"  \end{tabular}}", r"  \par\smallskip"]
        notes = " ".join(escape_latex(note) for note in block.notes)
        lines += [rf"  \begin{{minipage}}{{\linewidth}}\footnotesize {notes}\end{{minipage}}"]
        lines.append(r"\end{table}")
    if line := left_out(comparison):
        lines += ["", f"% {line}"]
    return "\n".join(lines) + "\n"


# Data


def csv_text(comparison: Comparison) -> str:
    """A line for each table, row and metric, in full precision."""
    settings = dict.fromkeys(
        name
        for block in comparison.blocks
        for name in block.block.setting
        if name not in ("results_name", "split_label", "groups", "synthetic")
    )
    records = [
        {
            "results_name": block.block.setting["results_name"],
            "split_label": block.block.setting["split_label"],
            **{name: block.block.setting.get(name) for name in settings},
            "partial": block.partial is not None,
            "synthetic": block.synthetic,
            "part": block.part,
            "method": row.row.method,
            "label": row.row.label,
            "metric": name,
            "mean": cell.mean,
            "sd": cell.sd,
            "n_seeds": len(row.row.seeds),
            "seeds": " ".join(str(seed) for seed in row.row.seeds),
            "n_images": cell.n,
            "dropped": block.dropped,
            "best": cell.best,
            "reason": cell.reason,
        }
        for block in comparison.blocks
        for row in block.rows
        for name, cell in row.cells.items()
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def json_text(comparison: Comparison) -> str:
    """Everything: tables, rows, seeds, per-class recalls, notes."""
    content = {
        "results": str(comparison.results.folder),
        "part": comparison.part,
        "unfinished": comparison.unfinished,
        "blocks": [_block_record(block) for block in comparison.blocks],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _block_record(block: ScoredBlock) -> dict[str, Any]:
    record = block.block.record
    return {
        "title": block.title,
        **block.block.setting,
        "partial": block.partial,
        "dropped": block.dropped,
        "classes": record["classes"],
        "class_counts": record["class_counts"],
        "images": block.images,
        "metrics": list(block.metrics),
        "rows": [_row_record(row) for row in block.rows],
        "notes": block.notes,
    }


def _row_record(scored: ScoredRow) -> dict[str, Any]:
    row = scored.row
    return {
        "label": row.label,
        "chain": [
            {"method": link.method, "version": link.version, "settings": link.settings}
            for link in row.chain
        ],
        "seeds": row.seeds,
        "runs": [
            {"seed": run.seed, "id": member.id, "directory": str(member.directory)}
            for run in row.runs
            for member in run.members
        ],
        "scores": {
            name: {**_cell_record(cell), "best": cell.best} for name, cell in scored.cells.items()
        },
        "recalls": {name: _cell_record(cell) for name, cell in scored.recalls.items()},
        "notes": list(row.notes),
    }


def _cell_record(cell: Cell) -> dict[str, Any]:
    return {
        "mean": cell.mean,
        "sd": cell.sd,
        "n": cell.n,
        "by_seed": list(cell.values),
        "reason": cell.reason or None,
    }
