"""One damaged file of one run stops no table, list or status, and the run can be had again."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EPOCHS = "3"
SWEEP = """
seeds = "0-1"
methods = ["ce"]
[[datasets]]
name = "folder"
data_root = "{folder}"
backbone = "small"
image_size = 24
[settings.ce]
epochs = 3
[resources]
workers = 1
"""


def run_words(toy_folder: Path, results: Path, seeds: str) -> list[object]:
    return [
        *("run", "--method", "ce", "--dataset", "folder", "--data-root", toy_folder),
        *("--backbone", "small", "--image-size", "24", "--set", f"epochs={EPOCHS}"),
        *("--seeds", seeds, "--results", results),
    ]


@pytest.fixture(scope="module")
def finished(copies, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two finished seeds, and in them the record of a launch."""
    results = tmp_path_factory.mktemp("finished") / "results"
    words = run_words(toy_folder, results, "0-1")
    assert copies.popen([sys.executable, "-m", "lmdbench", *words, "--quiet"]).wait() == 0
    launches = results / "sweeps" / "toy" / "launches"
    launches.mkdir(parents=True)
    record = {"format": 1, "name": "toy-1", "kind": "local", "units": [], "sweeps": ["toy"]}
    (launches / "toy-1.json").write_text(json.dumps({**record, "submitted": 1.0, "user": 0}))
    return results


@pytest.fixture
def scene(finished, toy_folder, tmp_path):
    """Copies of the results, whose files are as old as they were, and of the sweep's file."""
    shutil.copytree(finished, tmp_path / "results")
    (tmp_path / "toy.toml").write_text(SWEEP.format(folder=toy_folder))
    (run,) = (tmp_path / "results").glob("*/*/ce/seed1-*")
    return tmp_path / "results", tmp_path / "toy.toml", run


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if path.exists() else b"{")


def folder_instead(path: Path) -> None:
    path.unlink(missing_ok=True)
    (path / "inner").mkdir(parents=True)


def loop(path: Path) -> None:
    """What nobody can read, not even root."""
    path.unlink(missing_ok=True)
    path.symlink_to(path)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "half": half,
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "another format": lambda path: path.write_text('["hello", 1]\n'),
    "a number": lambda path: path.write_text("3"),
    "a zip": lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)),
    "a folder": folder_instead,
    "a loop": loop,
}
DAMAGING = ("run.json", "predictions.npz")  # without these there are no numbers
WEIGHTS = "model.safetensors"
HARMLESS = ("history.csv", "failed.txt", "running.json", "damaged.txt", "attempts.jsonl", "run.log")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*DAMAGING, WEIGHTS, *HARMLESS, "done"])
def test_a_damaged_file_stops_no_command(lmdbench, scene, name, damage):
    results, sweep, run = scene
    DAMAGES[damage](run / name)
    told = lmdbench("sweep", "status", sweep, "--results", results, "--json")
    states = {one["seed"]: one for one in json.loads(told.out)["runs"]}
    assert states[0]["state"] == "done"
    expected = "damaged" if name in (*DAMAGING, WEIGHTS) else "done"
    if damage == "a folder" and name == "done":
        expected = "damaged"
    elif damage == "a loop" and name in ("done", "run.json"):  # as if it were not there
        expected = "lost"
    assert states[1]["state"] == expected, states[1]
    if expected == "damaged":
        assert str(run / name) in states[1]["note"]
    table = lmdbench("compare", "--results", results)
    assert table.code == 0, table.err
    assert "ce" in table.out
    no_numbers = (expected == "damaged" and name != WEIGHTS) or (name, damage) == (
        *("run.json", "a loop"),
    )
    assert (f"{run.name} is left out" in table.out) == no_numbers
    for words in (("results", "list"), ("sweep", "status", sweep), ("sweep", "plan", sweep)):
        outcome = lmdbench(*words, "--results", results)
        assert outcome.code in (0, 1, 3), outcome.err
        assert "Traceback" not in outcome.err
        assert outcome.out.strip()


