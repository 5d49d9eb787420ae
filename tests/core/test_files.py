"""Atomic files and claims, with real processes, kills and a full disk."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


# Claims


def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    with atomic(tmp_path / "weights") as temporary:
        temporary.touch(mode=0o600)  # as safetensors does
        temporary.write_bytes(b"x")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "weights").stat().st_mode == plain.stat().st_mode
