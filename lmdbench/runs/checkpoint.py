"""Checkpoints: read whole, or not at all."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lmdbench.core.errors import Damaged, DiskError
from lmdbench.core.files import read_file

CHECKPOINT = "checkpoint.pt"
OUT_OF_MEMORY = (MemoryError, torch.cuda.OutOfMemoryError)  # says nothing about the file


def read_checkpoint(path: Path, run: str) -> Mapping[str, Any]:
    """What a checkpoint of the run with this id holds, on the CPU.

    Each tensor lies in the file with a CRC-32, which torch writes and does not look at. Raises
    Damaged, naming the file, where one differs, or the file is cut short, no checkpoint, or of
    another run; and DiskError where it cannot be read.
    """
    try:
        content = read_file(path, _content)
        of = content.get("run", run)  # versions before this one did not say
    except (Damaged, DiskError, *OUT_OF_MEMORY):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise Damaged(f"{path}: damaged ({_reason(error)})") from error
    if of != run:
        raise Damaged(f"{path}: damaged, it is of another run ({of!a:.10})")
    return dict(content)


def _content(path: Path) -> Any:
    """Opened here, as torch tells no reason where it opens a file."""
    with path.open("rb") as file:
        with zipfile.ZipFile(file) as parts:
            if (changed := parts.testzip()) is not None:
                raise ValueError(f"the bytes of {changed} have changed")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), "").split(". ")[0]
    return f"{type(error).__name__}: {line[:100]}".removesuffix(": ")
