"""Tables for papers, and that a real LaTeX sets them."""

import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lmdbench.comparison.compare import Comparison, compare
from lmdbench.comparison.results import read_results
from lmdbench.reporting.tables import SPREADS, latex
from lmdbench.reporting.tables.latex import COLUMNS, ROWS, table_lines
from lmdbench.reporting.tables.layout import Column, Table, TableCell


def rows(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.endswith(r" \\")]


def columns(row: str) -> int:
    spans = re.findall(r"\\multicolumn\{(\d+)\}", row)
    return len(re.findall(r"(?<!\\)&", row)) + 1 + sum(int(span) - 1 for span in spans)


def of_label(text: str, label: str) -> str:
    (row,) = [row for row in rows(text) if row.startswith(f"{label} & ")]
    return row


def first_table(comparison: Comparison, **options: str) -> str:
    text = latex(comparison, **options)
    return text[: text.index(r"\end{table}")]


def test_every_row_has_all_columns(two: Comparison, awkward: Comparison) -> None:
    for comparison in (two, awkward):
        for one in latex(comparison).split(r"\begin{table}")[1:]:
            (kinds,) = re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}", one)
            assert {columns(row) for row in rows(one)} == {len(kinds)}
            for name in ("tabular", "table"):
                assert one.count(rf"\end{{{name}}}") == 1
            for rule in ("toprule", "midrule", "bottomrule"):
                assert one.count(rf"\{rule}") == 1


def test_groups_stand_under_a_heading_with_its_own_rule(two: Comparison) -> None:
    text = first_table(two)
    above, names, *_ = rows(text)
    assert above == r"&  &  &  &  & \multicolumn{3}{c}{Recall by group} &  \\"
    assert names.startswith("Method & Balanced & Macro & Macro & Accuracy & Head & Medium & Tail")
    assert text.count(r"\cmidrule(lr){6-8}") == 1


def test_best_is_bold_second_underlined(two: Comparison) -> None:
    text = first_table(two, spread="none")
    (block, _) = two.tables
    cells = {row.label: row.cells["head"] for row in block.rows}
    assert rf"\textbf{{{100 * cells['lmd (rounds=20)'].mean:.1f}}}" in of_label(
        text, "lmd (rounds=20)"
    )
    assert rf"\underline{{{100 * cells['focal'].mean:.1f}}}" in of_label(text, "focal")
    assert "in bold, second best underlined" in text


def test_plus_minus_is_what_was_asked_for(two: Comparison) -> None:
    (row, *_) = two.tables[0].rows
    cell = row.cells["balanced_accuracy"]
    assert cell.mean is not None
    assert cell.sd is not None
    assert cell.estimate is not None
    half = cell.estimate.high - cell.mean
    shown = {spread: of_label(first_table(two, spread=spread), row.label) for spread in SPREADS}
    assert re.search(rf"\$\\pm\$ (\\phantom{{0+}})?{100 * cell.sd:.1f}", shown["sd"])
    assert re.search(rf"\$\\pm\$ (\\phantom{{0+}})?{100 * half:.1f}", shown["interval"])
    assert "pm" not in shown["none"]
    assert "± standard" not in first_table(two)
    assert r"Mean $\pm$ standard deviation over seeds" in first_table(two, spread="sd")
    assert r"$\pm$ is half the interval" in first_table(two)


def test_marks_are_superscripts_with_a_legend(two: Comparison) -> None:
    text = first_table(two)
    assert two.tables[0].reference == "lmd (rounds=20)"
    assert r"\rlap{$^{-}$}" in of_label(text, "ce")
    assert "^" not in of_label(text, "lmd (rounds=20)").replace(r"\phantom{$^{-}$}", "")
    assert r"$^{-}$ worse than lmd (rounds=20)" in text


def test_caption_and_label(two: Comparison) -> None:
    text = latex(two)
    captions = re.findall(r"\\caption\{(.*)\}", text)
    assert all("PARTIAL DATA" in caption and "SYNTHETIC DATA" in caption for caption in captions)
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert labels[0] == "tab:skin-plain-if100"
    assert len(set(labels)) == len(labels) == len(captions)
    text = latex(two, caption="50% of {all}", label="tab:mine")
    assert r"\caption{50\% of \{all\}}" in text
    assert re.findall(r"\\label\{(.*?)\}", text)[0] == "tab:mine"
    assert all(name.startswith("tab:mine") for name in re.findall(r"\\label\{(.*?)\}", text))
    assert len(set(re.findall(r"\\label\{(.*?)\}", text))) == len(labels)


def test_notes_stand_beneath(two: Comparison) -> None:
    text = first_table(two)
    assert r"vasc\_x" in text
    assert r"IMAGENET1K\_V1" in text
    assert latex(two).endswith("% 1 unfinished run left out.\n")


def test_splits_side_by_side(factors: Comparison) -> None:
    text = first_table(factors, layout="split")
    above, *_ = rows(text)
    assert above == r"& \multicolumn{2}{c}{IF 100} & \multicolumn{2}{c}{IF 200} \\"
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5}" in text
    assert re.sub(r"\\phantom\{.*?\}", "", of_label(text, "focal")).endswith(r"& -- & -- \\")
    assert "No finished run of focal at IF 200." in text


