"""What may go while its runs stay, and what must not."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lmdbench.core.claim import Claim
from lmdbench.core.files import temporary_path
from lmdbench.housekeeping import pruning
from lmdbench.housekeeping.inventory import KeptRun, read_inventory

FakeRun = Callable[..., Path]


def with_weights(directory: Path, size: int = 100) -> Path:
    path = directory / "model.safetensors"
    path.write_bytes(b"x" * size)
    os.utime(path, (1, 1))  # as old as the run: its content is not looked at
    return directory


def by_method(results: Path) -> dict[str, KeptRun]:
    return {run.method: run for run in read_inventory(results)}


def test_weights_go_but_those_that_something_unfinished_starts_from(
    fake_run: FakeRun, tmp_path: Path
) -> None:
    ce = with_weights(fake_run("ce"))
    rrl = with_weights(fake_run("rrl"), 50)
    fake_run("crt", ancestor=ce, state=None)
    with_weights(fake_run("lmd", ancestor=rrl))
    fake_run("focal")  # has none
    runs = by_method(tmp_path / "results")
    every = list(runs.values())
    found, kept = pruning.weights(every, every, {})
    assert {(thing.path.parent.parent.name, thing.size) for thing in found} == {
        *(("rrl", 50), ("lmd", 100))
    }
    assert kept == {runs["ce"].key: f"{runs['crt'].key}, which is not finished, starts from it"}
    found, kept = pruning.weights(every, [runs["rrl"]], {runs["rrl"].key: "because"})
    assert (found, kept) == ([], {runs["rrl"].key: "because"})


def test_weights_that_went_leave_word(fake_run: FakeRun, tmp_path: Path) -> None:
    directory = with_weights(fake_run("ce"))
    runs = read_inventory(tmp_path / "results")
    found, _ = pruning.weights(runs, runs, {})
    assert [pruning.prune(thing) for thing in found] == [100]
    assert not (directory / "model.safetensors").exists()
    assert (directory / "pruned.txt").read_text() == time.strftime("%Y-%m-%d\n")
    (run,) = read_inventory(tmp_path / "results")
    assert (run.state, run.has_weights, run.is_pruned) == ("finished", False, True)
    assert run.scores


def test_a_launched_run_keeps_what_it_may_start_from(fake_run: FakeRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        with_weights(fake_run("ce", seed))
    ce = tmp_path / "results" / next(r.key for r in read_inventory(tmp_path / "results") if r.seed)
    done = with_weights(fake_run("crt", 1, ancestor=ce))
    runs = read_inventory(tmp_path / "results")
    key = "skin/plain-if100/crt/seed0-01234567"
    pending = {
        key: "sweeps/a",
        "skin/plain-if100/ce/seed1-01234567": "sweeps/a",  # starts from nothing
        done.relative_to(tmp_path / "results").as_posix(): "sweeps/a",  # is finished
    }
    (kept,) = pruning.may_start_from(runs, pending).items()
    assert kept[0].startswith("skin/plain-if100/ce/seed0-")
    assert kept[1] == f"sweeps/a has {key} to come, which may start from it"


def test_moved_aside_goes_once_what_took_its_place_is_finished(
    fake_run: FakeRun, tmp_path: Path
) -> None:
    for method, state in (("ce", "done"), ("crt", None)):
        directory = fake_run(method)
        directory.rename(directory.with_name(f"{directory.name}.old-20260101-000000"))
        fake_run(method, state=state)
    results = tmp_path / "results"
    aside = read_inventory(results, moved_aside=True)
    gone, kept = pruning.moved_aside(aside, read_inventory(results))
    assert [thing.path.parent.name for thing in gone] == ["ce"]
    (why,) = kept.values()
    assert why == "what was to take its place is not finished"
    size = gone[0].size
    assert pruning.prune(gone[0]) == size > 0
    assert [run.method for run in read_inventory(results, moved_aside=True)] == ["crt"]


def test_short_runs_are_those_that_somebody_made_short(fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run("ce", settings={"epochs": 2})
    fake_run("focal", settings={"epochs": 4})
    fake_run("ncm", settings={"epochs": 1}, record={"changed_settings": {}})  # by its nature
    rrl = fake_run("rrl", settings={"epochs": 1})
    fake_run("lmd", ancestor=rrl, settings={"rounds": 20})
    fake_run("bcl", settings={"rounds": 3, "epochs": 50})
    running = fake_run("rs", settings={"epochs": 1}, state=None)
    claim = Claim(running / "running.json")
    assert claim.acquire()
    try:
        found = pruning.short(read_inventory(tmp_path / "results"), 3)
    finally:
        claim.release()
    names = {thing.run.method for thing in found if thing.run is not None}
    assert names == {"ce", "rrl", "lmd", "bcl"}
    assert all(pruning.prune(thing) == thing.size for thing in found)
    assert set(by_method(tmp_path / "results")) == {"focal", "ncm", "rs"}


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_are_of_processes_that_ended(fake_run: FakeRun, tmp_path: Path) -> None:
    finished, interrupted = fake_run("ce"), fake_run("crt", state=None)
    results = tmp_path / "results"
    own = temporary_path(finished / "run.json")
    dead = own.with_name(own.name.replace(f"~{os.getpid()}~", f"~{dead_process()}~"))
    foreign = finished / ".run~another-host~7~0.json"
    old = finished / ".history~another-host~7~0.csv"
    folder = finished.parent / dead.name.replace(".run", ".seed0-01234567").removesuffix(".json")
    folder.mkdir()
    for path in (own, dead, foreign, old, folder / "model.safetensors", folder / dead.name):
        path.write_bytes(b"x" * 10)
    os.utime(old, (0, 0))
    for directory in (finished, interrupted):
        (directory / "checkpoint.pt").write_bytes(b"x" * 5)
    found = pruning.leftovers([results])
    wanted = {dead: 10, old: 10, folder: 20, finished / "checkpoint.pt": 5}
    assert {thing.path: thing.size for thing in found} == wanted
    assert sum(map(pruning.prune, found)) == 45
    assert pruning.leftovers([results]) == []
    assert (interrupted / "checkpoint.pt").exists()
    assert own.exists()
    assert foreign.exists()


def test_temporary_files_beside_a_living_claim_stay(fake_run: FakeRun, tmp_path: Path) -> None:
    directory = fake_run("ce", state=None)
    old = directory / ".history~another-host~7~0.csv"
    old.write_text("")
    os.utime(old, (0, 0))
    claim = Claim(directory / "running.json")
    assert claim.acquire()
    try:
        assert pruning.leftovers([tmp_path / "results"]) == []
    finally:
        claim.release()
    assert [thing.path for thing in pruning.leftovers([tmp_path / "results"])] == [old]
