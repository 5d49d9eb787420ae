"""Runs as SLURM jobs: submitted through submitit as arrays, seen through squeue, never sacct.

Submitting reads no image and trains nothing: it may run on a login node. What was found out on a
real SLURM (22.05) and is built on here:

- ``aftercorr`` and ``afterok`` are not satisfied by a requeue of what they wait for, only by its
  success. Where it fails or is cancelled, ``kill-on-invalid-dep`` removes what waits, task by task,
  and what waits for that in turn.
- A requeue, a cancellation and a preemption send SIGCONT and SIGTERM first and SIGKILL after
  KillWait (or the grace time).
- The signal before the time limit is sent up to a minute earlier than asked for.
- Output is appended after a requeue: srun takes sbatch's open mode from its environment.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, write_text
from lmdbench.core.system import user_id
from lmdbench.sweep.executors.batches import (
    Batch,
    Full,
    Queued,
    Unsure,
    Work,
    job_content,
    worker_content,
)
from lmdbench.sweep.executors.pull_job import PullJob
from lmdbench.sweep.executors.reasons import Reason, of_state
from lmdbench.sweep.executors.slurm_job import SweepJob

if TYPE_CHECKING:
    from submitit.slurm.slurm import SlurmExecutor

    from lmdbench.sweep.config.resources import Resources

ANSWER_SECONDS = 20.0  # for a command of SLURM
MOST_ARGUMENTS = 500  # job ids in one command
SUBMITIT = "submitit"  # folder of submitit's files and of the jobs' logs, in a sweep's
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")  # variables that are the user's own
# Of sbatch's environment: what says otherwise than a script of a sweep must.
OVERRIDING = tuple(
    f"SBATCH_{name}"
    for name in (
        *("JOB_NAME", "OUTPUT", "ERROR", "INPUT", "ARRAY_INX", "SIGNAL", "OPEN_MODE", "TIMELIMIT"),
        *("NO_REQUEUE", "REQUEUE", "WAIT", "DEPENDENCY", "WCKEY"),
    )
)
# What sbatch says where a user, an account or a cluster has as many jobs as it may; without the
# limit's name it may be another one.
FULL = (
    r"MaxSubmitJob|GrpSubmitJob|unable to accept job"
    r"|^(?!.*Limit)(?!.*(Wall|TRES|CPU|Node)).*violates accounting/QOS policy"
)
NO_LIMIT = 1_000_000  # requeues after a time limit: submitit takes any end of a short job for one

# Submitting


def submit(
    batch: Batch, name: str, folder: Path, resources: Resources, work: Work, jobs: Mapping[str, str]
) -> str:
    """Submit a batch as one job (array) called ``name``. Returns its number.

    ``folder``: for logs and submitit's files, on a file system that the nodes share. ``jobs``: key
    → job id of what ``batch.after`` names. Raises UserError with sbatch's own words where it
    refuses, DiskError where the folder cannot be written.
    """
    from submitit.core.utils import DelayedSubmission

    if shutil.which("sbatch") is None:
        raise UserError(_absent("sbatch"))
    assert resources.time_minutes is not None
    _refuse_odd(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for index in batch.tasks:
            delayed = DelayedSubmission(_job(batch, index, folder, resources, work))
            delayed.set_timeout(resources.time_minutes, NO_LIMIT)
            delayed.dump(pickle_path(folder, name, index))
        path = folder / f"{name}.sh"
        write_text(path, script(batch, name, folder, resources, jobs))
    try:
        return _sbatch(path, name)
    except Unsure:
        raise
    except UserError:
        for left in (path, *(pickle_path(folder, name, n) for n in batch.tasks)):
            with suppress(OSError):
                left.unlink(missing_ok=True)
        raise


def _job(batch: Batch, index: int, folder: Path, resources: Resources, work: Work) -> SweepJob:
    """What an array task carries out."""
    if batch.workers:
        return PullJob(worker_content(resources, work, folder.parent))
    awaited = index in batch.awaited
    return SweepJob(job_content(batch.units[index], resources, work, awaited=awaited))


def _refuse_odd(folder: Path) -> None:
    """Raise UserError for a path of logs that SLURM would take for another one."""
    path = str(folder.absolute())
    why = {"%": "takes the % for a pattern", "\\": "drops a backslash"}
    said = next((text for sign, text in why.items() if sign in path), "")
    if not path.isprintable():  # line breaks and tabs, and bytes that are no UTF-8
        said = "cannot be told a path with signs that can't be printed"
    if said:
        raise UserError(f"{path!a}: SLURM {said}; choose another --results")


def pickle_path(folder: Path, name: str, index: int) -> Path:
    """Where the callable of an array task lies until the job begins, which then takes it.

    The job does that, as a launch may be killed right after sbatch.
    """
    return folder / f"{name}-{index}.pkl"


def _sbatch(path: Path, name: str) -> str:
    """Submit a script. Returns the job's number."""
    # Within another job its variables would become options of this one, and the environment wins
    # over a script.
    env = {
        key: value
        for key, value in os.environ.items()
        if key in KEPT or not (key.startswith("SLURM_") or key in OVERRIDING)
    }
    done = _run("sbatch", str(path), env=env)
    number = re.search(r"job (\d+)", done.stdout)
    if done.returncode == 0 and number is not None:
        return number[1]
    # A controller that is slow to answer may have taken it all the same.
    said = _complaint(done.stderr or done.stdout)
    try:
        found = [job.job for job in queue() if job.name == name]
    except UserError as error:
        raise Unsure(f"sbatch: {said}; whether {name} is queued cannot be told") from error
    if found:
        return found[0].partition("_")[0]
    if "timed out" in said:
        raise Unsure(f"sbatch: {said}; {name} may still come into the queue")
    if re.search(FULL, said):
        raise Full(
            f"sbatch refuses {name}: {said}", certain=bool(re.search(r"Submit|accept", said))
        )
    raise UserError(f"sbatch refuses {name}: {said}")