def test_a_long_table_goes_on_in_another() -> None:
    columns = (Column("A", words=True), Column("Score"))
    cells = tuple((TableCell(f"row {k}"), TableCell(str(k))) for k in range(ROWS + 1))
    page = Table("", "Long", columns, cells, "Legend.")
    assert len(rows("\n".join(table_lines(page, cells[ROWS:], "c", "l", [])))) == 2


def test_no_table_is_too_wide_to_read(tmp_path: Path, fake_run: Callable[..., Path]) -> None:
    methods = ("ce", "lmd", *(f"other{k}" for k in range(7)))
    for method, seed in itertools.product(methods, range(2)):
        fake_run(method, seed, skill=len(method) / 2)
    text = latex(compare(read_results(tmp_path / "results"), per_class="recall"))
    tables = {}
    for one in text.split(r"\begin{table}")[1:]:
        (label,) = re.findall(r"\\label\{(.*?)\}", one)
        (kinds,) = re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@", one)
        assert {columns(row) for row in rows(one)} == {len(kinds)}
        tables[label] = (len(kinds), one)
    assert max(width for width, _ in tables.values()) == COLUMNS
    name = "tab:skin-plain-if100"
    (wide, first), (narrow, second) = tables[f"{name}-differences"], tables[f"{name}-differences-2"]
    assert (wide, narrow) == (8, 4)
    assert "Method & Balanced & p & P(A" in first
    assert r"Detectable & Head & Medium & Tail \\" in first
    assert r"Method & Macro & Macro & Accuracy \\" in second
    assert "(continued)" in second
    assert of_label(second, "other6")
    assert [tables[f"{name}-classes{k}"][0] for k in ("", "-2")] == [9, 5]


def test_a_class_among_all_images(tmp_path: Path, fake_run: Callable[..., Path]) -> None:
    fake_run("ce")
    names = ["recall:nv", "precision:nv", "f1:tail"]
    text = latex(compare(read_results(tmp_path / "results"), names=names))
    assert r"& $n=30$ & $n=30$ of $50$ & $n=2$ of $50$ &  \\" in text


# Through a real LaTeX


def compiled(folder: Path, *texts: str, engine: str = "pdflatex") -> str:
    if shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed")
    document = [r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"]
    document += [*texts, r"\end{document}"]
    (folder / "doc.tex").write_text("\n".join(document), encoding="utf-8")
    done = subprocess.run(
        [engine, "-interaction=nonstopmode", "-halt-on-error", "doc.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    if ".sty' not found" in done.stdout:
        pytest.skip("booktabs or graphicx is not installed")
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def test_it_compiles(
    two: Comparison, awkward: Comparison, factors: Comparison, tmp_path: Path
) -> None:
    texts = [latex(two, spread=spread) for spread in SPREADS]
    texts += [latex(awkward), latex(awkward, caption=r"\_%$&#^~{", label="tab:x")]
    texts += [latex(factors, layout="split", label="tab:split")]
    assert "Overfull" not in compiled(tmp_path, *texts)


ODD = {
    "Latin": "Mélanome à cellules géantes, Świerzb, naïve œdème, Håkan ﬁbroma",
    "Greek": "β-nevus, Δελτα Άλφα ς",
    "combining": "e\u0301 x\u0304 n\u0303",
    "Cyrillic": "Меланома",
    "CJK": "黑色素瘤 メラノーマ 흑색종",
    "right to left": "ورم ميلانيني",
    "emoji": "🔬 👩‍⚕️ ✓",
    "controls": "a\x1b[31mb\x07",
    "TeX": r"a_b % # {} \ ~ ^ < | > $x$ & \input{x} ``q'' --- [x]",
}
IN_PDFLATEX = {"Latin", "Greek", "combining", "controls", "TeX"}


@pytest.mark.parametrize("engine", ["pdflatex", "lualatex"])
def test_names_of_all_alphabets_compile(
    engine: str, tmp_path: Path, fake_run: Callable[..., Path]
) -> None:
    names = list(ODD.values())
    test = (list(range(9)), [[float(a == b) for a in range(9)] for b in range(9)])
    groups = {"head": names[:4], "tail": names[4:]}
    record = {"classes": names, "groups": groups, "class_counts": {"train": [9] * 9}}
    fake_run("ce", record=record, test=test)
    comparison = compare(read_results(tmp_path / "results"), per_class="recall")
    text = latex(comparison)
    assert text.isascii() or text.splitlines()[1].startswith("% pdfLaTeX has no font for ")
    compiled(tmp_path, text, engine=engine)


@pytest.mark.parametrize("alphabet", ODD)
def test_the_head_names_what_pdflatex_has_not(
    alphabet: str, tmp_path: Path, fake_run: Callable[..., Path]
) -> None:
    fake_run(ODD[alphabet])
    text = latex(compare(read_results(tmp_path / "results")))
    assert ("xelatex" in text) == (alphabet not in IN_PDFLATEX)
    assert (r"\DeclareRobustCommand" in text) == (alphabet not in IN_PDFLATEX)
