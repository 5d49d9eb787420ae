"""Runs that go: which are meant, and that none is ever half there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.housekeeping.inventory import read_inventory
from lmdbench.housekeeping.removal import named, remove, started_from

FakeRun = Callable[..., Path]


def test_a_run_is_known_by_directory_name_key_and_id(
    fake_run: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = fake_run("ce")
    fake_run("ce", 1)
    runs = read_inventory(tmp_path / "results")
    wanted = next(run for run in runs if run.seed == 0)
    monkeypatch.chdir(directory.parent)
    for reference in (
        *(
            str(directory),
            directory.name,
            wanted.key,
            wanted.id,
            wanted.id[:8],
            f"./{wanted.name}/",
        ),
    ):
        assert named(runs, [reference]) == [wanted]
    assert named(runs, [wanted.id, str(directory)]) == [wanted]


def test_what_is_no_run_or_several_is_told(fake_run: FakeRun, tmp_path: Path) -> None:
    directory = fake_run("ce")
    runs = read_inventory(tmp_path / "results")
    for reference in ("ce", runs[0].id[:7], "0" * 8, str(tmp_path)):
        with pytest.raises(UserError, match="no run that is here; give its directory"):
            named(runs, [reference])
    shutil.copytree(directory, directory.with_name(f"{directory.name}-copy"))
    runs = read_inventory(tmp_path / "results")
    with pytest.raises(UserError, match="2 runs are called so"):
        named(runs, [runs[0].id])


def test_what_started_from_a_run_that_goes_is_known(fake_run: FakeRun, tmp_path: Path) -> None:
    rrl = fake_run("rrl")
    lmd = fake_run("lmd", ancestor=rrl)
    fake_run("other", ancestor=lmd)
    runs = {run.method: run for run in read_inventory(tmp_path / "results")}
    every = list(runs.values())
    assert started_from(every, [runs["rrl"]]) == [runs["lmd"]]
    assert started_from(every, [runs["rrl"], runs["lmd"]]) == [runs["other"]]


def test_a_directory_is_gone_with_its_bytes(fake_run: FakeRun, tmp_path: Path) -> None:
    directory = fake_run("ce")
    (size,) = (run.size for run in read_inventory(tmp_path / "results"))
    assert remove(directory) == size > 6000
    assert list(directory.parent.iterdir()) == []


def test_a_run_that_is_being_trained_stays(fake_run: FakeRun) -> None:
    directory = fake_run("ce", state=None)
    claim = Claim(directory / "running.json")
    assert claim.acquire()
    try:
        before = sorted(directory.iterdir())
        assert remove(directory) is None
        assert sorted(directory.iterdir()) == before
        assert claim.is_mine()
    finally:
        claim.release()
    assert remove(directory) is not None


def test_a_link_to_a_run_goes_and_the_run_stays(fake_run: FakeRun, tmp_path: Path) -> None:
    directory = fake_run("ce")
    elsewhere = tmp_path / "elsewhere"
    directory.rename(elsewhere)
    directory.symlink_to(elsewhere)
    assert remove(directory) is not None
    assert not directory.is_symlink()
    assert (elsewhere / "done").exists()
    assert not (elsewhere / "running.json").exists()
