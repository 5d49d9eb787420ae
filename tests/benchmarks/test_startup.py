"""What is said where the start of a run can't be measured; where it can: see test_suite."""

import pytest
import startup
import torch

from lmdbench.core.errors import UserError

CPU = torch.device("cpu")


def test_too_little_room_is_said_before_anything_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(startup, "ROOM", 1 << 62)
    monkeypatch.setattr(startup.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UserError, match=r"MiB free, which measuring the start.*TMPDIR"):
        startup.measure_start(CPU, 1.0)


def test_a_folder_that_is_gone(monkeypatch, tmp_path):
    monkeypatch.setattr(startup.tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"cannot write in .*gone"):
        startup.measure_start(CPU, 1.0)


def test_a_run_that_fails_says_why(monkeypatch, tmp_path):
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"start was to be measured failed: lmdbench: "):
        startup.measure_start(CPU, 1.0)