def script(
    batch: Batch, name: str, folder: Path, resources: Resources, jobs: Mapping[str, str]
) -> str:
    """What ``submit`` would give to sbatch, made without a SLURM."""
    return _executor(batch, name, folder, resources, jobs).text()


def sbatch_options(batch: Batch, resources: Resources, jobs: Mapping[str, str]) -> dict[str, Any]:
    """Options of sbatch by long name, as the user wants them; False or "": left out."""
    given = {name.replace("_", "-"): value for name, value in resources.sbatch.items()}
    options = {"requeue": True, "wckey": False, **given}
    # submitit asks for ``wckey=submitit``, which some clusters refuse.
    if not resources.use_srun:
        # Only steps are signalled, unless the batch script is named, which then must be Python.
        options.setdefault("signal", f"B:USR2@{resources.signal_seconds}")
    if batch.after:
        options["dependency"] = _dependency(batch, jobs)
        options.setdefault("kill-on-invalid-dep", "yes")  # else it would wait for ever
    return options


def _dependency(batch: Batch, jobs: Mapping[str, str]) -> str:
    waits = [jobs.get(key, f"<job of {key}>") for key in batch.after]
    if batch.aligned:
        return "aftercorr:" + waits[0].partition("_")[0]
    return "afterok:" + ":".join(dict.fromkeys(waits))


def _executor(
    batch: Batch, name: str, folder: Path, resources: Resources, jobs: Mapping[str, str]
) -> Any:
    options = sbatch_options(batch, resources, jobs)
    srun_args = list(resources.srun_args)
    cpus = options.get("cpus-per-task")
    if cpus and not any(word.startswith(("--cpus-per-task", "-c")) for word in srun_args):
        srun_args.append(f"--cpus-per-task={cpus}")  # srun does not inherit it since 22.05
    python = resources.python or shlex.quote(sys.executable)
    if not resources.use_srun:
        python = f"exec {python}"
    executor: Any = _executor_class()(folder.absolute(), NO_LIMIT, python=python)
    executor.left_out = {key for key, value in options.items() if value is False or value == ""}
    executor.update_parameters(
        job_name=name,
        time=resources.time_minutes,
        signal_delay_s=resources.signal_seconds,
        setup=[*_environment(), *_take_pickle(folder.absolute(), name), *resources.setup],
        srun_args=srun_args,
        use_srun=resources.use_srun,
        additional_parameters={k: v for k, v in options.items() if k not in executor.left_out},
    )
    if len(batch.units) > 1 or batch.workers > 1:
        executor.tasks = batch.tasks
        executor.parameters["map_count"] = max(len(batch.units), batch.workers)
        executor.parameters["array_parallelism"] = resources.array_parallelism or len(batch.tasks)
    return executor


