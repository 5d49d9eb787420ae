"""Claims: exclusive, and free again when their process is gone."""

import errno
import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from lmdbench.core import claim as claim_module
from lmdbench.core.claim import Claim
from lmdbench.core.files import (
    HOST,
    write_json,
)

from .helpers import start_python

HOLD = """
import sys; from pathlib import Path; from lmdbench.core.claim import Claim
claim = Claim(Path(sys.argv[1]))
print(claim.acquire(), flush=True)
sys.stdin.read()
claim.release()
"""


def test_a_claim_is_exclusive_until_released(tmp_path):
    one, two = Claim(tmp_path / "claim"), Claim(tmp_path / "claim")
    assert one.holder() is None
    assert one.acquire()
    assert one.acquire()
    assert not two.acquire()
    assert one.is_mine()
    assert not two.is_mine()
    holder = two.holder()
    assert holder is not None
    assert (holder["pid"], holder["host"], holder["alive"]) == (os.getpid(), HOST, True)
    two.release()
    assert one.is_mine()
    one.release()
    assert not one.is_mine()
    assert two.acquire()
    two.release()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_of_a_killed_process_is_free_at_once(tmp_path):
    process = start_python(HOLD, tmp_path / "claim")
    assert process.stdout.readline() == "True\n"
    claim = Claim(tmp_path / "claim")
    assert not claim.acquire()
    process.kill()  # not waited for: a zombie is dead too
    deadline = time.monotonic() + 60
    while not claim.acquire():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert claim.is_mine()
    process.wait()
    claim.release()
    assert list(tmp_path.iterdir()) == []


def test_a_process_id_used_again_is_told_apart(tmp_path):
    claim = Claim(tmp_path / "claim")
    assert claim.acquire()
    record = json.loads(claim.path.read_text())
    claim.release()
    if not record["process_start"]:
        pytest.skip("this system does not tell when a process started")
    claim.path.write_text(json.dumps({**record, "token": "old", "process_start": "1"}))
    assert claim.holder()["alive"] is False
    assert claim.acquire()
    claim.release()


def test_a_holder_elsewhere_lives_by_its_heartbeat(tmp_path):
    path = tmp_path / "claim"
    record = {"token": "t", "host": "elsewhere", "pid": 1, "machine": "elsewhere"}
    path.write_text(json.dumps(record))
    claim = Claim(path)
    assert not claim.acquire()
    old = time.time() - claim_module.DEAD_AFTER_SECONDS - 5
    os.utime(path, (old, old))
    assert claim.holder()["alive"] is False
    assert claim.acquire()
    claim.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "a"}'])
def test_a_damaged_claim_is_respected_until_it_is_old(tmp_path, content):
    path = tmp_path / "claim"
    path.write_text(content)
    claim = Claim(path)
    assert not claim.acquire()
    assert claim.holder() == {"alive": True, "here": False}
    old = time.time() - claim_module.DEAD_AFTER_SECONDS - 5
    os.utime(path, (old, old))
    assert claim.acquire()
    claim.release()
    assert list(tmp_path.iterdir()) == []


def test_the_heartbeat_renews_and_stops_when_the_claim_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(claim_module, "HEARTBEAT_SECONDS", 0.02)
    claim = Claim(tmp_path / "claim")
    assert claim.acquire()
    os.utime(claim.path, (1, 1))
    deadline = time.monotonic() + 60
    while claim.path.stat().st_mtime == 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    write_json(claim.path, {"token": "another"})
    assert not claim.is_mine()
    os.utime(claim.path, (1, 1))
    time.sleep(0.1)
    assert claim.path.stat().st_mtime == 1
    claim.release()
    assert claim.path.exists()


def test_a_taker_that_died_half_way_can_be_succeeded(tmp_path):
    path = tmp_path / "claim"
    dead = {"host": "elsewhere", "pid": 1, "machine": "elsewhere"}
    chain = {path: "a", tmp_path / ".claim.after-a": "b", tmp_path / ".claim.after-b": "c"}
    for file, token in chain.items():
        file.write_text(json.dumps({**dead, "token": token}))
        os.utime(file, (1, 1))
    claim = Claim(path)
    assert claim.holder()["token"] == "c"
    assert claim.acquire()
    assert list(tmp_path.iterdir()) == [path]
    assert json.loads(path.read_text())["token"] == claim.token
    claim.release()


