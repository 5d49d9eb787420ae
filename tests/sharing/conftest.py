"""Two labs with finished runs of one split, and archives that nobody should trust."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lmdbench.runs.record import seal

FakeRun = Callable[..., Path]


def resealed(files: Mapping[str, bytes], key: str) -> bytes:
    """The record of a run of an archive with the digests of it and of the predictions there."""
    record = json.loads(files[f"{key}/run.json"])
    predictions = files[f"{key}/predictions.npz"]
    record["digests"] = {"predictions": hashlib.sha256(predictions).hexdigest()}
    record["digests"]["record"] = seal(record)
    return json.dumps(record).encode()


@pytest.fixture
def lab(tmp_path: Path, fake_run: FakeRun) -> Path:
    """A results folder with ce and crt of seeds 0 and 1, and what else a run leaves behind."""
    results = tmp_path / "lab"
    for seed in (0, 1):
        ce = fake_run("ce", seed, results=results, skill=1.0)
        crt = fake_run("crt", seed, results=results, skill=2.0, ancestor=ce)
        for run in (ce, crt):
            (run / "history.csv").write_text("epoch,loss\n1,0.5\n2,\n")
            (run / "model.safetensors").write_bytes(b"weights")
            os.utime(run / "model.safetensors", (1, 1))  # not looked into
            (run / "run.log").write_text("process 7 on gpu-of-anna\n")
    return results


@pytest.fixture
def exported(lab: Path, tmp_path: Path, lmdbench: Callable[..., Any]) -> Path:
    path = tmp_path / "lab.zip"
    assert lmdbench("results", "export", "--results", lab, "--output", path).code == 0
    return path


@pytest.fixture
def rewrite(exported: Path, tmp_path: Path) -> Callable[..., Path]:
    """``rewrite(change)``: the archive with ``change(files)`` done to name → bytes; ``honest`` puts
    the hashes of what was changed into the manifest, and but for ``sealed`` into the records."""

    def write(
        change: Callable[[dict[str, bytes]], None], *, honest: bool = False, sealed: bool = False
    ) -> Path:
        with zipfile.ZipFile(exported) as file:
            files = {name: file.read(name) for name in file.namelist()}
        change(files)
        if honest:
            manifest = json.loads(files["manifest.json"])
            for entry in () if sealed else manifest["runs"]:
                files[f"{entry['key']}/run.json"] = resealed(files, entry["key"])
            for entry in manifest["runs"] + manifest["audits"] + manifest["sweeps"]:
                for name in entry["files"]:
                    text = files[f"{entry['key']}/{name}"]
                    entry["files"][name] = hashlib.sha256(text).hexdigest()
            files["manifest.json"] = json.dumps(manifest).encode()
        path = tmp_path / "changed.zip"
        with zipfile.ZipFile(path, "w") as file:
            for name, text in files.items():
                file.writestr(name, text)
        return path

    return write


@pytest.fixture
def unpacked(exported: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    shutil.unpack_archive(exported, folder)
    return folder
