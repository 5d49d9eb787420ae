"""Jobs in the background of this machine, one at a time: the docs' example of an executor."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lmdbench.sweep.executors import CommandExecutor, Job, register_executor


@register_executor("one-by-one", title="In the background of this machine, one at a time")
class OneByOne(CommandExecutor):
    """On Linux, whose flock has all jobs but one wait. They survive the terminal."""

    def submit(self, job: Job) -> str:
        lock = job.log.parent / "one-by-one.lock"
        with job.log.open("a") as log:
            process = subprocess.Popen(
                ["flock", lock, *job.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return str(process.pid)

    def alive(self, ids: Sequence[str]) -> Mapping[str, str]:
        return {pid: "running" for pid in ids if self._is_ours(pid)}

    def cancel(self, ids: Sequence[str]) -> None:
        for pid in filter(self._is_ours, ids):
            os.killpg(int(pid), signal.SIGINT)

    def _is_ours(self, pid: str) -> bool:
        """Whether the process lives, and is no other one that has its number by now."""
        with suppress(OSError):
            return b"lmdbench.sweep" in Path(f"/proc/{pid}/cmdline").read_bytes()
        return False
