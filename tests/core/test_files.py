"""Atomic files and claims, with real processes, kills and a full disk."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lmdbench.core import files
from lmdbench.core.errors import DiskError, UserError
from lmdbench.core.files import (
    Claim,
    atomic,
    disk_errors,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of one MiB; needs root."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted as root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def start_python(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# Atomic files


def test_atomic_replaces_whole_and_keeps_the_suffix(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_text("old")
    with atomic(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".npz"
        assert str(os.getpid()) in temporary.name
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_leaves_the_old_file_after_an_exception(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_round_trip_and_damage(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"classes": ["naïve", "b"], "n": 3})
    assert read_json(path) == {"classes": ["naïve", "b"], "n": 3}
    path.write_text(path.read_text()[:-5])
    with pytest.raises(UserError, match=r"run\.json: damaged"):
        read_json(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"run\.json: damaged"):
        read_json(path)
    with pytest.raises(UserError, match=r"absent\.json: no such file"):
        read_json(tmp_path / "absent.json")


def test_a_full_disk_is_a_user_error_and_overwrites_nothing(small_disk):
    path = small_disk / "a.txt"
    path.write_text("old")
    with pytest.raises(UserError, match=f"no space left on {small_disk}") as caught:
        write_text(path, "x" * (2 << 20))
    assert "\n" not in str(caught.value)
    tensors = {"a": torch.zeros(1 << 20)}
    with pytest.raises(UserError, match="no space left"), atomic(path) as temporary:
        torch.save(tensors, temporary)
    with pytest.raises(UserError, match="no space left"), atomic(path) as temporary:
        save_file(tensors, temporary)
    assert path.read_text() == "old"
    assert list(small_disk.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path, code):
    with pytest.raises(UserError, match=f"cannot write in {tmp_path}"), atomic(tmp_path / "a"):
        raise OSError(code, os.strerror(code))


def test_a_file_in_the_place_of_the_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write in"):
        write_text(tmp_path / "file" / "a.txt", "")
    with pytest.raises(UserError, match="cannot write in"):
        Claim(tmp_path / "file" / "claim").acquire()


def test_trouble_with_a_disk_that_a_library_reports_in_its_own_way(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(DiskError, match=f"in {gone}: No such file"), disk_errors(gone):
        torch.save({}, gone / "checkpoint.pt")  # a RuntimeError
    with pytest.raises(RuntimeError, match="of another kind"), disk_errors(tmp_path):
        raise RuntimeError("of another kind")
    assert not list(tmp_path.iterdir())


def test_only_leftovers_of_others_are_removed(tmp_path):
    other = start_python(
        "import os, sys; from pathlib import Path; from lmdbench.core.files import atomic\n"
        "with atomic(Path(sys.argv[1])) as t:\n    t.write_text('x'); os.kill(os.getpid(), 9)",
        tmp_path / "big.npy",
    )
    assert other.wait() == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with atomic(tmp_path / "mine.npy") as temporary:
        temporary.write_text("x")
        (tmp_path / ".hidden").write_text("")
        remove_leftovers(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {".hidden", temporary.name}


# Claims

HOLD = """
import sys; from pathlib import Path; from lmdbench.core.files import Claim
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
    assert (holder["pid"], holder["host"], holder["alive"]) == (os.getpid(), files.HOST, True)
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
    old = time.time() - files.DEAD_AFTER_SECONDS - 5
    os.utime(path, (old, old))
    assert claim.holder()["alive"] is False
    assert claim.acquire()
    claim.release()


def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    with atomic(tmp_path / "weights") as temporary:
        temporary.touch(mode=0o600)  # as safetensors does
        temporary.write_bytes(b"x")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "weights").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "a"}'])
def test_a_damaged_claim_is_respected_until_it_is_old(tmp_path, content):
    path = tmp_path / "claim"
    path.write_text(content)
    claim = Claim(path)
    assert not claim.acquire()
    assert claim.holder() == {"alive": True, "here": False}
    old = time.time() - files.DEAD_AFTER_SECONDS - 5
    os.utime(path, (old, old))
    assert claim.acquire()
    claim.release()
    assert list(tmp_path.iterdir()) == []


def test_the_heartbeat_renews_and_stops_when_the_claim_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "HEARTBEAT_SECONDS", 0.02)
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
import sys, time; from pathlib import Path; from lmdbench.core.files import Claim
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
import sys, time; from pathlib import Path; from lmdbench.core.files import Claim
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
