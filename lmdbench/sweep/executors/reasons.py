"""Why a job ended, in a line for people, read from its log and from what SLURM says of it.

SLURM's own words count more than what the program said before: a job that runs out of memory has
no last words. The wordings are those of SLURM 20 to 24, whose differences are small.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lmdbench.runs.attempts import Cause, cause_in

MOST_READ = 1 << 16  # bytes of a log's end
MOST_SAID = 240  # characters of a program's own line
NEW_LIFE = "Starting with JobEnvironment"  # submitit, where a job begins or begins again


@dataclass(frozen=True)
class Reason:
    """``text``: one line; empty where nothing is known. ``sure``: SLURM itself says so."""

    cause: Cause = "unknown"
    text: str = ""
    sure: bool = False

    def __bool__(self) -> bool:
        return bool(self.text)


NOTHING = Reason()

# What SLURM prints into a job's log when it ends it, the surest first; ``%s``: what the words name.
ENDED_BY_SLURM: tuple[tuple[Cause, str, str], ...] = (
    (
        "memory",
        r"oom[-_ ]kill|Out Of Memory|OUT_OF_MEMORY"
        r"|(?:Step|Job).* exceeded (?:job |virtual )?memory limit"
        r"|Exceeded (?:job|step) memory limit",
        "out of memory: SLURM ended it; give it more mem in [slurm], or mem under [retry]",
    ),
    (
        "time",
        r"DUE TO TIME LIMIT|DUE TO TIMELIMIT",
        "at its time limit; give it more time in [slurm], or time under [retry]",
    ),
    (
        "node",
        r"ON (\S+) CANCELLED AT \S+ DUE TO NODE FAILURE|Node failure on (\S+)|DUE TO NODE FAILURE",
        "node failure: %s went down",
    ),
    ("cancelled", r"DUE TO PREEMPTION|DUE TO PREEMPT", "preempted, and not queued again"),
    ("cancelled", r"CANCELLED AT \S+ DUE TO JOB REQUEUE", "requeued, and not begun again"),
    ("unknown", r"CANCELLED AT \S+ DUE TO (.+?) \*\*\*", "cancelled by SLURM: %s"),
    ("cancelled", r"CANCELLED AT (\S+?)(?: by \S+)? \*\*\*", "cancelled at %s"),
    (
        "unknown",
        r"execve\(\): (.+: No such file or directory)",
        "its program is not on the node: %s",
    ),
    ("unknown", r"execve\(\): (.+)", "its program can't be started on the node: %s"),
    ("unknown", r"error: ((?:pyxis|enroot)\b.+)", "its container can't be started: %s"),
    ("unknown", r"^FATAL: +(.+)", "its container can't be started: %s"),
)
# How srun calls the end of a process, if nobody says it better.
SIGNALLED: tuple[tuple[Cause, str, str], ...] = (
    ("crash", r"srun: error: (\S+): tasks? .*: Aborted", "it aborted on %s (SIGABRT)"),
    ("crash", r"srun: error: (\S+): tasks? .*: Segmentation fault", "segmentation fault on %s"),
    ("crash", r"srun: error: (\S+): tasks? .*: Bus error", "bus error on %s, as of full /dev/shm"),
    ("crash", r"srun: error: (\S+): tasks? .*: Illegal instruction",
     "illegal instruction on %s: built for another processor?"),
    ("crash", r"srun: error: (\S+): tasks? .*: Floating point", "floating point exception on %s"),
    ("signal", r"srun: error: (\S+): tasks? .*: Killed",
     "killed on %s (SIGKILL), as happens when memory runs out"),
    ("signal", r"srun: error: (\S+): tasks? .*: (?:Terminated|User defined signal 2)",
     "ended on %s by a signal"),
    ("unknown", r"couldn't chdir to `?(.+?)'?: ", "its folder is not on the node: %s"),
    ("unknown", r"(Task launch for \S+ failed on node .+)", "%s"),
    ("unknown", r"error: (Unable to (?!rmdir|unmount|unlink).+)", "%s"),
    ("crash", r"slurm_script: line \d+: +\d+ (Aborted|Segmentation fault|Bus error)", "%s"),
    ("signal", r"slurm_script: line \d+: +\d+ Killed",
     "killed (SIGKILL), as happens when memory runs out"),
    ("signal", r"Exited with exit code 137", "killed (exit code 137), as when memory runs out"),
    ("crash", r"Exited with exit code 134", "it aborted (exit code 134)"),
    ("unknown", r"Exited with exit code 127", "exit code 127: a command was not found"),
    ("unknown", r"(?:slurmstepd|srun|slurmd): error: (?!.*Exited with exit code)(.+)", "%s"),
)  # fmt: skip
# What SLURM, srun and submitit add to the end of any log.
EMPTY_WORDS = re.compile(
    r"(srun|slurmstepd|slurmd)(:|\[)|submitit |During handling of the above|The above exception "
)
OF_TRACEBACKS = re.compile(r"^[ |+\-]*(?:Exception Group )?Traceback \(most recent call last\):")

# Also as ``srun --label`` and newer versions begin them, and what the shell says of a killed srun
OF_SLURM = re.compile(
    r"\[[^\]]+\] error:|\S+/slurm_script: line \d+: +\d+ "
    r"|(\d+: )?(slurmstepd|slurmd|srun|sbatch|salloc|pyxis|FATAL)\b"
)
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
AN_EPOCH = re.compile(r": (epoch \d+/\d+  |done in |starting$)")
OF_LMDBENCH = re.compile(r"^lmdbench\.core\.errors\.\w+: ")  # of which the text says all
IN_GROUP = re.compile(r"^ +[|+]-? ?")  # before what belongs to an exception group


def last_words(log: Path) -> str:
    """The line of a job's log that says best what went wrong; empty where there is none."""
    return of_log(log).text


