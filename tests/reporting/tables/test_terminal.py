"""Tables on the terminal: of a comparison, and at the end of a run."""

import io
import re

import pytest
from rich.console import Console

from lmdbench.comparison.compare import Comparison
from lmdbench.reporting import tables


def terminal(comparison: Comparison, width: int, *, is_terminal: bool) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=is_terminal)
    tables.print_comparison(comparison, console)
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def expected(comparison: Comparison, label: str, metric: str) -> str:
    (row,) = [row for row in comparison.tables[0].rows if row.label == label]
    cell = row.cells[metric]
    assert cell.mean is not None
    assert cell.estimate is not None
    return f"{100 * cell.mean:.1f} [{100 * cell.estimate.low:.1f}, {100 * cell.estimate.high:.1f}]"


def test_off_a_terminal_the_table_is_plain_and_never_wrapped(two: Comparison) -> None:
    text = terminal(two, 100_000, is_terminal=False)
    assert "\x1b" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("lmd")]
    squeezed = re.sub(r"\s+", " ", line)
    assert squeezed.startswith("lmd (rounds=20) ")
    assert f"*{expected(two, 'lmd (rounds=20)', 'balanced_accuracy')}" in squeezed
    assert squeezed.rstrip().endswith(" 3")
    assert "Best of a column marked *." in text
    assert "n=50" in text
    assert "n=2 " in text
    assert "1 unfinished run left out." in text
    assert text.count("SYNTHETIC DATA") == text.count("PARTIAL DATA") == 4


def test_intervals_end_beneath_intervals(two: Comparison) -> None:
    scores = terminal(two, 100_000, is_terminal=False).split("Mean over")[0].splitlines()
    rows = [line for line in scores if line.startswith(("ce", "lmd"))]
    ends = [[at for at, sign in enumerate(line) if sign == "]"] for line in rows]
    assert len(ends) == 2
    assert ends[0] == ends[1]
    assert len(ends[0]) == 6  # macro F1 has none on a class of two images


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_it_fits_a_terminal(two: Comparison, width: int) -> None:
    text = terminal(two, width, is_terminal=True)
    assert max(map(len, plain(text).splitlines())) <= width
    assert "…" not in text
    for number in ("lmd", *expected(two, "lmd (rounds=20)", "head").split(" ", 1)):
        assert number in plain(text)
    best = expected(two, "lmd (rounds=20)", "macro_auroc").split(" ")[0]
    assert re.search(rf"\x1b\[1m *{best}", text)


def test_columns_that_do_not_fit_follow_beneath_with_the_methods_again(two: Comparison) -> None:
    narrow = plain(terminal(two, 80, is_terminal=True)).split("Mean over")[0]
    wide = plain(terminal(two, 300, is_terminal=True)).split("Mean over")[0]
    assert wide.count("lmd (rounds=20)") == 1
    assert narrow.count("lmd (rounds=20)") > 1
    assert "Tail" in narrow


# One run


def test_scores_of_one_run() -> None:
    table = tables.scores_table(
        {
            "validation": {"balanced_accuracy": 0.5, "tail": None, "nll": 0.7},
            "test": {"balanced_accuracy": 0.12345, "tail": 1.0, "nll": 1.2345},
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
    # No percent makes sense of it.
    assert lines[3] == ["NLL", "(test", "prior)", "0.700", "1,234", "1.234", "50"]
    caption = " ".join(word for line in lines[4:] for word in line)
    assert caption == "– in Tail, validation: no class of the group has images"
