"""Every format of a comparison, and the table at the end of a run."""

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lmdbench.reporting import tables
from lmdbench.reporting.comparison import Comparison, compare
from lmdbench.reporting.results import read_results

FakeRun = Callable[..., Path]

# ASCII, spaces of other kinds, and signs of our own.
TEXT = "".join(map(chr, range(128))) + "\u00a0\u2028é–…±·×−←τ"

# Names that need care in LaTeX and Markdown.
AWKWARD = ["nv_1", "mel & co", "50% {a}", "x|y<z>#$^~\\"]
AWKWARD_GROUPS = {"head": AWKWARD[:1], "medium": AWKWARD[1:3], "tail": AWKWARD[3:], "a_b|c": []}


@pytest.fixture
def two(tmp_path: Path, fake_run: FakeRun) -> Comparison:
    """ce and lmd with three seeds, focal with one, on partial data; another table for resnet50."""
    partial = {"missing": 1, "total": 143, "dropped_classes": ["vasc_x"]}
    record = {"partial": partial, "synthetic": True}
    for seed in range(3):
        fake_run("ce", seed, skill=0.5, record=record)
        fake_run("lmd", seed, skill=2.0, settings={"rounds": 20}, record=record)
    fake_run("focal", 0, skill=1.0, record=record)
    fake_run("ce", 0, backbone="resnet50", record=record)
    fake_run("crt", 0, state=None)
    return compare(read_results(tmp_path / "results"))


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


# Terminal


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


# Markdown


def test_markdown_is_a_valid_table(two: Comparison) -> None:
    text = tables.markdown(two)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert re.fullmatch(r"\| --- \|( ---: \|){8}", rows[1])
    best = expected(two, "lmd (rounds=20)", "tail").split(" ± ")
    assert f"**{best[0]}** ± {best[1]}" in text
    assert "| Tail (n = 2) |" in text
    assert text.startswith("### skin · plain-if100 · test images · resnet18 · PARTIAL DATA")
    assert "- PARTIAL DATA: 142 of 143 images. Dropped classes: vasc\\_x." in text
    assert "- SYNTHETIC DATA" in text


def test_a_table_of_one_row_has_nothing_bold(two: Comparison) -> None:
    text = tables.markdown(two)
    assert "**" not in text[text.index("resnet50") :]


def test_fractions(two: Comparison) -> None:
    (row, *_) = two.blocks[0].rows
    mean = row.cells["accuracy"].mean
    text = tables.markdown(two, percent=False)
    assert f" {mean:.3f} ± " in text
    assert "in percent" not in text


@given(st.text(alphabet=TEXT))
def test_markdown_cells_hold_no_bare_bar_or_line_break(text: str) -> None:
    escaped = tables.escape_markdown(text)
    assert len(escaped.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(\\\\)*\|", escaped)
    assert re.sub(r"\\([\\`*_\[\]<>|~#$])", r"\1", escaped) == " ".join(text.split())


# LaTeX


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
    escaped = tables.escape_latex(text)
    assert is_balanced(escaped)
    for command in set(tables.LATEX.values()):
        escaped = escaped.replace(command, "")
    assert not set(escaped) & set(r"\{}&%#_~^<>|")


def test_latex_table(two: Comparison) -> None:
    text = tables.latex(two)
    assert is_balanced(text)
    for name in ("table", "tabular", "minipage"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 2
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(rf"\{rule}") == 2
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {line.count("&") for line in rows} == {8}
    best = expected(two, "lmd (rounds=20)", "head").split(" ± ")
    assert rf"\textbf{{{best[0]}}} $\pm$ {best[1]}" in text
    assert re.findall(r"\\label\{(.*?)\}", text) == [
        "tab:skin-plain-if100",
        "tab:skin-plain-if100-2",
    ]
    captions = re.findall(r"\\caption\{(.*)\}", text)
    assert len(captions) == 2
    assert all("PARTIAL DATA" in caption and "SYNTHETIC DATA" in caption for caption in captions)
    assert r"vasc\_x" in text
    assert r"IMAGENET1K\_V1" in text
    assert text.endswith("% 1 unfinished run left out.\n")


@pytest.fixture
def awkward(tmp_path: Path, fake_run: FakeRun) -> Comparison:
    """A comparison full of names that could break a format."""
    record: dict[str, Any] = {"classes": AWKWARD, "groups": AWKWARD_GROUPS, "synthetic": True}
    fake_run("ce", record=record, dataset="my_data&co")
    fake_run("[odd] 100%_|", settings={"a_b": "x#y"}, record=record, dataset="my_data&co")
    fake_run("τ-norm", record=record, dataset="my_data&co", test=([0, 1], [[1.0, 0, 0, 0]] * 2))
    return compare(read_results(tmp_path / "results"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(two: Comparison, awkward: Comparison, tmp_path: Path) -> None:
    document = [
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}",
        tables.latex(two),
        tables.latex(awkward),
        r"\end{document}",
    ]
    (tmp_path / "doc.tex").write_text("\n".join(document))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "doc.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    if ".sty' not found" in done.stdout:
        pytest.skip("booktabs or graphicx is not installed")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_awkward_names_come_through_every_format(awkward: Comparison) -> None:
    label = "[odd] 100%_| (a_b=x#y)"
    text = tables.latex(awkward)
    assert is_balanced(text)
    assert len({line.count("&") - line.count(r"\&") for line in _table_rows(text)}) == 1
    rows = [line for line in tables.markdown(awkward).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
    assert label in {record["label"] for record in csv_records(awkward)}
    assert label in terminal(awkward, 100_000, is_terminal=False)
    (block, *_) = json.loads(tables.json_text(awkward))["blocks"]
    assert block["classes"] == AWKWARD


def _table_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.endswith(r" \\")]


# Data


def csv_records(comparison: Comparison) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tables.csv_text(comparison))))


