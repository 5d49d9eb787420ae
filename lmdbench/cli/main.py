"""Entry point. It imports next to nothing, so that Ctrl-C finds it ready as soon as may be."""

from __future__ import annotations

import atexit
import os
import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """The ``lmdbench`` command: exits with 0 for success, 2 for a user's mistake, 1 for a failed
    run, 130 where it was interrupted."""
    atexit.register(_on_interrupt, signal.SIG_IGN)  # first in, so the last thing that is done
    _on_interrupt(_leave_and_say)  # nothing has begun that would have to be put away
    from lmdbench.cli.commands import exit_code

    _on_interrupt(signal.default_int_handler)
    try:
        code = exit_code()
    except KeyboardInterrupt:  # again, while the first was being told
        code = INTERRUPTED
    _on_interrupt(_leave)
    sys.exit(code)


def _leave_and_say(*_: object) -> None:
    os.write(2, b"\nlmdbench: interrupted\n")
    _leave()


def _leave(*_: object) -> None:
    """At once: what runs at the end of a process would be interrupted, too, with a traceback."""
    os._exit(INTERRUPTED)


OURS = (signal.default_int_handler, _leave_and_say, _leave)


def _on_interrupt(handler: object) -> None:
    """Of Ctrl-C and what is taken as such; a shell that has it ignored, as behind ``&``, has its
    way.

    To ignore it is right once all is put away: Python gives each other handler back to the system
    as it ends, and a process that was done would seem to be killed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in OURS:
            signal.signal(number, handler)  # type: ignore[arg-type]
