"""Ends a worker whose pool was killed, even where its own threads can't run any more."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
# Linux itself never sends this one, and it is not among those that SLURM sends.
TOLD_BY = 16  # SIGSTKFLT


def end_with_parent(number: int = TOLD_BY) -> None:
    """Have this process end by SIGALRM ``number`` seconds after its parent died.

    Its input ends then as well, which stops it in order, but not while a library holds Python's
    lock. So the kernel tells it by the signal ``number``, and what handles that is no Python code
    but the C library's ``alarm``, which takes the number that it is handed for seconds.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    parent = os.getppid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    libc.signal(number, ctypes.cast(libc.alarm, ctypes.c_void_p))
    libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # which died meanwhile
        os.kill(os.getpid(), number)