def test_csv_holds_a_line_a_metric_in_full_precision(two: Comparison) -> None:
    records = csv_records(two)
    assert len(records) == (3 + 1) * 7
    for block in two.blocks:
        for row in block.rows:
            for name, cell in row.cells.items():
                (record,) = [
                    r
                    for r in records
                    if (r["backbone"], r["label"], r["metric"])
                    == (block.block.setting["backbone"], row.row.label, name)
                ]
                assert float(record["mean"]) == cell.mean
                assert record["sd"] == ("" if cell.sd is None else repr(cell.sd))
                assert int(record["n_images"]) == cell.n
                assert int(record["n_seeds"]) == len(row.row.seeds)
                assert record["best"] == str(cell.best)
                assert (record["partial"], record["synthetic"]) == ("True", "True")
                assert record["split_fingerprint"] == "f" * 64


def test_json_holds_everything(two: Comparison) -> None:
    content = json.loads(tables.json_text(two))
    assert content["unfinished"] == 1
    (first, second) = content["blocks"]
    assert (first["backbone"], second["backbone"]) == ("resnet18", "resnet50")
    assert first["partial"]["dropped_classes"] == ["vasc_x"]
    assert first["synthetic"] is True
    assert first["images"]["test"] == {"all": 50, "head": 30, "medium": 18, "tail": 2}
    (lmd,) = [row for row in first["rows"] if row["label"] == "lmd (rounds=20)"]
    assert lmd["seeds"] == [0, 1, 2]
    assert lmd["chain"][0]["settings"]["rounds"] == 20
    (row,) = [row for row in two.blocks[0].rows if row.row.label == "lmd (rounds=20)"]
    assert lmd["scores"]["tail"]["mean"] == row.cells["tail"].mean
    assert lmd["scores"]["tail"]["by_seed"] == list(row.cells["tail"].values)
    assert lmd["scores"]["tail"].pop("best") is True
    assert lmd["recalls"]["df"] == lmd["scores"]["tail"]  # the only class of the tail
    assert all(Path(run["directory"], "run.json").exists() for run in lmd["runs"])


def test_missing_values_are_empty_with_their_reason(tmp_path: Path, fake_run: FakeRun) -> None:
    fake_run("ce", test=([0, 1], [[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    comparison = compare(read_results(tmp_path / "results"))
    (record,) = [r for r in csv_records(comparison) if r["metric"] == "tail"]
    assert (record["mean"], record["sd"], record["n_images"]) == ("", "", "0")
    assert record["reason"] == "no class of the group has images"
    (block,) = json.loads(tables.json_text(comparison))["blocks"]
    assert block["rows"][0]["scores"]["tail"]["mean"] is None
    note = "in Tail: no class of the group has images."
    assert f"– {note}" in terminal(comparison, 100_000, is_terminal=False)
    assert f"- – {note}" in tables.markdown(comparison)
    assert f"-- {note}" in tables.latex(comparison)
    assert " & -- & " in tables.latex(comparison)


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
