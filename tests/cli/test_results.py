"""``lmdbench results`` as a user meets it; see tests/sharing for archives and tables."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from lmdbench.data.dataset import DATASETS
from lmdbench.evaluation.predictions import load_predictions

FakeRun = Callable[..., Path]
Command = Callable[..., Any]


def write_csv(run: Path, path: Path, *, probabilities: bool = False, part: str = "test") -> Path:
    """The predictions of a run as other code might write them: shuffled, classes backwards."""
    predictions = load_predictions(run / "predictions.npz")[part]
    values = predictions.logits.astype(float)
    values = softmax(values, axis=1) if probabilities else values
    classes = json.loads((run / "run.json").read_text())["classes"]
    order = np.random.default_rng(0).permutation(len(predictions))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*classes[::-1], "image"])
        for row in order:
            name = str(predictions.ids[row]).removesuffix(".png")
            writer.writerow([*map(repr, values[row, ::-1].tolist()), f"{name}.jpg"])
    return path


@pytest.mark.parametrize("probabilities", [False, True])
def test_predictions_of_a_run_come_back_with_the_same_scores_in_the_same_table(
    fake_run: FakeRun, tmp_path: Path, lmdbench: Command, probabilities: bool
) -> None:
    results = tmp_path / "results"
    for seed in (0, 1):
        run = fake_run("ce", seed, skill=2.0)
        file = write_csv(run, tmp_path / f"{seed}.csv", probabilities=probabilities)
        done = lmdbench(
            *("results", "import-predictions", file, "--name", "my-loss", "--like", run),
            *("--seed", seed, "--set", "gamma=2", "--results", results),
        )
        assert done.code == 0, done.err
        assert "table: together with ce" in done.out
        assert f"values: {'probabilities' if probabilities else 'logits'}" in done.out
    done = lmdbench("compare", "--results", results)
    assert done.code == 0, done.err
    assert done.out.count("· test images") == 1  # one table
    rows = [line.split("  ") for line in done.out.splitlines() if line.startswith(("ce ", "my-"))]
    ours, theirs = ([cell.strip(" *†↑≈") for cell in row[1:] if cell] for row in rows[:2])
    assert ours[0] == theirs[0]
    assert "my-loss: imported predictions" in done.out
    record = json.loads(next(results.glob("*/*/my-loss/seed1-*/run.json")).read_text())
    assert record["spec"]["settings"] == {"gamma": 2}


def test_imported_predictions_travel_on(
    fake_run: FakeRun, tmp_path: Path, lmdbench: Command
) -> None:
    run = fake_run("ce")
    file = write_csv(run, tmp_path / "mine.csv")
    here = ("--results", tmp_path / "results")
    words = ("results", "import-predictions", file, "--name", "my-loss", "--like", run, *here)
    assert lmdbench(*words).code == 0
    assert "already there, with the same predictions" in lmdbench(*words).out
    assert "seed 0 has the very same predictions" in lmdbench(*words, "--seed", 1).out
    assert lmdbench("results", "export", *here, "--output", tmp_path / "x.zip").code == 0
    there = tmp_path / "there"
    done = lmdbench("results", "import", tmp_path / "x.zip", "--results", there)
    assert done.code == 0, done.err
    assert "my-loss: imported predictions" in lmdbench("compare", "--results", there).out


def test_other_predictions_under_the_same_name_are_refused(
    fake_run: FakeRun, tmp_path: Path, lmdbench: Command
) -> None:
    runs = [fake_run("ce", seed) for seed in (0, 1)]
    files = [write_csv(run, tmp_path / f"{k}.csv") for k, run in enumerate(runs)]
    words = ("--name", "my-loss", "--like", runs[0], "--results", tmp_path / "results")
    assert lmdbench("results", "import-predictions", files[0], *words).code == 0
    done = lmdbench("results", "import-predictions", files[1], *words)
    assert done.code == 2
    assert "is there already, with other predictions" in done.err
    assert len(done.err.splitlines()) == 1


def test_validation_scores_leave_out_who_has_none(
    fake_run: FakeRun, tmp_path: Path, lmdbench: Command
) -> None:
    run = fake_run("ce")
    file = write_csv(run, tmp_path / "mine.csv")
    here = ("--results", tmp_path / "results")
    words = ("--name", "my-loss", "--like", run, *here)
    lmdbench("results", "import-predictions", file, *words)
    done = lmdbench("compare", *here, "--part", "validation")
    assert done.code == 0, done.err
    assert "my-loss is left out: it has no validation predictions." in done.out
    done = lmdbench("compare", *here, "--part", "validation", "--method", "my-loss")
    assert done.code == 2
    assert "no run that is chosen has validation predictions" in done.err


def test_files_unknown_here_do_not_keep_imported_predictions_apart(
    fake_run: FakeRun,
    tmp_path: Path,
    lmdbench: Command,
    toy_folder: Path,
    rewrite_record: Callable[..., None],
) -> None:
    """A run knows a digest of its images' content, a CSV doesn't."""
    store = {"digests": {"store": "s" * 64}}
    run = fake_run("ce", record=store)
    file = write_csv(run, tmp_path / "mine.csv")
    results = tmp_path / "results"
    words = ("--name", "my-loss", "--like", run, "--results", results)
    assert lmdbench("results", "import-predictions", file, *words).code == 0
    record = next(results.glob("*/*/my-loss/*/run.json"))
    content = json.loads(record.read_text())
    assert content["digests"]["store"] == "s" * 64
    rewrite_record(record.parent, lambda content: content["digests"].update(store=None))
    assert lmdbench("compare", "--results", results).out.count("· test images") == 1
    fake_run("focal", record={"digests": {"store": "t" * 64}})  # now it can't be told which
    out = lmdbench("compare", "--results", results).out
    assert out.count("· test images") == 3
    assert "files unknown" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--name", "lmd"), "--name lmd is a method of lmdbench"),
        (("--name", "my loss"), "letters, digits, - and _ only"),
        (("--name", "a/../../b"), "letters, digits, - and _ only"),
        (("--name", "x", "--seed", "0-2"), "--seed '0-2': give one number"),
        (("--name", "x", "--split", "lesion"), "--like brings its split"),
        (("--name", "x", "--dataset", "demo"), "the run of --like is of skin"),
        (("--name", "x", "--set", "gamma"), "give it as key=value"),
        (("--name", "x", "--image-size", "7"), "--image-size '7'"),
    ],
)
def test_mistakes_are_one_line(
    fake_run: FakeRun, tmp_path: Path, lmdbench: Command, words: tuple[str, ...], said: str
) -> None:
    run = fake_run("ce")
    file = write_csv(run, tmp_path / "mine.csv")
    there = ("--like", run, "--results", tmp_path / "results")
    done = lmdbench("results", "import-predictions", file, *words, *there)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert [path.name for path in (tmp_path / "results").glob("*/*/*")] == ["ce"]


def test_a_split_must_be_said(tmp_path: Path, lmdbench: Command) -> None:
    (tmp_path / "x.csv").write_text("image,a,b\n")
    words = ("results", "import-predictions", tmp_path / "x.csv", "--name", "x")
    assert "--like RUN, or --dataset NAME" in lmdbench(*words).err
    done = lmdbench(*words, "--like", tmp_path)
    assert "no finished run" in done.err


def test_the_published_split_of_isic_2019_needs_its_tables_only(
    test_data: Path, tmp_path: Path, lmdbench: Command
) -> None:
    split = DATASETS.get("isic2019")(test_data, tmp_path).split(None, 42)
    file = tmp_path / "mine.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["image", *split.classes])
        for part in ("test", "validation"):
            for image, label in zip(split.parts[part].ids, split.parts[part].labels, strict=True):
                writer.writerow([f"{image}.jpg", *(int(c == label) for c in range(8))])
    results = tmp_path / "results"
    words = ("results", "import-predictions", file, "--name", "oracle", "--dataset", "isic2019")
    done = lmdbench(*words, "--data-root", test_data, "--results", results)
    assert done.code == 0, done.err
    assert "4,621 test and 2,313 validation images" in done.out
    assert "Balanced accuracy 100.0%" in done.out
    (run,) = results.glob("isic2019/published-if100/oracle/seed0-*")
    spec = json.loads((run / "run.json").read_text())["spec"]
    usual = ("resnet18", "IMAGENET1K_V1", 224, "mixed", "last")
    names = ("backbone", "weights", "image_size", "precision", "selection")
    assert tuple(spec[name] for name in names) == usual
    done = lmdbench("results", "list", "--results", results, "--json")
    assert json.loads(done.out)[0]["imported_from"] == "mine.csv"


def test_a_backbone_of_ones_own_is_recorded_and_keeps_apart(
    toy_run: Command, toy_folder: Path, tmp_path: Path, lmdbench: Command
) -> None:
    assert toy_run("ce", "--set", "epochs=1").code == 0
    results = tmp_path / "results"
    (run,) = results.glob("*/*/ce/*")
    file = write_csv(run, tmp_path / "mine.csv")
    words = ("results", "import-predictions", file, "--name", "x", "--results", results)
    own = (*words, "--dataset", "folder", "--data-root", toy_folder)
    done = lmdbench(*own, "--backbone", "vit-b16", "--dry-run")
    assert done.code == 0, done.err
    assert "table: of its own: vit-b16" in done.out
    assert f"--like {run} joins it" in done.out
    assert [path.name for path in results.glob("*/*/*")] == ["ce"]
    done = lmdbench(*own, "--backbone", "small", "--image-size", 24)
    assert "table: together with ce" in done.out
    assert lmdbench("compare", "--results", results).out.count("· test images") == 1


def test_predictions_of_a_head_on_a_frozen_encoder_stand_beside_runs_of_one(
    toy_run: Command, toy_folder: Path, tmp_path: Path, lmdbench: Command
) -> None:
    import torch

    from lmdbench.models.small import SmallNet

    torch.save(SmallNet().state_dict(), tmp_path / "w.pt")
    frozen = ("--backbone", "frozen/small", "--weights", tmp_path / "w.pt")
    assert toy_run("ce", "--set", "epochs=1", *frozen).code == 0
    results = tmp_path / "results"
    (run,) = results.glob("*/*/ce/*")
    file = write_csv(run, tmp_path / "mine.csv")
    words = ("results", "import-predictions", file, "--name", "x", "--results", results)
    own = (*words, "--dataset", "folder", "--data-root", toy_folder, "--image-size", 24)
    assert "Did you mean small" in lmdbench(*own, "--backbone", "frozen/smal").err
    assert "table: together with ce" in lmdbench(*own, *frozen).out


def test_what_nobody_stated_of_imported_predictions_is_not_credited_to_them(
    fake_run: FakeRun, tmp_path: Path, lmdbench: Command
) -> None:
    run, results, page = fake_run("ce"), tmp_path / "theirs", tmp_path / "r.html"
    file = write_csv(run, tmp_path / "mine.csv")
    words = ("results", "import-predictions", file, "--like", run, "--results", results)
    assert lmdbench(*words, "--name", "x").code == 0
    assert lmdbench("report", "--results", results, "--output", page).code == 0
    text = page.read_text()
    assert "<dt>Backbone</dt><dd>not stated, weights not stated</dd>" in text
    assert "<dt>Image size</dt><dd>not stated</dd>" in text
    assert "backbone not stated, weights not stated, image size not stated" in text
    assert "not stated: selection, backbone, weights, tuning, image size, precision." in text
    assert "resnet18" not in text

    said = ("--backbone", "resnet18", "--precision", "float32")
    assert lmdbench(*words, "--name", "y", *said).code == 0
    (record,) = (json.loads(p.read_text()) for p in results.glob("*/*/y/*/run.json"))
    assert record["imported"]["predictions"]["stated"] == ["backbone", "precision"]
    out = lmdbench("compare", "--results", results, "--method", "y").out
    assert "selection not stated, resnet18, weights not stated, image size not stated" in out
    assert "precision float32" in out


def test_nothing_starts_from_an_imported_run_until_it_is_trained_here(
    toy_run: Command, toy_folder: Path, tmp_path: Path, lmdbench: Command
) -> None:
    short = ("--set", "epochs=1", "--set", "batch_size=8")
    assert toy_run("ce", *short).code == 0
    results = tmp_path / "results"
    lmdbench("results", "export", "--results", results, "--output", tmp_path / "x.zip")
    results.rename(tmp_path / "elsewhere")
    assert lmdbench("results", "import", tmp_path / "x.zip", "--results", results).code == 0

    done = toy_run("ce", *short)  # finished, as it says
    assert done.code == 0, done.err
    crt = ("crt", "--set", "epochs=1", "--set", "ce.epochs=1", "--set", "ce.batch_size=8")
    done = toy_run(*crt, "--quiet")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "without its weights" in done.err
    assert "lmdbench run --method ce --seeds 0 … --force" in done.err
    assert not list(results.glob("*/*/crt/*"))
    done = toy_run("ce", *short, "--force")
    assert done.code == 0, done.err
    assert list(results.glob("*/*/ce/*.old-*"))
    assert toy_run(*crt).code == 0


def test_an_imported_run_of_other_code_is_stale_like_any(
    toy_run: Command, tmp_path: Path, lmdbench: Command, rewrite_record: Callable[..., None]
) -> None:
    assert toy_run("ce", "--set", "epochs=1").code == 0
    results = tmp_path / "results"
    (path,) = results.glob("*/*/*/*")
    rewrite_record(path, lambda record: record["digests"].update(method="0" * 64))
    lmdbench("results", "export", "--results", results, "--output", tmp_path / "x.zip")
    results.rename(tmp_path / "elsewhere")
    assert lmdbench("results", "import", tmp_path / "x.zip", "--results", results).code == 0
    done = toy_run("ce", "--set", "epochs=1", "--quiet")
    assert done.code == 2
    assert "the code of ce has changed since this run; --force" in done.err
    assert toy_run("ce", "--set", "epochs=1", "--quiet", "--accept-changed").code == 0


def test_a_sweeps_runs_are_exported_alone(
    toy_run: Command, toy_folder: Path, tmp_path: Path, lmdbench: Command
) -> None:
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(
        f"""
        seeds = "1"
        methods = ["ce"]
        [[datasets]]
        name = "folder"
        data_root = "{toy_folder}"
        backbone = "small"
        image_size = 24
        [settings.ce]
        epochs = 1
        """
    )
    for seed in (0, 1):
        assert toy_run("ce", "--set", "epochs=1", "--seeds", seed).code == 0
    words = ("results", "export", "--results", tmp_path / "results", "--sweep", sweep)
    done = lmdbench(*words, "--output", tmp_path / "x")
    assert done.code == 0, done.err
    assert [path.name[:5] for path in (tmp_path / "x").glob("*/*/*/seed*")] == ["seed1"]


def test_export_import_list_and_help_import_no_torch(fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run("ce")
    archive, there = tmp_path / "x.zip", tmp_path / "there"
    for words in (
        ["results"],
        ["results", "import-predictions", "--help"],
        ["results", "export", "--results", tmp_path / "results", "--output", archive],
        ["results", "import", archive, "--results", there],
        ["results", "list", "--results", there],
    ):
        code = (
            "import sys\nfrom lmdbench.cli.main import main\n"
            f"sys.argv = ['lmdbench', *{[str(word) for word in words]!r}]\n"
            "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 0, stop.code\n"
            "assert 'torch' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
