"""Which GPUs there are, without asking CUDA: a process that did would hold memory on each."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import metadata

from lmdbench.core.errors import UserError

LISTING = ("nvidia-smi", "-L")
LISTING_SECONDS = 60.0  # a driver that hangs makes it hang, too
NONE_FOUND = 6  # its exit code where the driver works and shows no GPU


class NoGpu(UserError):
    """There is no GPU to be used, or none that is known. ``why``: without what to do."""

    def __init__(self, why: str, way: str = "work on the CPU with --workers N") -> None:
        super().__init__(f"{why}; {way}")
        self.why = why


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Raises NoGpu where that can't be told: ``nvidia-smi`` fails, or torch is built for others.
    """
    if why := foreign_build(metadata.version("torch")):
        raise NoGpu(why, "install torch for CUDA, or work on the CPU with --workers N")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        end = next((n for n, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:end]
    if shutil.which(LISTING[0]) is None:
        return []
    return parse_listing(_listing())


def parse_listing(text: str) -> list[str]:
    """The devices that ``nvidia-smi -L`` names: the parts of a GPU that is divided, else GPUs."""
    found: list[str] = []
    whole = ""
    for line in text.splitlines():
        uuid = line.rpartition("(UUID: ")[2].removesuffix(")")
        if line.startswith("GPU "):
            found.append(uuid)
            whole = uuid
        elif line.strip().startswith("MIG "):
            if found[-1:] == [whole]:
                found.pop()
            found.append(uuid)
    return found


def none_shown() -> str:
    """Where it was seen that there is no GPU, for a sentence."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES={visible}"
    there = shutil.which(LISTING[0]) is not None
    return "nvidia-smi shows none" if there else "there is no nvidia-smi"


def foreign_build(version: str) -> str:
    """Why a build of torch can't use its GPUs here, in a line; empty if it is for CUDA or CPUs."""
    if "+rocm" not in version:
        return ""
    return f"torch {version} is built for AMD's GPUs (ROCm), on which lmdbench does not run"


def _listing() -> str:
    """What ``nvidia-smi -L`` prints. Raises NoGpu where it fails."""
    try:
        listed = subprocess.run(
            LISTING, capture_output=True, text=True, check=False, timeout=LISTING_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        late = isinstance(error, subprocess.TimeoutExpired)
        raise _unlisted(f"no answer in {LISTING_SECONDS:.0f} s" if late else str(error)) from error
    if listed.returncode not in (0, NONE_FOUND):
        said = (listed.stdout + listed.stderr).strip().splitlines() or ["it said nothing"]
        raise _unlisted(f"exit code {listed.returncode}: {said[0]}")
    return listed.stdout


def _unlisted(why: str) -> NoGpu:
    return NoGpu(
        f"nvidia-smi fails ({why}), so which GPUs there are is not known",
        "mend its driver, name GPUs by CUDA_VISIBLE_DEVICES, or work on the CPU with --workers N",
    )
