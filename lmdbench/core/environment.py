"""Where a run works: versions, commit, device, memory."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmdbench.core.cores import usable_cores
from lmdbench.core.determinism import gpu_settings
from lmdbench.core.errors import UserError
from lmdbench.core.folders import settle_libraries
from lmdbench.core.gpus import foreign_build
from lmdbench.core.system import peak_resident_mib
from lmdbench.version import __version__

DRIVER = Path("/proc/driver/nvidia/version")


def environment(device: torch.device) -> dict[str, Any]:
    """What bit-identical results depend on besides the run itself, and the commit of the code."""
    return {
        "versions": {
            "lmdbench": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": metadata.version("torchvision"),  # to import it takes a second
            "numpy": np.__version__,
        },
        "git_commit": git_commit(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "gpu": gpu_facts(device),
    }


def limit_threads() -> None:
    """Let torch have no more CPU threads than processors that this process may use, unless the user
    said how many: by itself it does not know of a container's quota, nor of SLURM."""
    if not os.environ.keys() & {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}:
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def choose_device(text: str) -> torch.device:
    """``auto`` is the GPU where there is one. Raises UserError for a device that is not there.

    From then on no more CPU threads work than there are processors for, and a GPU that was named by
    its number is the current one.
    """
    limit_threads()
    settle_libraries()
    if text != "cpu" and (why := foreign_build(torch.__version__)):
        raise UserError(f"{why}; install torch for CUDA, or give --device cpu")
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", text)
    if match is None:
        raise UserError(
            f"--device {text!r}: give auto, cpu, cuda or cuda:N, as lmdbench runs on no other"
        )
    if text != "cpu" and int(match[1] or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {text}: {_gpus_shown()}")
    if match[1] is not None:
        torch.cuda.set_device(int(match[1]))  # graphs are captured on the current one
    return torch.device(text)


def _gpus_shown() -> str:
    """How many GPUs torch sees, with what hides them where it sees none."""
    shown = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown == 0 and torch.version.cuda is None:
        return f"this machine shows 0 GPUs: torch {torch.__version__} is built without CUDA"
    hidden = f" (CUDA_VISIBLE_DEVICES={visible})" if visible is not None else ""
    return f"this machine shows {shown} GPU{'s' * (shown != 1)}{hidden}"


def unused_gpu() -> str:
    """Why torch can't use a GPU whose driver is loaded, in a line; empty where it can, there is
    none, or CUDA_VISIBLE_DEVICES says which to use."""
    hidden = "CUDA_VISIBLE_DEVICES" in os.environ
    if hidden or torch.cuda.is_available() or (driver := driver_version()) is None:
        return ""
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return (
        f"working on the CPU: NVIDIA's driver {driver} is loaded, but torch {torch.__version__}, "
        f"built {built}, can't use it; give --device cpu to say that it is meant"
    )


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"


def gpu_facts(device: torch.device) -> dict[str, Any] | None:
    """A GPU's memory in MiB, what drives it, and what its numbers are; None on the CPU."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return {
        "memory_mib": properties.total_memory >> 20,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": driver_version(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        **gpu_settings(),
    }


def driver_version() -> str | None:
    """Of NVIDIA's kernel module, such as 580.95.05; None where it can't be told."""
    try:
        found = re.search(r"Module(?: for \S+)?\s+(\d[\d.]*)", DRIVER.read_text(errors="replace"))
    except OSError:
        return None
    return found and found[1]


def lost_device(device: torch.device) -> str:
    """Why this process can't use its GPU any more, after ``its process``; empty if it can. Errors
    such as an illegal access stay until a process ends, however sound its other work."""
    if device.type != "cuda":
        return ""
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        return f"can't use its GPU any more: {reason}"
    return ""


def git_commit() -> str | None:
    """The commit of the checkout that lmdbench runs from, None where it is in none."""
    if shutil.which("git") is None:
        return None
    answers = []
    for command in (
        ["ls-files", "--error-unmatch", Path(__file__).name],  # else the checkout is another's
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "--untracked-files=no"],
    ):
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *command],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            return None
        answers.append(result.stdout.strip())
    _, commit, changes = answers
    return f"{commit} with uncommitted changes" if changes else commit


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mib(device: torch.device) -> float | None:
    """Of the GPU, what tensors took at most since the reset; without a GPU, the process since it
    began, or None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_resident_mib()


def peak_reserved_mib(device: torch.device) -> float | None:
    """Of the GPU, what torch held at most since the reset, used or not; None on the CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_reserved(device) / 2**20
