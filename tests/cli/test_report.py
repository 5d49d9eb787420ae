"""``lmdbench report`` from the command line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FakeRun = Callable[..., Path]
Command = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, fake_run: FakeRun) -> Path:
    """ce, crt and lmd with two seeds each, on one data set."""
    for seed in (0, 1):
        fake_run("crt", seed, skill=2.0, ancestor=fake_run("ce", seed, skill=0.5))
        fake_run("lmd", seed, skill=4.0)
    return tmp_path / "results"


def test_one_file_with_all_that_was_asked_for(lmdbench: Command, folder: Path) -> None:
    output = folder.parent / "r.html"
    done = lmdbench("report", "--results", folder, "--output", output)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith(f"written: {output}, ")
    assert "MB with no images" in done.err
    assert "no images of skin: its runs do not record which files they are of" in done.err
    text = output.read_text()
    for words in (
        "skin · plain-if100 · test images",
        "Kang et al.",  # the source of crt
        "f" * 64,  # the split's fingerprint
        "No audit of this split was made",
        "Images are shown by their ids alone",
        "Most often wrong",
        "image49",
    ):
        assert words in text, words
    assert "data:image/jpeg" not in text
    assert "SYNTHETIC" not in text


def test_a_report_of_calibrated_probabilities_says_so(lmdbench: Command, folder: Path) -> None:
    pages = []
    for words in ((), ("--calibrate", "temperature")):
        output = folder.parent / "r.html"
        metric = "--metric", "balanced_accuracy", "--metric", "ece_balanced"
        done = lmdbench("report", "--results", folder, *metric, *words, "--output", output)
        assert done.code == 0, done.err
        pages.append(output.read_text())
    plain, fitted = pages
    assert "temperature" not in plain.split("<main")[1]
    assert "divided by a temperature fitted on" in fitted.split("<main")[1]
    assert "temperature-scaled</h2>" in fitted


def test_the_same_runs_give_the_same_file(lmdbench: Command, folder: Path) -> None:
    for name in ("a.html", "b.html"):
        lmdbench("report", "--results", folder, "--output", folder.parent / name)
    assert (folder.parent / "a.html").read_bytes() == (folder.parent / "b.html").read_bytes()


def test_what_is_chosen_alone_is_in_it(lmdbench: Command, folder: Path) -> None:
    output = folder.parent / "r.html"
    done = lmdbench("report", "--results", folder, "--method", "ce", "--output", output)
    assert done.code == 0, done.err
    assert "crt" not in output.read_text().split("<main")[1].split("<script")[0]
    done = lmdbench("report", "--results", folder, "--method", "cee", "--output", output)
    assert done.code == 2
    assert "Did you mean ce?" in done.err


def test_synthetic_and_partial_data_are_named_at_the_top(
    lmdbench: Command, fake_run: FakeRun, tmp_path: Path
) -> None:
    partial = {"missing": 10, "total": 100, "dropped_classes": ["df"]}
    fake_run("ce", record={"synthetic": True, "partial": partial})
    output = tmp_path / "r.html"
    done = lmdbench("report", "--results", tmp_path / "results", "--output", output)
    assert done.code == 0, done.err
    head = output.read_text().split("<main")[0]
    assert "<strong>SYNTHETIC DATA</strong> in skin" in head
    assert "<strong>PARTIAL DATA</strong> in skin" in head


def test_runs_of_other_code_stand_in_it(
    lmdbench: Command, fake_run: FakeRun, tmp_path: Path
) -> None:
    fake_run("ce")
    imported = {"predictions": {"from": "theirs.csv", "parts": ["test"]}}
    fake_run("my-loss", record={"imported": imported}, settings={})
    output = tmp_path / "r.html"
    done = lmdbench("report", "--results", tmp_path / "results", "--output", output)
    assert done.code == 0, done.err
    assert "Imported predictions: trained by other code" in output.read_text()


def test_why_a_plot_is_missing_names_no_folder_of_this_machine(
    lmdbench: Command, folder: Path, fake_run: FakeRun
) -> None:
    (fake_run("ce", 2) / "history.csv").write_text("epoch,loss\n1,x\n")
    output = folder.parent / "r.html"
    done = lmdbench("report", "--results", folder, "--output", output)
    assert done.code == 0, done.err
    text = output.read_text()
    assert "Training curves: not drawn, skin/plain-if100/ce/seed2-" in text
    assert "history.csv: damaged" in text
    assert str(folder.parent) not in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("r.pdf", "must end in .html"),
        ("no/r.html", "there is no folder"),
        ("/proc/r.html", "cannot write in /proc"),
        ("folder.html", "is a folder"),
    ],
)
def test_outputs_that_cannot_be(
    lmdbench: Command, folder: Path, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "folder.html").mkdir()
    done = lmdbench("report", "--results", folder, "--output", tmp_path / name)
    assert done.code == 2
    assert words in done.err


def test_no_runs_one_line(lmdbench: Command, tmp_path: Path) -> None:
    done = lmdbench("report", "--results", tmp_path, "--output", tmp_path / "r.html")
    assert done.code == 2
    assert "no finished runs" in done.err
    assert not (tmp_path / "r.html").exists()


def test_real_runs_with_thumbnails_or_without(
    lmdbench: Command, toy_run: Command, tmp_path: Path
) -> None:
    assert toy_run("ce", "--set", "epochs=1", "--seeds", "0-1").code == 0
    output = tmp_path / "r.html"
    done = lmdbench("report", "--results", tmp_path / "results", "--output", output)
    assert done.code == 0, done.err
    assert "--no-images leaves them out" in done.err
    assert output.read_text().count("data:image/jpeg") >= 8
    done = lmdbench("report", "--results", tmp_path / "results", "--output", output, "--no-images")
    assert "MB with no images" in done.err
    assert "data:image/jpeg" not in output.read_text()
    assert "left out of this file" in output.read_text()


def test_torch_is_not_imported(folder: Path) -> None:
    code = (
        "import sys; from lmdbench.cli.commands import cli;"
        f"cli.main(['report', '--results', {str(folder)!r}, '--output', 'r.html'],"
        " standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder.parent, env=os.environ)
    assert done.returncode == 0
