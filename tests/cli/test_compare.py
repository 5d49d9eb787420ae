"""``lmdbench compare`` from the command line."""

import csv
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmdbench.comparison import outcomes
from lmdbench.evaluation.predictions import Predictions, load_predictions

FakeRun = Callable[..., Path]
Command = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, fake_run: FakeRun) -> Path:
    """ce and crt with two seeds each, on one data set."""
    for seed in (0, 1):
        fake_run("crt", seed, skill=2.0, ancestor=fake_run("ce", seed, skill=0.5))
    return tmp_path / "results"


def test_table(lmdbench: Command, folder: Path) -> None:
    done = lmdbench("compare", "--results", folder)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "skin · plain-if100 · test images"
    (ce,) = [number for number, line in enumerate(lines) if line.startswith("ce ")]
    assert lines[ce + 1].startswith("crt ← ce ")
    assert lines[ce].count("[") == lines[ce + 1].count("[") == 5  # two metrics have no interval
    assert "Seeds 0, 1 in every row." in lines


def test_the_results_folder_comes_from_the_environment_or_lies_here(
    lmdbench: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    here = lmdbench("compare").out
    assert "crt ← ce" in here
    monkeypatch.chdir("/")
    monkeypatch.setenv("LMDBENCH_RESULTS", str(folder))
    assert lmdbench("compare").out == here


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("table", "skin · "),
        ("markdown", "### skin"),
        ("latex", "% needs"),
        ("html", "<!DOCTYPE html>"),
        ("csv", "results_name,"),
        ("json", "{"),
    ],
)
def test_formats(lmdbench: Command, folder: Path, tmp_path: Path, form: str, start: str) -> None:
    printed = lmdbench("compare", "--results", folder, "--format", form)
    assert printed.code == 0
    assert printed.out.startswith(start)
    path = tmp_path / "somewhere.anything"
    written = lmdbench("compare", "--results", folder, "--format", form, "--output", path)
    assert (written.code, written.out) == (0, "")
    assert path.read_text() == printed.out
    assert str(path) in written.err