def _environment() -> list[str]:
    """Lines of a script that give a job what it needs of the environment, if ``export`` of sbatch,
    or a cluster's habit, keeps that from it.

    srun hands on what the script has, instead of what sbatch was asked for.
    """
    own = {k: v for k, v in sorted(os.environ.items()) if k.startswith("LMDBENCH_")}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in own.items()]
    return ["unset SLURM_EXPORT_ENV", "export PATH", *lines]


def _take_pickle(folder: Path, name: str) -> list[str]:
    """Lines of a script that put the job's callable where submitit looks for it."""
    job = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"
    source = f'{shlex.quote(f"{folder}/{name}-")}"${{SLURM_ARRAY_TASK_ID:-0}}.pkl"'
    target = f'{shlex.quote(f"{folder}/")}"${{lmdbench_job:-$SLURM_JOB_ID}}_submitted.pkl"'
    return [f'lmdbench_job="{job}"', f"[ -e {target} ] || mv {source} {target}"]


@cache
def _executor_class() -> type[SlurmExecutor]:
    """Made when first needed: submitit takes a while to import, and status does without."""
    from submitit.slurm.slurm import SlurmExecutor

    class Executor(SlurmExecutor):
        """submitit's scripts, with options left out, and also where there is no SLURM."""

        left_out: set[str] = set()
        tasks: Sequence[int] = ()

        @classmethod
        def affinity(cls) -> int:
            return 2  # there may be no srun here; sbatch will say so

        def text(self) -> str:
            return self._make_submission_file_text(self._submitit_command_str, "")

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            text = super()._make_submission_file_text(command, uid)
            text = re.sub(r"--array=0-\d+", f"--array={ranges(self.tasks)}", text, count=1)
            lines = text.split("\n")
            return "\n".join(line for line in lines if _option(line) not in self.left_out)

    return Executor


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as sbatch takes them: ``0-3,7``."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ",".join("-".join(map(str, part)) for part in found)


def _option(line: str) -> str | None:
    """Long name of the option that a line of a script sets, with dashes."""
    found = re.match(r"#SBATCH --([\w-]+)", line)
    return found and found[1]


def _complaint(text: str) -> str:
    """What sbatch said, in one line."""
    lines = [line.partition("sbatch: error: ")[2].strip() for line in text.split("\n")]
    said = list(dict.fromkeys(filter(None, lines)))
    return "; ".join(said) or " ".join(text.split())[:300]


# The queue


def queue(users: Iterable[int] = ()) -> list[Queued]:
    """Jobs of this user, and of others, that are pending or running, array tasks one by one.

    Raises UserError where there is no squeue, it gets no answer, or another one than was asked for.
    """
    columns = "--format=%F|%K|%T|%L|%N|%r|%j"
    user = "--user=" + ",".join(map(str, sorted({user_id(), *users})))
    return read_lines(_call("squeue", "--all", "--array", "--noheader", user, columns))


def read_lines(text: str) -> list[Queued]:
    """The jobs that squeue lists, a line each, without the names of clusters above them and what
    follows a line break in the name of a job.

    Raises UserError where there are lines, but of no job: taken for an empty queue, they would have
    every job submitted once more.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("CLUSTER:")]
    jobs = [line for line in lines if re.match(r"\d+(\|[^|]*){6}", line)]
    if lines and not jobs:
        raise UserError(
            f"squeue: answers {lines[0].strip()!r}, not the columns asked for; if it is a script "
            "around SLURM's own command, put the folder of that one first on PATH"
        )
    return [read_line(line) for line in jobs]


def read_line(line: str) -> Queued:
    """A line of squeue: array or job id, index, state, time left, nodes, reason, name."""
    number, index, state, left, node, reason, name = line.strip().split("|", 6)
    task = int(index) if index.isdigit() else None
    return Queued(
        job=number if task is None else f"{number}_{task}",
        name=name,
        index=task,
        state=state,
        reason="" if reason == "None" else reason,
        node=node,
        left=seconds(left),
    )


def seconds(text: str) -> float | None:
    """SLURM's [days-][hours:]minutes:seconds; None for UNLIMITED and the like."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if found is None:
        return None
    days, hours, minutes, rest = (int(n or 0) for n in found.groups())
    return float(((24 * days + hours) * 60 + minutes) * 60 + rest)


