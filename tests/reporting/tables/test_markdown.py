"""Tables in GitHub's Markdown."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lmdbench.comparison.compare import Comparison, compare
from lmdbench.comparison.results import read_results
from lmdbench.reporting.tables import csv_text, markdown

FakeRun = Callable[..., Path]


def table(text: str, number: int = 0) -> list[str]:
    blocks = re.split(r"\n\n", text)
    return [block for block in blocks if block.startswith("|")][number].splitlines()


def test_it_is_a_valid_table(two: Comparison) -> None:
    text = markdown(two)
    rows = table(text)
    assert len({line.count("|") for line in rows}) == 1
    assert re.fullmatch(r"\| --- \|( ---: \|){8}", rows[1])
    assert "| Tail (n = 2) |" in rows[0]
    assert text.startswith("### skin · plain-if100 · test images · resnet18 · PARTIAL DATA")
    assert "- PARTIAL DATA: 142 of 143 images. Dropped classes: vasc\\_x." in text
    assert "- SYNTHETIC DATA" in text
    assert "\n1 unfinished run left out.\n" in text


def test_best_second_marks_and_intervals(two: Comparison) -> None:
    (block, _) = two.tables
    rows = {line.split(" | ")[0][2:]: line for line in table(markdown(two))}
    for row in block.rows:
        cell = row.cells["balanced_accuracy"]
        assert cell.mean is not None
        assert cell.estimate is not None
        low, high = 100 * cell.estimate.low, 100 * cell.estimate.high
        assert f"[{low:.1f}, {high:.1f}]" in rows[row.label]
    assert re.search(r"\*\*[\d.]+\*\* \[", rows["lmd (rounds=20)"])
    assert re.search(r"<u>[\d.]+</u> \[", rows["focal"])
    assert "] ▼" in rows["ce"]
    assert "▼ worse than lmd (rounds=20)" in markdown(two)


def test_spread_and_fractions(two: Comparison) -> None:
    (row, *_) = two.tables[0].rows
    cell = row.cells["accuracy"]
    assert f" {cell.mean:.3f} ± {cell.sd:.3f} " in markdown(two, percent=False, spread="sd")
    assert "in percent" not in markdown(two, percent=False)
    bare = "\n".join(table(markdown(two, spread="none")))
    assert "±" not in bare
    assert "[" not in bare


def test_a_table_of_one_row_has_nothing_bold(two: Comparison) -> None:
    text = markdown(two)
    assert "**" not in text[text.index("resnet50") :]


def test_differences_to_the_reference(two: Comparison) -> None:
    (block, _) = two.tables
    lines = table(markdown(two), 1)
    assert "p (Holm)" in lines[0]
    assert {line.split(" | ")[0][2:] for line in lines[2:]} == {"ce", "focal"}
    (ce,) = [row for row in block.rows if row.label == "ce"]
    difference = ce.cells["balanced_accuracy"].difference
    assert difference is not None
    (line,) = [line for line in lines if line.startswith("| ce ")]
    assert f"| −{-100 * difference.value:.1f} [" in line
    assert f"| {difference.superiority:.3f} | {100 * difference.detectable:.1f} |" in line


def test_the_table_of_classes_says_why_there_is_no_interval(
    tmp_path: Path, fake_run: FakeRun
) -> None:
    fake_run("ce")
    fake_run("lmd", test=([0, 1, 2, 3], [[9.0, 0, 0, 0]] * 4), results=tmp_path / "few")
    text = markdown(compare(read_results(tmp_path / "results"), per_class="f1"))
    lines = text[text.index("F1 by class") :].splitlines()
    assert "- No interval for df: a class has fewer than 5 test images." in lines
    assert any("F1 is of all 50 images." in line for line in lines)
    text = markdown(compare(read_results(tmp_path / "few"), per_class="precision"))
    lines = text[text.index("Precision by class") :].splitlines()
    assert "- – in mel\\_a, bcc, df: the class is never predicted." in lines


def test_ratios_of_classes_are_no_percent(tmp_path: Path, fake_run: FakeRun) -> None:
    labels, taken = np.repeat(np.arange(4), 10), np.tile(np.arange(4), 10)
    fake_run("ce", test=(labels, np.eye(4)[taken]))
    text = markdown(compare(read_results(tmp_path / "results"), per_class="lr+"))
    lines = text[text.index("LR+ by class") :].splitlines()
    assert any("LR+ of each class and its images; share" in line for line in lines)
    # Of ten images of nv three are right, of thirty others seven are taken for it.
    (row,) = (line for line in lines if line.startswith("| nv |"))
    assert f"{(3 / 10) / (7 / 30):.3f} [" in row


def test_one_seed_has_no_columns_of_a_test(tmp_path: Path, fake_run: FakeRun) -> None:
    for method, skill in (("ce", 0.0), ("lmd", 4.0)):
        fake_run(method, skill=skill)
    text = markdown(compare(read_results(tmp_path / "results")))
    assert table(text, 1)[0].startswith("| Method | Balanced accuracy | Head |")
    assert "Holm" not in text
    assert "Detectable" not in text


def test_of_a_loss_p_a_above_b_is_still_of_the_larger(tmp_path: Path, fake_run: FakeRun) -> None:
    labels = [0, 1, 2, 3] * 5
    for method, seed in itertools.product(("ce", "lmd"), (0, 1)):
        height = 4.0 if method == "lmd" else 1.0 + seed
        fake_run(
            method, seed, test=(labels, [[height * (k == c) for k in range(4)] for c in labels])
        )
    text = markdown(compare(read_results(tmp_path / "results"), names=["nll"]))
    assert "the share in which the row's NLL (test prior) is the larger (the smaller is the" in text
    (line,) = [line for line in table(text, 1) if line.startswith("| ce ")]
    assert "| 1.000 |" in line


def test_splits_side_by_side_name_their_columns(factors: Comparison) -> None:
    head = table(markdown(factors, layout="split"))[0]
    assert head == (
        "| Method | IF 100: Macro F1 (n = 50) | IF 100: Tail (n = 2) "
        "| IF 200: Macro F1 (n = 50) | IF 200: Tail (n = 2) |"
    )


def test_awkward_names_keep_the_columns(awkward: Comparison) -> None:
    text = markdown(awkward)
    for number in range(len(re.findall(r"^\| ---", text, re.MULTILINE))):
        rows = table(text, number)
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
    assert r"\[odd\] 100%\_\| (a\_b=x\#y)" in text


def test_classes_pairs_published_and_ranks(awkward: Comparison) -> None:
    text = markdown(awkward)
    titles = re.findall("^####? (.*)$", text, re.MULTILINE)
    assert titles[1:] == [
        "Recall by class",
        "All pairs",
        "Stability of the ranking",
        "Published: A paper & more",
        "Ranks across data sets",
    ]
    assert table(text, 1)[2].startswith(r"| nv\_1 | 60 | 30 |")
    (pair,) = [row for row in table(text, 2) if row.startswith("| ce |") and "odd" in row]
    assert pair.endswith("| +10.0 [+8.0, +12.0] | .030 | 0.250 |")
    assert table(text, 3)[2] == "| ce | 1 | 1.5 [1, 2] | 75.0 |"
    assert r"- One\_seed: only images." in text
    head, _, ce, rs = table(text, 4)
    assert head == r"| A paper & more | F1 {maybe} | Measured | Macro F1 |"
    (row,) = [row for row in awkward.tables[0].rows if row.label == "ce"]
    here = f"{100 * (row.cells['macro_f1'].mean or 0):.1f}"
    assert re.fullmatch(rf"\| CE\\_1 \| 50\.00 \| ce \| \W*u?>?{here}\W*u?>? \|", ce)
    assert rs == "| RS | 25.00 | – | – |"
    assert r"- \#1: single runs." in text
    assert r"- As printed in Some\_one, 100%, in percent" in text
    assert table(text, 5)[2] == r"| \[odd\] 100%\_\| | 1.50 [1.00, 2.00] | 1 | 0 | 1 |"
    assert r"- Two settings\_only." in text


def test_of_many_classes_the_largest_and_the_smallest_stand_in_the_table(
    fake_run: FakeRun, tmp_path: Path
) -> None:
    names = [f"class {k}" for k in range(100)]
    labels = np.arange(100)
    logits = np.eye(100)[labels]
    record = {
        "classes": names,
        "groups": {"head": names[:50], "tail": names[50:]},
        "class_counts": {"train": list(range(1, 101)), "validation": [1] * 100},
    }
    fake_run("ce", 0, test=(labels, logits), record=record)
    comparison = compare(read_results(tmp_path / "results"), per_class=True)
    text = markdown(comparison)
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| class")]
    assert rows == [*names[:-21:-1], *names[19::-1]]
    assert "| … 60 more |" in text
    assert "of 100 classes; --format csv and json have all" in text
    assert csv_text(comparison).count(",recall:class ") == 100
