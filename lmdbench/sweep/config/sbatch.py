"""sbatch's options, as a sweep file may name them, and SLURM's ways to write times and memory."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping

# Long options of sbatch up to SLURM 24.11 that a sweep may set. Newer ones go under [slurm.extra].
OPTIONS = frozenset(
    """
    account acctg-freq batch bb bbf begin chdir cluster-constraint comment consolidate-segments
    constraint container container-id contiguous core-spec cores-per-socket cpu-freq cpus-per-gpu
    cpus-per-task deadline delay-boot distribution exclude exclusive export export-file extra
    extra-node-info get-user-env gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket
    gpus-per-task gres gres-flags hint hold ignore-pbs input kill-on-invalid-dep licenses mail-type
    mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nice no-kill nodefile
    nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket
    oom-kill-step overcommit oversubscribe partition power prefer priority profile propagate qos
    quiet reboot reservation resv-ports segment sockets-per-node spread-job stepmgr switches
    thread-spec threads-per-core time-min tmp tres-bind tres-per-task uid use-min-nodes verbose
    wait-all-nodes wckey
    """.split()  # noqa: SIM905
)

# Options that can ask for GPUs.
OF_GPUS = ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket", "gres", "tres-per-task")

# Options that ask for memory, any of which is said alone.
OF_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")

# Options of which more than 1 starts a job's process several times.
OF_PROCESSES = ("nodes", "ntasks", "ntasks-per-node")

# Option → why a sweep may not set it.
OURS = {
    "array": "lmdbench numbers the runs itself",
    "clusters": "lmdbench asks one cluster; launch from a login node of the one you mean",
    "dependency": "lmdbench lets every job wait for what it starts from",
    "error": "logs lie in the sweep's folder",
    "help": "no job comes of it",
    "job-name": "lmdbench finds its jobs by their name",
    "no-requeue": "lmdbench goes on with preempted runs",
    "open-mode": "logs go on where an earlier attempt ended",
    "output": "logs lie in the sweep's folder",
    "parsable": "lmdbench reads what sbatch answers",
    "requeue": "lmdbench sets it, and goes on with preempted runs",
    "signal": "lmdbench needs it at the time limit; signal_seconds says how long before",
    "test-only": "lmdbench sweep launch --dry-run shows the script",
    "usage": "no job comes of it",
    "version": "no job comes of it",
    "wait": "lmdbench sweep status --watch waits",
    "wrap": "lmdbench writes the script; give shell lines as setup",
}


def asks_for_gpus(options: Mapping[str, object]) -> bool:
    """Whether options of sbatch, by long name with - or _, ask for a GPU."""
    given = {name.replace("_", "-"): str(value).lower() for name, value in options.items()}
    asked = [
        (name, one.strip())
        for name in OF_GPUS
        for one in given.get(name, "").split(",")
        if one not in ("", "false")
    ]
    return any(
        ("gpu" in name or re.search(r"\b(gpu|shard|mps)\b", one))
        and not re.search(r"(^|[:=])(0|none)$", one)
        for name, one in asked
    )


def option_problem(name: str, others: Iterable[str]) -> str | None:
    """Why ``name`` (with dashes) is no option that a sweep may set; None if it is.

    ``others``: further names that are known where it stands.
    """
    if name in OURS:
        return f"{name} is not yours to set: {OURS[name]}; leave it out"
    if name in OPTIONS:
        return None
    near = difflib.get_close_matches(name, [*OPTIONS, *others], n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"unknown option of sbatch {name!r}. {hint}One that is new goes under [slurm.extra]."


def minutes(text: str | int) -> int:
    """Whole minutes, rounded up, of a time as a person or sbatch writes it.

    A number of minutes, ``90m``, ``8h``, ``1d12h``, ``MM:SS``, ``HH:MM:SS``, ``D-HH``,
    ``D-HH:MM``, ``D-HH:MM:SS``. Raises ValueError for anything else, and for no time at all.
    """
    seconds = _seconds(str(text).strip())
    if not seconds:
        raise ValueError(f"{text!r} is no time")
    return math.ceil(seconds / 60)


def mebibytes(text: str) -> int | None:
    """Whole MiB of memory as sbatch writes it: ``700M``, ``32G``, ``1T``; None if it is none."""
    found = re.fullmatch(r"(\d{1,9})([KMGT]?)B?", text.strip().upper())
    if found is None:
        return None
    size = int(found[1]) * {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}[found[2]]
    return max(1, round(size)) if size else None


def _seconds(text: str) -> int | None:
    units = re.fullmatch(r"(?:(\d{1,4})d)? ?(?:(\d{1,5})h)? ?(?:(\d{1,7})m(?:in)?)?", text)
    if units is not None:
        days, hours, mins = (int(n or 0) for n in units.groups())
        return 60 * (mins + 60 * (hours + 24 * days))
    match = re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,7})(?::(\d{1,2}))?(?::(\d{1,2}))?", text)
    if match is None:
        return None
    days, first, second, third = (int(n or 0) for n in match.groups())
    if match[1] is None and match[4] is None:
        return second + 60 * first
    return third + 60 * (second + 60 * (first + 24 * days))