def test_works_on_a_file_system_without_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    one, two = Claim(tmp_path / "claim"), Claim(tmp_path / "claim")
    assert one.acquire()
    assert not two.acquire()
    one.release()


RACE = """
import sys, time; from pathlib import Path; from lmdbench.core.claim import Claim
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
start = time.monotonic()
won = []
for i in range(rounds):
    time.sleep(max(0, start + 0.03 * i - time.monotonic()))
    claim = Claim(folder / str(i) / "claim")
    won.append(claim.acquire() and claim.is_mine())
print(*map(int, won), flush=True)
sys.stdin.readline()
"""


def test_of_racing_takers_of_a_dead_claim_exactly_one_wins(tmp_path):
    rounds = 20
    dead = {"token": "dead", "host": "elsewhere", "pid": 1, "machine": "elsewhere"}
    for i in range(rounds):
        path = tmp_path / str(i) / "claim"
        path.parent.mkdir()
        path.write_text(json.dumps(dead))
        os.utime(path, (1, 1))
    racers = [start_python(RACE, tmp_path, rounds) for _ in range(4)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    wins = [list(map(int, racer.stdout.readline().split())) for racer in racers]
    assert [sum(column) for column in zip(*wins, strict=True)] == [1] * rounds
    claims = [Claim(tmp_path / str(i) / "claim") for i in range(rounds)]
    assert all(claim.holder()["alive"] and not claim.acquire() for claim in claims)
    for racer in racers:
        racer.communicate("\n")
    assert all(len(list((tmp_path / str(i)).iterdir())) == 1 for i in range(rounds))


COUNT = """
import sys, time; from pathlib import Path; from lmdbench.core.claim import Claim
folder = Path(sys.argv[1])
for _ in range(30):
    claim = Claim(folder / "claim")
    while not claim.acquire():
        time.sleep(0.0005)
    (folder / "inside").open("x").close()
    counter = folder / "counter"
    counter.write_text(str(int(counter.read_text()) + 1))
    (folder / "inside").unlink()
    claim.release()
"""


def test_claims_taken_and_released_in_turn_never_overlap(tmp_path):
    (tmp_path / "counter").write_text("0")
    workers = [start_python(COUNT, tmp_path) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "90"
    assert {p.name for p in tmp_path.iterdir()} == {"counter"}


@pytest.mark.skipif(not Path("/proc").exists(), reason="tells dead processes by /proc")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_claims_never_overlap_while_processes_are_killed(tmp_path):
    """The kernel's own lock, which ends with a process and all its threads, is the witness."""
    fcntl = pytest.importorskip("fcntl")

    def work() -> None:
        while True:
            claim = Claim(tmp_path / "claim")
            if claim.acquire():
                with (tmp_path / "lock").open("w") as lock, (tmp_path / "count").open("a") as count:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        (tmp_path / "overlap").touch()
                    count.write("x")
                    time.sleep(0.001)
                claim.release()

    def start() -> multiprocessing.Process:
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        return process

    workers = [start() for _ in range(3)]
    for i in range(40):
        time.sleep(0.03 * (i % 7) / 7)
        workers[i % 3].kill()
        workers[i % 3].join()
        workers[i % 3] = start()
    for worker in workers:
        worker.kill()
        worker.join()
    assert not (tmp_path / "overlap").exists()
    assert len((tmp_path / "count").read_text()) > 10
    claim = Claim(tmp_path / "claim")
    assert claim.acquire()
    claim.release()
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "count"}


def test_a_claim_where_calls_are_refused(on_refusing_disk, tmp_path):
    code = """
import os, sys; from pathlib import Path; from lmdbench.core.claim import Claim
path = Path("claim").absolute()
for calls in ("link", "replace", "utime", "link,replace,utime,chmod,fsync"):
    for error in sys.argv[1:]:
        os.environ.update(FAULT_CALLS=calls, FAULT_ERRNO=error)
        one, two = Claim(path), Claim(path)
        assert one.acquire() and not two.acquire() and one.is_mine(), (calls, error)
        one.release()
        assert two.acquire() and not one.is_mine(), (calls, error)
        two.release()
        assert os.listdir() == [], os.listdir()
"""
    errnos = (errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
    done = on_refusing_disk(code, *errnos)
    assert done.returncode == 0, done.stderr


def test_a_dead_claim_is_taken_where_nothing_is_renamed_over(on_refusing_disk, tmp_path):
    claim = tmp_path / "claim"
    claim.write_text(json.dumps({"token": "old", "machine": "elsewhere"}))
    long_ago = time.time() - 1000
    os.utime(claim, (long_ago, long_ago))
    code = """
import os; from pathlib import Path; from lmdbench.core.claim import Claim
path = Path("claim").absolute()
one, two = Claim(path), Claim(path)
assert one.acquire() and one.is_mine() and not two.acquire()
one.release()
assert two.acquire() and not one.is_mine()
"""
    done = on_refusing_disk(code, calls="replace,link", errno=errno.EPERM)
    assert done.returncode == 0, done.stderr


def test_heartbeats_where_nobody_may_set_times(on_refusing_disk, tmp_path):
    code = """
import os, time; from pathlib import Path; from lmdbench.core import claim
claim.HEARTBEAT_SECONDS = 0.05
path = Path("claim").absolute()
one = claim.Claim(path)
assert one.acquire()
began, text = path.stat().st_mtime_ns, path.read_text()
deadline = time.monotonic() + 20
while path.stat().st_mtime_ns == began:
    assert time.monotonic() < deadline
    time.sleep(0.02)
assert path.read_text() == text and one.is_mine()
"""
    done = on_refusing_disk(code, calls="utime", errno=errno.EPERM)
    assert done.returncode == 0, done.stderr


def test_a_stale_claim_is_read_again_and_then_counts_as_gone(on_refusing_disk, tmp_path):
    code = """
from pathlib import Path; from lmdbench.core import files; from lmdbench.core.claim import Claim
files.PAUSES = (0.01,) * len(files.PAUSES)
print(Claim(Path("claim")).holder())
"""
    (tmp_path / "claim").write_text(json.dumps({"token": "a", "machine": "elsewhere"}))
    faults = {"name": "claim", "from": 1, "errno": errno.ESTALE}
    assert "'token': 'a'" in on_refusing_disk(code, **faults, to=1).stdout
    assert on_refusing_disk(code, **faults, to=99).stdout == "None\n"
    faults["errno"] = errno.EIO
    said = on_refusing_disk(code, **faults, to=99).stderr.strip().split("\n")[-1]
    assert "claim: cannot be read (Input/output error); its disk or server does not" in said


def test_a_claim_whose_time_lies_ahead_dies_once_it_stayed_so(tmp_path, monkeypatch):
    path = tmp_path / "claim"
    path.write_text(json.dumps({"token": "old", "machine": "elsewhere"}))
    ahead = time.time() + 10_000
    os.utime(path, (ahead, ahead))
    claim = Claim(path)
    assert claim.holder()["alive"]
    monkeypatch.setattr(claim_module, "DEAD_AFTER_SECONDS", 0.05)
    time.sleep(0.1)
    os.utime(path, (ahead + 1, ahead + 1))  # a heartbeat
    assert claim.holder()["alive"]
    time.sleep(0.1)
    assert not claim.holder()["alive"]
    assert claim.acquire()
    claim.release()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\x00\xfe binary",
        b'{"token": 3}',
        b'{"token": "a/b"}',
        b'{"token": "t", "pid": "x", "machine": "MACHINE"}',
        b'{"token": "t", "machine": "MACHINE"}',
        None,
    ],
)
def test_a_damaged_claim_is_held_by_nobody_known_and_can_be_taken(tmp_path, content):
    """None: a folder in its place. Its holder may live elsewhere, so it counts until it is old."""
    path = tmp_path / "running.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content.replace(b"MACHINE", claim_module._machine().encode()))
    claim = Claim(path)
    holder = claim.holder()
    assert holder is not None
    assert holder["alive"]
    assert not claim.acquire()
    os.utime(path, (1, 1))
    assert not claim.holder()["alive"]
    assert claim.acquire()
    assert claim.is_mine()
    assert not Claim(path).acquire()
    claim.release()
    assert not (claim.holder() or {}).get("alive")
    assert Claim(path).acquire()