@pytest.mark.parametrize("name", [*DAMAGING, WEIGHTS])
def test_bits_that_changed_are_found_and_the_run_is_trained_anew(
    lmdbench, scene, toy_folder, finished, name
):
    """Also where the file's time does not tell: by who reads it."""
    results, sweep, run = scene
    before = os.stat(run / name).st_mtime_ns
    content = bytearray((run / name).read_bytes())
    content[len(content) // 2] ^= 0x15
    (run / name).write_bytes(content)
    if name == WEIGHTS:
        assert "damaged, its SHA-256" in lmdbench("predict", run, toy_folder / "round-0.png").err
    elif name == "predictions.npz":
        os.utime(run / name, ns=(before, before))
        assert f"{run.name} is left out" in lmdbench("compare", "--results", results).out
    (run / name).touch()
    told = lmdbench("sweep", "status", sweep, "--results", results)
    if name != "run.json":  # of which a bit may be a letter of a name
        assert "1 done · 1 damaged" in told.out
        again = lmdbench(*run_words(toy_folder, results, "1"))
        assert again.code == 0, again.err
        assert "damaged" in again.err
        assert "moved aside" in again.err
        (aside,) = run.parent.glob("seed1-*.old-*")
        assert (aside / name).read_bytes() == content
        (once,) = finished.glob("*/*/ce/seed1-*")
        for file in ("predictions.npz", WEIGHTS):
            assert (run / file).read_bytes() == (once / file).read_bytes()
        assert "2 done" in lmdbench("sweep", "status", sweep, "--results", results).out


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_launch_record_is_named_and_nothing_else_stops(lmdbench, scene, damage):
    results, sweep, _ = scene
    path = results / "sweeps" / "toy" / "launches" / "toy-1.json"
    DAMAGES[damage](path)
    told = lmdbench("sweep", "status", sweep, "--results", results)
    assert told.code == 0, told.err
    assert f"{path}: damaged" in told.out
    assert "toy: 2 done" in told.out
    launched = lmdbench("sweep", "launch", sweep, "--results", results)
    assert launched.code == 0
    assert "nothing to start" in launched.err


def test_a_run_without_its_record_is_trained_anew(lmdbench, scene, toy_folder):
    results, sweep, run = scene
    (run / "run.json").unlink()
    told = lmdbench("sweep", "status", sweep, "--results", results, "--json")
    (gone,) = (one for one in json.loads(told.out)["runs"] if one["seed"] == 1)
    assert gone["state"] == "lost"
    assert "its run.json is gone" in gone["note"]
    weights = (run / WEIGHTS).read_bytes()
    assert lmdbench(*run_words(toy_folder, results, "1")).code == 0
    (aside,) = run.parent.glob("seed1-*.old-*")
    assert (aside / WEIGHTS).read_bytes() == weights
    assert "2 done" in lmdbench("sweep", "status", sweep, "--results", results).out


def from_another(*names: str) -> Callable[[Path, Path], None]:
    def change(run: Path, other: Path) -> None:
        for name in names:
            shutil.copyfile(other / name, run / name)

    return change


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], None]:
    def write(run: Path, _: Path) -> None:
        record = json.loads((run / "run.json").read_text())
        change(record)
        (run / "run.json").write_text(json.dumps(record))

    return write


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (from_another("predictions.npz"), "predictions.npz: damaged, its SHA-256 is not the one"),
        (from_another("run.json"), "run.json: damaged, it is of seed0-"),
        (
            from_another("run.json", "predictions.npz", "history.csv", WEIGHTS),
            "run.json: damaged, it is of seed0-",
        ),
        (edited(lambda r: r["spec"].update(seed=0)), "run.json: damaged, its id is"),
        (edited(lambda r: r["spec"]["settings"].update(lr=9.0)), "run.json: damaged, its id is"),
        (edited(lambda r: r["classes"].reverse()), "run.json: damaged, it was changed since"),
        (edited(lambda r: r["groups"].clear()), "run.json: damaged, it was changed since"),
        (edited(lambda r: r.update(seconds=0.5)), "run.json: damaged, it was changed since"),
    ],
)
def test_what_another_run_made_or_a_hand_wrote_is_not_believed(
    lmdbench, scene, toy_folder, finished, change, said
):
    """Also where the times of the files tell nothing."""
    results, sweep, run = scene
    (other,) = results.glob("*/*/ce/seed0-*")
    lmdbench("results", "list", "--results", results)
    times = {path: path.stat() for path in run.iterdir()}
    change(run, other)
    for path, time in times.items():
        os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns))
    table = lmdbench("compare", "--results", results)
    assert table.code == 0, table.err
    assert f"{run.name} is left out: {run}/{said}" in table.out
    listed = json.loads(lmdbench("results", "list", "--results", results, "--json").out)
    assert {one["seed"]: one["state"] for one in listed} == {0: "finished", 1: "damaged"}
    status = lmdbench("sweep", "status", sweep, "--results", results)
    assert "1 done · 1 damaged" in status.out
    assert said in status.out
    again = lmdbench(*run_words(toy_folder, results, "1"))
    assert again.code == 0, again.err
    assert "moved aside" in again.err
    (once,) = finished.glob("*/*/ce/seed1-*")
    assert (run / WEIGHTS).read_bytes() == (once / WEIGHTS).read_bytes()
    assert "2 done" in lmdbench("sweep", "status", sweep, "--results", results).out


def test_a_copy_under_the_name_of_another_seed_stands_in_no_table(lmdbench, scene):
    results, _, run = scene
    before = lmdbench("compare", "--results", results, "--format", "csv").out
    shutil.copytree(run, run.with_name("seed2-00000000"))
    table = lmdbench("compare", "--results", results)
    assert f"seed2-00000000/run.json: damaged, it is of {run.name}" in table.out
    assert lmdbench("compare", "--results", results, "--format", "csv").out == before


def test_runs_of_a_version_that_kept_no_digests_stand_in_tables_as_before(lmdbench, scene):
    results, sweep, _ = scene
    before = lmdbench("compare", "--results", results).out
    for path in results.glob("*/*/ce/*/run.json"):
        record = json.loads(path.read_text())
        for name in ("record", "predictions", "history"):
            del record["digests"][name]
        path.write_text(json.dumps(record))
    assert lmdbench("compare", "--results", results).out == before
    assert "2 done" in lmdbench("sweep", "status", sweep, "--results", results).out
