"""What not every operating system has: signals, error numbers, user ids."""

from __future__ import annotations

import errno
import os
import signal

from lmdbench.core.errors import UserError

WINDOWS = os.name == "nt"


def signals(*names: str) -> tuple[signal.Signals, ...]:
    """Signals by their names, those that this system has."""
    return tuple(signal.Signals[name] for name in names if hasattr(signal, name))


def error_numbers(*names: str) -> tuple[int, ...]:
    """Error numbers by their names, those that this system has."""
    return tuple(getattr(errno, name) for name in names if hasattr(errno, name))


def user_id() -> int:
    """The number of this process's user; 0 on Windows, which gives users none."""
    return os.getuid() if hasattr(os, "getuid") else 0


def peak_resident_mib() -> float | None:
    """The most memory that this process had since it began, in MiB; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if os.uname().sysname == "Darwin" else 2**10)  # bytes there, else KiB


def check_workers() -> None:
    """Raise UserError where a sweep's worker processes can't be watched and stopped."""
    if WINDOWS:
        raise UserError(
            "sweeps and tuning need Linux or macOS: Windows lacks the signals that stop workers in "
            "order; use WSL, or `lmdbench run` with the same settings, run after run"
        )