def of_log(log: Path) -> Reason:
    """Why a job ended, as far as its log tells."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - MOST_READ))
            text = file.read().decode(errors="replace")
    except OSError:
        return NOTHING
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", COLOURS.sub("", text))]
    begun = [number for number, line in enumerate(lines) if NEW_LIFE in line]
    return of_lines(lines[begun[-1] + 1 :] if begun else lines)


def of_lines(lines: list[str]) -> Reason:
    """The same of lines, which must be of one life of the job."""
    return (
        replace(_matching(ENDED_BY_SLURM, lines), sure=True)
        or _exception(lines)
        or _matching(SIGNALLED, lines)
        or _last_line(lines)
    )


def _matching(table: Iterable[tuple[Cause, str, str]], lines: list[str]) -> Reason:
    for cause, pattern, text in table:
        for line in reversed(lines):
            if _is_slurms(line) and (found := re.search(pattern, line)):
                named = next(filter(None, found.groups()), "the node")
                return Reason(cause, text.replace("%s", _short(named)))
    return NOTHING


def _is_slurms(line: str) -> bool:
    """Whether a line is SLURM's or a container's, not what a method printed."""
    return bool(OF_SLURM.match(line))


def _exception(lines: list[str]) -> Reason:
    """The line of the last exception itself, below its traceback, or of a library's last words.

    One that is followed by an epoch's line was dealt with.
    """
    said, within = "", False
    for line in lines:
        bare = IN_GROUP.sub("", line)
        if OF_TRACEBACKS.match(line):
            within = True
        elif within and bare and not bare.startswith((" ", "-", "+")):
            within = False
            said = said if said and bare.startswith("SystemExit") else bare
        elif said.endswith(":") and bare:  # whose message begins with a line break
            said = f"{said} {bare.strip()}"
        elif line.startswith(("Fatal Python error:", "Lmod has detected the following error:")):
            said = line
        elif found := re.match(r"\s+what\(\):\s*(.+)", line):  # of C++
            said = found[1]
        elif AN_EPOCH.search(line):
            said = ""
    said = OF_LMDBENCH.sub("", said)
    return Reason(cause_in(said), _short(said)) if said else NOTHING


def _last_line(lines: list[str]) -> Reason:
    said = (line.strip() for line in reversed(lines))
    found = next((line for line in said if line and not EMPTY_WORDS.match(line)), "")
    return Reason("unknown", _short(found))


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= MOST_SAID else f"{text[: MOST_SAID - 1]}…"


# What SLURM says of a job that has ended

NO_OUTPUT = 53  # the "signal" of a job whose output file could not be opened
# State as SLURM calls it → cause, and what it is for people
STATES: dict[str, tuple[Cause, str]] = {
    "OUT_OF_MEMORY": ("memory", ENDED_BY_SLURM[0][2]),
    "TIMEOUT": ("time", ENDED_BY_SLURM[1][2]),
    "DEADLINE": ("time", "its deadline passed"),
    "NODE_FAIL": ("node", "node failure: the node went down"),
    "BOOT_FAIL": ("node", "node failure: the node could not be booted"),
    "PREEMPTED": ("cancelled", "preempted, and not queued again"),
    "LAUNCH_FAILED": ("node", "the node could not start it"),
    "RECONFIG_FAIL": ("node", "its nodes could not be set up"),
    "REVOKED": ("cancelled", "revoked: another cluster began it"),
    "CANCELLED": ("cancelled", "cancelled"),
    "FAILED": ("unknown", ""),
    "COMPLETED": ("unknown", ""),
}


def of_state(state: str, node: str, exit_code: str, user: Callable[[int], str]) -> Reason:
    """Why a job ended, by its state in SLURM's tables, such as "CANCELLED by 1000".

    ``exit_code``: "1:0", exit code and signal. ``user``: name of a user's id.
    """
    word, _, by = state.partition(" by ")
    known = [name for name in STATES if word and name.startswith(word.rstrip("+"))]
    cause, text = STATES[known[0]] if known else ("unknown", "")
    if word.startswith("CANCELLED") and by.strip().isdigit():
        text = f"cancelled by {user(int(by))}"
    code, _, number = exit_code.partition(":")
    if word == "FAILED" and text == "":
        with suppress(ValueError):
            if int(number or 0) == NO_OUTPUT:
                text = "SLURM could not write its log there"
            elif int(number or 0):
                text = f"ended by signal {int(number)}"
                cause = "signal"
            elif int(code or 0) > 128:
                text = f"exit code {int(code)}: ended by signal {int(code) - 128}"
            elif int(code or 0):
                text = f"exit code {int(code)}"
    where = f" (on {node})" if node and text and "None" not in node else ""
    return Reason(cause, text + where if text else "")


# Why a job does not begin

# Reason as squeue gives it → what it means, for people. Others are told as they are.
PENDING: tuple[tuple[str, str], ...] = (
    (r"^(Resources|Priority|BeginTime|None|)$", "%s"),
    (r"^Dependency$", "waiting for stage 1"),
    (r"^JobArrayTaskLimit$", "waits for others of its array (array_parallelism)"),
    (r"requeued held|requeued in held", "%s: SLURM holds it for good; retry submits it anew"),
    (r"^DependencyNeverSatisfied$", "what it starts from did not succeed; retry submits both anew"),
    (r"QOSNotAllowed|AccountNotAllowed", "%s: account or qos in [slurm] may not use the partition"),
    (r"^PartitionTimeLimit$", "%s: time is longer than the partition allows, it will not begin"),
    (r"Minutes|MaxWall|TimeLimit$", "%s: more time than the account or QOS "
     "allows; lower time, or ask the cluster's administrators"),
    (r"PerJob|QOSMin", "%s: one job may not ask for so much or so little, it will not begin"),
    (r"MaxSubmitJob|MaxJobs|MaxJobPer|JobLimit$", "%s: your account's limit of jobs at a time"),
    (r"MaxGRES|MaxTRES|GrpTRES|GrpGRES|GrpCpu|MaxCpu|GrpMem|GrpNode|MaxNode|MaxMem"
     r"|ResourceLimit$",
     "%s: your group's or QOS's share is in use, or the job asks for more than it allows"),
    (r"^PartitionNodeLimit$|^PartitionConfig$|^BadConstraints$",
     "%s: no node of the partition has what it asks for, it will not begin"),
    (r"^PartitionDown$|^PartitionInactive$", "%s: the partition takes no jobs now"),
    (r"^InvalidAccount$|^InvalidQOS$|^AssocNotValid", "%s: account or qos in [slurm] is not yours"),
    (r"ReqNodeNotAvail|^NodeDown$", "%s: the nodes it asks for are down or reserved"),
    (r"^ReservationDeleted$", "%s: its reservation is gone, it will not begin"),
    (r"^Reservation", "%s: waits for its reservation"),
    (r"^Licenses$", "%s: waits for a licence"),
    (r"^JobHeldUser$", "held; scontrol release lets it begin"),
    (r"^JobHeldAdmin$", "held by an administrator, who must release it"),
)  # fmt: skip


def of_pending(reason: str) -> str:
    """What a reason of squeue's means, beginning with SLURM's own word."""
    word = reason.strip("()").partition(",")[0].strip()
    for pattern, text in PENDING:
        if re.search(pattern, word):
            return text.replace("%s", reason)
    return reason