@pytest.mark.parametrize("ending", [".txt", ".md", ".tex", ".html", ".csv", ".json"])
def test_the_ending_of_a_file_tells_its_format(
    lmdbench: Command, folder: Path, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"table{ending}"
    assert lmdbench("compare", "--results", folder, "--output", path).code == 0
    content = path.read_text()
    if ending == ".json":
        assert json.loads(content)["blocks"]
    elif ending == ".csv":
        assert len(list(csv.DictReader(content.splitlines()))) == 14
    else:
        mark = {".txt": "────", ".md": "| ---: |", ".tex": r"\toprule", ".html": "<table>"}[ending]
        assert mark in content


def test_looks_of_a_table_for_a_paper(lmdbench: Command, folder: Path) -> None:
    words = ["compare", "--results", folder, "--format", "latex", "--metric", "tail"]
    done = lmdbench(*words, "--spread", "sd", "--caption", "50 % of it", "--label", "tab:x")
    assert r"\caption{50 \% of it}" in done.out
    assert r"\label{tab:x}" in done.out
    assert r"$\pm$" in done.out
    assert r"$\pm$" not in lmdbench(*words, "--spread", "none").out.split(r"\end{table}")[0]


def test_splits_side_by_side(lmdbench: Command, folder: Path, fake_run: FakeRun) -> None:
    split = {"name": "plain", "seed": 42, "imbalance_factor": 200.0, "fingerprint": "e" * 64}
    fake_run("ce", 0, split=split, record={"split_label": "plain-if200"})
    words = ["compare", "--results", folder, "--format", "latex", "--columns", "split"]
    done = lmdbench(*words, "--metric", "macro_f1")
    assert r"Method & \multicolumn" not in done.out
    assert r"\multicolumn{1}{c}{IF 100} & \multicolumn{1}{c}{IF 200}" in done.out
    assert "No finished run of crt" in done.out


def test_json_flag(lmdbench: Command, folder: Path) -> None:
    as_json = lmdbench("compare", "--results", folder, "--json")
    assert as_json.out == lmdbench("compare", "--results", folder, "--format", "json").out


def test_published_says_where_nothing_is(lmdbench: Command, folder: Path) -> None:
    done = lmdbench("compare", "--results", folder, "--published", "--json")
    assert done.code == 0
    assert json.loads(done.out)["blocks"][0]["published"] == []
    assert done.err.startswith("--published: no paper's numbers are of these images.")
    assert "isic2019" in done.err
    assert done.err.count("\n") == 1


def test_metrics_parts_and_fractions(lmdbench: Command, folder: Path) -> None:
    words = ["compare", "--results", folder, "--metric", "tail", "--metric", "macro-f1"]
    done = lmdbench(
        *words, "--part", "validation", "--fraction", "--format", "markdown", "--spread", "sd"
    )
    assert "| Method | Tail (n = 1) | Macro F1 (n = 14) | Seeds |" in done.out
    assert re.search(r"\d\.\d{3} ± \d\.\d{3}", done.out)


def test_every_metric_of_the_list_can_be_asked_for(lmdbench: Command, folder: Path) -> None:
    listed = [one["name"] for one in json.loads(lmdbench("metrics", "--json").out)]
    for name in listed:
        name = name.replace("costs=FILE.csv,", "")
        assert lmdbench("compare", "--results", folder, "--metric", name).code == 0, name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "skim"], "Did you mean skin?"),
        (["--method", "crd"], "Did you mean crt"),
        (["--split", "plain"], "Known: plain-if100."),
        (["--metric", "heat"], "Did you mean head?"),
        (["--json", "--format", "csv"], "contradict"),
        (["--json", "--output", "t.csv"], "--json and --output t.csv contradict each other"),
        (["--label", "tab one", "--format", "latex"], "--label 'tab one': only letters of a to z"),
        (["--label", "a}b", "--format", "latex"], "--label 'a}b': only letters of a to z"),
        (["--output", "table.xls"], "say --format"),
        (["--caption", "Results"], "--caption is for --format latex, not table"),
        (["--columns", "split", "--format", "csv"], "--columns is for --format markdown or latex"),
        (["--output", "nowhere/table.md"], "there is no folder nowhere"),
        (["--output", "/proc/table.md"], "cannot write in /proc"),
        (["--output", ".", "--format", "csv"], "is a folder"),
        (["--results", "nowhere"], "no results folder nowhere; make some with"),
    ],
)
def test_mistakes_are_answered_in_a_line(
    lmdbench: Command,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    done = lmdbench("compare", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_damaged_file_is_named_and_left_out(lmdbench: Command, folder: Path) -> None:
    path = next(folder.glob("*/*/ce/seed0-*/predictions.npz"))
    path.write_bytes(path.read_bytes()[:500])
    done = lmdbench("compare", "--results", folder)
    assert done.code == 0
    assert f"{path.parent.name} is left out" in done.out
    assert str(path) in done.err


def test_a_failed_write_keeps_the_old_file(lmdbench: Command, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    path.write_text("old")
    lmdbench("compare", "--results", folder, "--metric", "none", "--output", path)
    assert path.read_text() == "old"


def test_on_a_terminal_the_best_is_bold_and_lines_fit(
    folder: Path, read_terminal: Callable[[int], bytes]
) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "lmdbench", "compare", "--results", str(folder)],
        stdout=follower,
        env=environment,
    )
    os.close(follower)
    content = read_terminal(leader)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[02-9;][0-9;]*m", "", content.decode())
    assert "Best of a column in bold, second best underlined." in " ".join(
        text.replace("\x1b[1m", "").split()
    )
    assert re.search(r"\x1b\[1m *\d+\.\d", text)
    assert max(len(line.replace("\x1b[1m", "")) for line in text.splitlines()) <= 80


def test_predictions_are_read_once(
    lmdbench: Command, tmp_path: Path, fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    directories = [fake_run(f"method{n}", seed) for seed in range(3) for n in range(4)]
    read: list[Path] = []

    def load(
        path: Path, parts: Sequence[str] | None = None, sha256: str | None = None
    ) -> dict[str, Predictions]:
        read.append(path.parent)
        return load_predictions(path, parts, sha256)

    monkeypatch.setattr(outcomes, "load_predictions", load)
    done = lmdbench("compare", "--results", tmp_path / "results", "--format", "csv")
    assert len(done.out.splitlines()) == 1 + 4 * 7
    assert sorted(read) == sorted(directories)
    page = tmp_path / "report.html"
    assert lmdbench("report", "--results", tmp_path / "results", "--output", page).code == 0
    assert sorted(read) == sorted(directories)
