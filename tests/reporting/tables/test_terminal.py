"""Tables on the terminal: of a comparison, and at the end of a run."""

import io
import re

import pytest
from rich.console import Console

from lmdbench.reporting import tables
from lmdbench.reporting.comparison import Comparison


def terminal(comparison: Comparison, width: int, *, is_terminal: bool) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=is_terminal)
    tables.print_comparison(comparison, console)
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def expected(comparison: Comparison, label: str, metric: str) -> str:
    (row,) = [row for row in comparison.blocks[0].rows if row.row.label == label]
    cell = row.cells[metric]
    assert cell.mean is not None
    sd = "" if cell.sd is None else f" ± {100 * cell.sd:.1f}"
    return f"{100 * cell.mean:.1f}{sd}"


def test_off_a_terminal_the_table_is_plain_and_never_wrapped(two: Comparison) -> None:
    text = terminal(two, 100_000, is_terminal=False)
    assert "\x1b" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("lmd")]
    squeezed = re.sub(r"\s+", " ", line)
    assert squeezed.startswith("lmd (rounds=20) ")
    assert f"*{expected(two, 'lmd (rounds=20)', 'balanced_accuracy')}" in squeezed
    assert squeezed.rstrip().endswith(" 3")
    (single,) = [line for line in text.splitlines() if line.startswith("focal ")]
    assert "±" not in single
    assert "Best of a column marked *." in text
    assert "n=50" in text
    assert "n=2 " in text
    assert "1 unfinished run left out." in text
    assert text.count("SYNTHETIC DATA") == text.count("PARTIAL DATA") == 4


def test_means_stand_beneath_means(two: Comparison) -> None:
    lines = terminal(two, 100_000, is_terminal=False).splitlines()
    with_deviation = [line for line in lines if line.startswith(("ce", "lmd")) and "±" in line]
    signs = [[at for at, sign in enumerate(line) if sign == "±"] for line in with_deviation]
    assert len(signs) == 2
    assert signs[0] == signs[1]
    assert len(signs[0]) == 7


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_it_fits_a_terminal(two: Comparison, width: int) -> None:
    text = terminal(two, width, is_terminal=True)
    assert max(map(len, plain(text).splitlines())) <= width
    assert "…" not in text
    for number in ("lmd", *expected(two, "lmd (rounds=20)", "head").split(" ± ")):
        assert number in plain(text)
    best = expected(two, "lmd (rounds=20)", "macro_auroc").split(" ± ")[0]
    assert re.search(rf"\x1b\[1m *{best}", text)


def test_only_a_narrow_terminal_stacks_the_deviation(two: Comparison) -> None:
    assert " ± " in terminal(two, 120, is_terminal=True).split("Mean")[0]
    assert " ± " not in terminal(two, 80, is_terminal=True).split("Mean")[0]


# One run


def test_scores_of_one_run() -> None:
    table = tables.scores_table(
        {
            "validation": {"balanced_accuracy": 0.5, "tail": None},
            "test": {"balanced_accuracy": 0.12345, "tail": 1.0},
        },
        {"validation": {"all": 1234, "tail": 0}, "test": {"all": 50, "tail": 2}},
        {"validation": {"tail": "no class of the group has images"}},
    )
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    text = console.file
    assert isinstance(text, io.StringIO)
    lines = [line.split() for line in text.getvalue().splitlines()]
    assert lines[0] == ["score", "(%)", "validation", "images", "test", "images"]
    assert lines[1] == ["Balanced", "accuracy", "50.0", "1,234", "12.3", "50"]
    assert lines[2] == ["Tail", "–", "0", "100.0", "2"]
    caption = " ".join(word for line in lines[3:] for word in line)
    assert caption == "– in Tail, validation: no class of the group has images"