def ends(jobs: Sequence[str]) -> dict[str, Reason]:
    """How jobs ended, of those that SLURM still knows: a few minutes long, by its accounting, where
    there is one, for ever. Raises UserError where nobody answers."""
    found: dict[str, Reason] = {}
    for first in range(0, len(jobs), MOST_ARGUMENTS):
        some = jobs[first : first + MOST_ARGUMENTS]
        listed = ",".join(some)
        answers = []
        with suppress(UserError):  # most clusters keep accounts, many do not
            what = "--format=JobID,State,ExitCode,NodeList"
            answers += _call("sacct", "-n", "-P", "-X", f"--jobs={listed}", what).splitlines()
        try:
            what = "--Format=ArrayJobID:|,ArrayTaskID:|,State:|,exit_code:|,NodeList:|"
            command = ("squeue", "--all", "--array", "--noheader", "--states=all")
            answers += map(_ended, _call(*command, f"--jobs={listed}", what).splitlines())
        except UserError as error:  # it fails, too, where it knows none of a single job
            if not answers and "Invalid job id" not in str(error):
                raise
        for line in answers:
            job, state, code, node = ([*line.split("|"), "", "", ""])[:4]
            if job in some and (reason := of_state(state, node, code, _user)):
                found.setdefault(job, reason)
    return found


def _ended(line: str) -> str:
    """A line of squeue as sacct writes it: job, state, exit code and signal, nodes."""
    array, index, state, code, nodes = (line.split("|") + [""] * 5)[:5]
    job = f"{array}_{index}" if index.isdigit() else array
    status = int(code) if code.isdigit() else 0  # as wait gives it
    return f"{job}|{state}|{status >> 8}:{status & 127}|{nodes}"


def _user(number: int) -> str:
    try:
        import pwd  # not on Windows, where a sweep's status may be looked at

        return pwd.getpwuid(number).pw_name
    except (ImportError, KeyError):
        return f"user {number}"


def job_log(folder: Path, job: str) -> Path:
    """What a job of a sweep prints about what goes wrong."""
    return folder / SUBMITIT / f"{job}_0_log.err"


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs; those that have ended already are no error. Raises UserError like ``queue``.

    SIGINT comes first: a worker ends by it and gives up its claim, while it ignores the SIGTERM of
    a cancellation, and killed would look alive from other machines for two minutes. It goes to
    srun's steps, and to batch scripts, which are Python where srun is not used; never to pending
    jobs, for which scancel tries again and again.
    """
    for first in range(0, len(jobs), MOST_ARGUMENTS):
        some = jobs[first : first + MOST_ARGUMENTS]
        for which in ([], ["--batch"]):
            with suppress(UserError):  # of jobs that have ended
                _call("scancel", "--signal=INT", "--state=RUNNING", *which, *some)
        try:
            _call("scancel", *some)
        except UserError as error:
            if not re.search(r"Invalid job id|already completing or completed", str(error)):
                raise


def max_array_size() -> int:
    """Most tasks of a job array on this cluster. Raises UserError like ``queue``."""
    text = _call("scontrol", "show", "config")
    found = re.findall(r"\bMaxArraySize\s*=\s*(\d+)|\bmax_array_tasks=(\d+)", text)
    return max(1, min((int(a or b) for a, b in found), default=1001))


def _call(*command: str) -> str:
    """What a command of SLURM prints. Raises UserError, in one line."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SQUEUE_", "SCANCEL_"))}
    try:
        done = _run(*command, env=env, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{command[0]}: SLURM does not answer within {ANSWER_SECONDS:.0f} s; try again later"
        ) from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.split("\n") if line.strip()]
        said = "; ".join(dict.fromkeys(lines[-2:])) or "no reason given"
        raise UserError(
            f"{command[0]}: SLURM does not answer ({said}); is this a login node of the cluster?"
        )
    return done.stdout


def _run(
    *command: str, env: Mapping[str, str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of SLURM, ended. Bytes that are no text, as in names of jobs, become �.

    Raises UserError where it cannot be started, TimeoutExpired.
    """
    path = shutil.which(command[0])
    if path is None:
        raise UserError(_absent(command[0]))
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            env=env,
        )
    except OSError as error:
        raise UserError(f"{path} cannot be started: {error.strerror}") from error


def _absent(command: str) -> str:
    return (
        f"{command} is not on this machine's PATH: use a login node of the cluster, or --on local"
    )
