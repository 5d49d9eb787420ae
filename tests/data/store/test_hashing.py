"""Which files' hashes are remembered, by their times."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lmdbench.data.store import hashing
from lmdbench.data.store.hashing import KnownHashes, hash_files

SECOND = 10**9
AHEAD = 2_100_000_000 * SECOND  # the year 2036


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"first")
    return path


@pytest.fixture
def times_read(tmp_path: Path) -> Callable[[Path], int]:
    """Hashes a file, as a new process would, and says how many files that read."""

    def read(path: Path) -> int:
        hashes, unreadable, count = hash_files([path], KnownHashes(tmp_path / "known.csv"), 1)
        assert hashes == [hashlib.sha256(path.read_bytes()).hexdigest()]
        assert not unreadable
        return count

    return read


def settle(path: Path, seconds: float = 0.15) -> None:
    """Until a change of the file would show."""
    while time.time() < path.stat().st_ctime + seconds:
        time.sleep(0.01)


@pytest.mark.parametrize(
    "stamp", [AHEAD, AHEAD + 123_456_789, 0, 1, -SECOND, -(10**18) + 5, 946_684_800 * SECOND]
)
def test_a_file_of_any_old_or_future_time_is_read_once(file, times_read, stamp):
    os.utime(file, ns=(stamp, stamp))
    settle(file)
    assert [times_read(file) for _ in range(3)] == [1, 0, 0]


def test_a_file_that_changed_just_now_is_read_again(file, times_read):
    assert [times_read(file) for _ in range(3)] == [1, 1, 1]


def test_a_server_whose_clock_is_ahead_is_allowed_for(file, times_read):
    soon = time.time_ns() + 60 * SECOND
    os.utime(file, ns=(soon, soon))
    settle(file)
    assert [times_read(file) for _ in range(3)] == [1, 1, 1]


def test_a_change_below_the_same_future_time_shows(file, times_read):
    os.utime(file, ns=(AHEAD, AHEAD))
    settle(file)
    assert times_read(file) == 1
    file.write_bytes(b"other")  # of the same size
    os.utime(file, ns=(AHEAD, AHEAD))
    settle(file)
    assert [times_read(file) for _ in range(2)] == [1, 0]


def test_a_file_set_ahead_just_now_may_change_again_at_the_same_stamp(
    file, times_read, monkeypatch
):
    os.utime(file, ns=(AHEAD, AHEAD))
    changed = file.stat().st_ctime_ns
    monkeypatch.setattr(hashing.time, "time_ns", lambda: changed + SECOND // 20)
    assert [times_read(file) for _ in range(2)] == [1, 1]
    monkeypatch.setattr(hashing.time, "time_ns", lambda: changed + SECOND // 5)
    assert [times_read(file) for _ in range(2)] == [1, 0]


def test_stamps_of_whole_seconds_take_longer_to_settle():
    now = time.time_ns() // SECOND * SECOND - SECOND
    assert not hashing._is_settled(("a.png", 1, AHEAD, now))
    assert hashing._is_settled(("a.png", 1, AHEAD, now - 2 * SECOND))


def test_the_time_of_any_change_matters_only_where_the_other_lies_ahead(file, times_read):
    os.utime(file, ns=(SECOND, SECOND))
    assert times_read(file) == 1
    file.chmod(0o600)
    assert times_read(file) == 0
    kept = file.with_name("known.csv").read_text()
    assert kept.count(",") == 3
