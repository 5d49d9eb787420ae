"""What is remembered of finished runs is never other than what their files say."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from lmdbench.comparison.results import read_results
from lmdbench.core.errors import UserError
from lmdbench.housekeeping.inventory import read_inventory, remember
from lmdbench.runs import index as indexes
from lmdbench.runs.index import RunIndex
from lmdbench.runs.record import read_record
from lmdbench.runs.state import run_state

GRAIN = 0.02  # seconds; file systems here tell times further apart than this


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(indexes, "SETTLED", GRAIN)
    monkeypatch.setattr(indexes, "LEAST", 1)


def plainly(directory):
    """What there is to find out without an index."""
    state = run_state(directory) if directory.is_dir() else "missing"
    try:
        return state, read_record(directory) if state == "finished" else None
    except UserError as error:
        return str(error)


def by_index(index, directory):
    try:
        return index.read(directory)
    except UserError as error:
        return str(error)


def settle():
    time.sleep(2 * GRAIN)


def read_all(results, directories):
    index = RunIndex(results)
    found = [by_index(index, directory) for directory in directories]
    index.save()
    return found


def shards(results):
    return list((results / ".index").rglob("*.json"))


@contextmanager
def counted(folder, monkeypatch):
    """Looks and openings below a folder, by kind."""
    found = Counter()
    stat = os.stat

    def audit(event, args):
        if counting and event in ("open", "os.scandir", "os.listdir"):
            found[event] += str(folder) in str(args[0])

    def counted_stat(path, *args, **kwargs):
        found["stat"] += str(folder) in str(path)
        return stat(path, *args, **kwargs)

    counting = [True]
    sys.addaudithook(audit)  # stays for good, but counts no more
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", counted_stat)
        yield found
    counting.clear()


# One change of a run, or of the index


def finish(run, fake_run):
    """Anew, in place of what is there."""
    remove(run, fake_run)
    fake_run(run.parent.name, seed=int(run.name[4]), results=run.parents[3])


def remove(run, _):
    shutil.rmtree(run, ignore_errors=True)


def unfinish(run, _):
    (run / "done").unlink(missing_ok=True)


def done_again(run, _):
    if run.is_dir():
        (run / "done").touch()


def replace_record(run, _):
    """By another of the same length, renamed over it, with its old times."""
    path = run / "run.json"
    if path.exists():
        other = path.with_suffix(".new")
        other.write_text(_edited(path))
        old = path.stat()
        other.replace(path)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


def edit_in_place(run, _):
    path = run / "run.json"
    if path.exists():
        path.write_text(_edited(path))


def half(run, _):
    path = run / "run.json"
    if path.exists():
        path.write_bytes(path.read_bytes()[:100])


def _edited(path):
    text = path.read_text()
    old, new = ('"lr": 0.01', '"lr": 0.02') if '"lr": 0.01' in text else ("0.02", "0.01")
    return text.replace(old, new)


def copy_over(run, fake_run):
    """Another run's directory in its place, as rsync leaves it."""
    finish(run, fake_run)
    moved = run.with_name("copy")
    shutil.copytree(run, moved)
    edit_in_place(moved, fake_run)
    remove(run, fake_run)
    moved.rename(run)


def lose_index(run, _):
    shutil.rmtree(run.parents[3] / ".index", ignore_errors=True)


def empty_index(run, _):
    for shard in shards(run.parents[3]):
        shard.write_text("")


def half_index(run, _):
    for shard in shards(run.parents[3]):
        shard.write_bytes(shard.read_bytes()[: random.randrange(1000)])


def binary_index(run, _):
    for shard in shards(run.parents[3]):
        shard.write_bytes(random.randbytes(500))


def flip_index(run, _):
    for shard in shards(run.parents[3]):
        text = shard.read_text()
        shard.write_text(text.replace("0.01", "0.05").replace("resnet18", "resnet19"))


def older_index(run, _):
    for shard in shards(run.parents[3]):
        head, _, body = shard.read_text().partition("\n")
        shard.write_text(json.dumps({**json.loads(head), "by": "0" * 64}) + "\n" + body)


CHANGES = [
    *(finish, remove, unfinish, done_again, replace_record, edit_in_place, half, copy_over),
    *(lose_index, empty_index, half_index, binary_index, flip_index, older_index),
]


