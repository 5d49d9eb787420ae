"""Atomic files and claims, with real processes, kills and a full disk."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lmdbench.core import files
from lmdbench.core.claim import Claim
from lmdbench.core.errors import DiskError, UserError
from lmdbench.core.files import (
    atomic,
    disk_errors,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)

from .helpers import start_python


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


ERRNOS = (errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def test_calls_that_only_improve_may_be_refused(on_refusing_disk, tmp_path):
    code = """
import os, sys; from pathlib import Path; from lmdbench.core.files import write_text
path = Path("a.txt").absolute()
for call in sys.argv[1].split(","):
    for error in sys.argv[2].split(","):
        os.environ.update(FAULT_CALLS=call, FAULT_ERRNO=error)
        write_text(path, call + error)
        assert path.read_text() == call + error
        assert os.listdir() == ["a.txt"], os.listdir()
"""
    calls = "chmod,fsync,replace,utime,link,mmap"
    done = on_refusing_disk(code, calls, ",".join(map(str, ERRNOS)))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fails_to_sync_is_an_error(on_refusing_disk, tmp_path, error):
    code = """
from pathlib import Path; from lmdbench.core.files import *; from lmdbench.core.errors import *
try:
    write_text(Path("a.txt").absolute(), "new")
except DiskError as error:
    print(error)
"""
    (tmp_path / "a.txt").write_text("old")
    done = on_refusing_disk(code, calls="fsync", errno=error)
    words = "cannot write in" if error == errno.EIO else "no space left on"
    assert done.stdout.startswith(words), done
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_without_fsync_is_told_once(monkeypatch, tmp_path, caplog):
    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    with caplog.at_level("INFO", "lmdbench"):
        for _ in range(3):
            write_text(tmp_path / "a", "")
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [str(tmp_path)]
    assert "may not survive a power failure" in caplog.text


@pytest.mark.parametrize(
    "error", [errno.ESTALE, errno.EIO, errno.EAGAIN, errno.ETIMEDOUT, errno.EBUSY]
)
def test_a_reading_that_stumbles_is_tried_again(on_refusing_disk, tmp_path, error):
    write_json(tmp_path / "a.json", [1])
    code = """
from pathlib import Path; from lmdbench.core import files
files.PAUSES = (0.01,) * len(files.PAUSES)
print(files.read_json(Path('a.json')))
"""
    faults = {"name": "a.json", "from": 1, "errno": error}
    assert on_refusing_disk(code, **faults, to=2).stdout == "[1]\n"
    failed = on_refusing_disk(code, **faults, to=99).stderr.strip().split("\n")[-1]
    assert f"DiskError: a.json: cannot be read ({os.strerror(error)}); its disk" in failed


def test_a_disk_that_is_gone_is_not_waited_for_at_each_file(monkeypatch):
    monkeypatch.setattr(files, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(files, "_in_vain", 0)
    tries = []

    def read() -> None:
        tries.append(1)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for _ in range(20):
        with pytest.raises(OSError, match="Input/output"):
            files.patiently(read)
    assert len(tries) == 3 * files.VAIN + 20 - files.VAIN


def test_what_a_kill_left_between_two_renames_comes_back(tmp_path):
    (tmp_path / ".a.txt~before").write_text("old")
    (tmp_path / "b.txt").write_text("new")
    (tmp_path / ".b.txt~before").write_text("old")
    remove_leftovers(tmp_path)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"a.txt": "old", "b.txt": "new"}


# Claims


def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    with atomic(tmp_path / "weights") as temporary:
        temporary.touch(mode=0o600)  # as safetensors does
        temporary.write_bytes(b"x")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "weights").stat().st_mode == plain.stat().st_mode
