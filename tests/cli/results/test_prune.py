"""``lmdbench results prune`` as a user meets it."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmdbench.core.claim import Claim
from lmdbench.sweep.launch_record import Launch, write_launch

FakeRun = Callable[..., Path]
Command = Callable[..., Any]


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def results(fake_run: FakeRun, tmp_path: Path) -> Path:
    for seed in (0, 1):
        ce = fake_run("ce", seed)
        (ce / "model.safetensors").write_bytes(b"x" * 2000)
        os.utime(ce / "model.safetensors", (1, 1))  # not looked into
    (ce / "checkpoint.pt").write_bytes(b"x" * 300)
    aside = fake_run("rs")
    aside.rename(aside.with_name(f"{aside.name}.old-20260101-000000"))
    fake_run("rs")
    fake_run("focal", settings={"epochs": 1})
    return tmp_path / "results"


@pytest.mark.parametrize(
    "words", [(), ("--weights",), ("--moved-aside", "--leftovers"), ("--debug",)]
)
def test_nothing_goes_without_yes(results: Path, lmdbench: Command, words: tuple[str, ...]) -> None:
    before = snapshot(results)
    done = lmdbench("results", "prune", *words, "--results", results)
    assert done.code == 0, done.err
    assert "nothing was removed" in done.err
    assert snapshot(results) == before
    if not words:
        for line in ("debug: 1, ", "weights: 2, 4 kB", "moved aside: 1, ", "leftovers: 1, 300"):
            assert line in done.out


def test_yes_frees_what_it_showed(results: Path, lmdbench: Command) -> None:
    words = ("results", "prune", "--weights", "--leftovers", "--results", results)
    shown = lmdbench(*words)
    assert "predict` and `plot embedding` can't use a run" in shown.err
    done = lmdbench(*words, "--yes")
    assert done.code == 0, done.err
    assert "4 kB freed" in done.out
    assert done.out.splitlines()[:-1] == shown.out.splitlines()
    assert not list(results.glob("*/*/*/*/model.safetensors"))
    assert not list(results.glob("*/*/*/*/checkpoint.pt"))
    assert len(list(results.glob("*/*/*/*/done"))) == 5
    assert "weights pruned" in lmdbench("results", "list", "--results", results).out


def test_debug_runs_and_what_was_moved_aside_go(results: Path, lmdbench: Command) -> None:
    words = ("results", "prune", "--results", results, "--yes")
    assert lmdbench(*words, "--moved-aside").code == 0
    assert not list(results.glob("*/*/*/*.old-*"))
    assert lmdbench(*words, "--debug", "0").code == 0
    assert list(results.glob("*/*/focal/*"))
    assert lmdbench(*words, "--debug").code == 0
    assert not list(results.glob("*/*/focal/*"))
    assert len(list(results.glob("*/*/*/*/done"))) == 3


def test_yes_alone_says_nothing(results: Path, lmdbench: Command) -> None:
    done = lmdbench("results", "prune", "--yes", "--results", results)
    assert done.code == 2
    assert "say what goes: --weights" in done.err


def test_filters_choose(results: Path, lmdbench: Command) -> None:
    done = lmdbench("results", "prune", "--weights", "--seed", "0", "--yes", "--results", results)
    assert done.code == 0, done.err
    (stays,) = results.glob("*/*/*/*/model.safetensors")
    assert stays.parent.name.startswith("seed1-")


def test_a_launch_keeps_weights_and_an_ended_one_does_not(results: Path, lmdbench: Command) -> None:
    folder = results / "sweeps" / "skin"
    launch = Launch("skin-1", "local", (("skin/plain-if100/crt/seed1-01234567",),))
    write_launch(folder, launch)
    words = ("results", "prune", "--weights", "--results", results)
    done = lmdbench(*words)
    assert done.out.count("model.safetensors") == 1
    assert re.search(r"kept: skin/plain-if100/ce/seed1-\w+: sweeps/skin has .* to come", done.err)
    write_launch(folder, Launch("skin-1", "local", launch.units, cancelled=True))
    assert lmdbench(*words).out.count("model.safetensors") == 2


def test_a_run_that_has_just_begun_keeps_weights(results: Path, lmdbench: Command) -> None:
    directory = results / "skin" / "plain-if100" / "crt" / "seed0-01234567"
    directory.mkdir(parents=True)
    claim = Claim(directory / "running.json")
    assert claim.acquire()
    try:
        done = lmdbench("results", "prune", "--weights", "--results", results)
    finally:
        claim.release()
    assert done.code == 0, done.err
    assert done.out.count("model.safetensors") == 1
    assert "a worker has skin/plain-if100/crt/seed0-01234567 to come" in done.err


def test_a_sweep_that_is_not_launched_keeps_exactly_what_it_starts_from(
    toy_run: Command, toy_folder: Path, tmp_path: Path, lmdbench: Command
) -> None:
    assert toy_run("ce", "--set", "epochs=4", "--seeds", "0-1").code == 0
    assert toy_run("focal", "--set", "epochs=4").code == 0
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(
        f"""
        methods = ["crt"]
        [[datasets]]
        name = "folder"
        data_root = "{toy_folder}"
        backbone = "small"
        image_size = 24
        [settings.ce]
        epochs = 4
        """
    )
    words = ("results", "prune", "--weights", "--results", tmp_path / "results")
    done = lmdbench(*words, "--keep-for", sweep, "--yes")
    assert done.code == 0, done.err
    (stays,) = (tmp_path / "results").glob("*/*/*/*/model.safetensors")
    assert stays.parent.parent.name == "ce"
    assert stays.parent.name.startswith("seed0-")


def test_what_needs_pruned_weights_says_so_and_training_anew_brings_them_back(
    toy_run: Command, toy_folder: Path, tmp_path: Path, lmdbench: Command
) -> None:
    short = ("--set", "epochs=1", "--set", "batch_size=8")
    assert toy_run("ce", *short).code == 0
    results = tmp_path / "results"
    (run,) = results.glob("*/*/ce/*")
    assert lmdbench("results", "prune", "--weights", "--yes", "--results", results).code == 0
    assert lmdbench("compare", "--results", results).code == 0
    crt = ("crt", "--set", "epochs=1", "--set", "ce.epochs=1", "--set", "ce.batch_size=8")
    for done in (
        toy_run(*crt, "--quiet"),
        lmdbench("predict", run, toy_folder, "--results", results),
        lmdbench("plot", "embedding", "--results", results, "--output", tmp_path / "x.pdf",
                 "--data-root", toy_folder),
    ):  # fmt: skip
        assert done.code == 2
        assert len(done.err.splitlines()) == 1, done.err
        assert "its weights were pruned on 20" in done.err
        assert "lmdbench run --method ce --seeds 0 … --force" in done.err
    assert toy_run("ce", *short, "--force").code == 0
    assert toy_run(*crt).code == 0


def test_a_filter_that_nothing_moved_aside_fits_is_no_mistake(
    results: Path, lmdbench: Command
) -> None:
    words = ("results", "prune", "--weights", "--moved-aside", "--results", results)
    done = lmdbench(*words, "--method", "ce")
    assert done.code == 0, done.err
    assert "moved aside: 0, " in done.out
    done = lmdbench(*words, "--method", "rs", "--yes")
    assert done.code == 0, done.err
    assert "moved aside: 1, " in done.out
    assert len(list(results.glob("*/*/*/*/model.safetensors"))) == 2