def told(results):
    """What tables and lists are made of."""
    try:
        found = read_results(results)
    except UserError as error:
        return str(error)
    kept = read_inventory(results)
    listed = [
        (run.key, run.state, run.run, run.note, run.label, run.scores, run.size) for run in kept
    ]
    remember(kept)
    return found, listed


def told_without(results, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(indexes, "_load", lambda _: {})
        patch.setattr(indexes, "LEAST", 1_000_000)
        return told(results)


@pytest.mark.parametrize("seed", range(3))
def test_tables_and_lists_are_the_same_with_and_without_an_index(seed, fake_run, monkeypatch):
    random.seed(seed)
    runs = [fake_run(method, seed=k) for method in ("ce", "crt") for k in range(2)]
    results = runs[0].parents[3]
    for _ in range(12):
        change = random.choice(CHANGES)
        change(random.choice(runs), fake_run)
        plain = told_without(results, monkeypatch)
        assert told(results) == plain, change.__name__
        settle()
        assert told(results) == plain, change.__name__
    assert shards(results)


@pytest.mark.parametrize("seed", range(4))
def test_with_and_without_an_index_the_same_is_found(seed, fake_run):
    random.seed(seed)
    runs = [fake_run(method, seed=k) for method in ("ce", "crt") for k in range(3)]
    results = runs[0].parents[3]
    settle()
    watching = RunIndex(results)  # knows what it saw before, as `--watch`
    remembered = 0
    for _ in range(12):
        change = random.choice(CHANGES)
        change(random.choice(runs), fake_run)
        plain = [plainly(run) for run in runs]
        assert read_all(results, runs) == plain, change.__name__
        watching.begin()
        assert [by_index(watching, run) for run in runs] == plain, change.__name__
        settle()
        assert read_all(results, runs) == plain, change.__name__
        remembered += sum(map(len, map(indexes._load, shards(results))))
    assert remembered > 12  # else nothing was tried


def test_what_just_changed_is_not_remembered(fake_run, monkeypatch):
    monkeypatch.setattr(indexes, "SETTLED", 60.0)
    run = fake_run("ce")
    assert read_all(run.parents[3], [run])[0][0] == "finished"
    assert shards(run.parents[3]) == []


def test_few_runs_leave_no_index(fake_run, monkeypatch):
    monkeypatch.setattr(indexes, "LEAST", 3)
    runs = [fake_run("ce", seed=k) for k in range(3)]
    settle()
    read_all(runs[0].parents[3], runs[:2])
    assert shards(runs[0].parents[3]) == []
    read_all(runs[0].parents[3], runs)
    assert len(shards(runs[0].parents[3])) == 1


def test_runs_that_are_gone_are_forgotten_and_others_are_kept(fake_run):
    runs = [fake_run(method, seed=k) for method in ("ce", "crt") for k in range(2)]
    results = runs[0].parents[3]
    settle()
    read_all(results, runs)
    shutil.rmtree(runs[0])
    fake_run("focal")
    settle()
    index = RunIndex(results)
    for run in index.directories():
        if run.parent.name != "crt":  # which another sweep has
            index.read(run)
    index.save()
    (shard,) = shards(results)
    assert len(indexes._load(shard)) == 4


def test_a_folder_that_cannot_be_written_changes_nothing(fake_run):
    run = fake_run("ce")
    (run.parents[3] / ".index").write_text("in the way")
    settle()
    assert read_all(run.parents[3], [run]) == [plainly(run)]


def test_facts_are_worked_out_once_for_as_long_as_the_run_stays(fake_run):
    run = fake_run("ce")
    results = run.parents[3]
    settle()
    made = []

    def fact():
        index = RunIndex(results)
        found = index.fact(run, "rows", lambda: made.append(1) or {"a": len(made)})
        index.save()
        return found

    assert fact() == fact() == {"a": 1}
    predictions = run / "predictions.npz"
    predictions.write_bytes(predictions.read_bytes())
    settle()
    assert fact() == fact() == {"a": 2}


@pytest.mark.parametrize(("closely", "most"), [(False, 1), (True, 5)])
def test_a_second_look_costs_a_listing(fake_run, monkeypatch, closely, most):
    first, *_ = [fake_run("ce", seed=k) for k in range(100)]
    settle()
    results = first.parents[3]
    read_all(results, RunIndex(results).directories())
    with counted(results, monkeypatch) as operations:
        index = RunIndex(results, closely=closely)
        found = [index.read(run)[0] for run in index.directories()]
        index.save()
    assert found == ["finished"] * 100
    assert operations.total() <= 100 * most + 10, operations
