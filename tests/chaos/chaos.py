"""Disturb a sweep in every way at hand, then compare it with one that nobody disturbed.

    python tests/chaos/chaos.py                                 short: minutes, as in the test suite
    python tests/chaos/chaos.py --long                          an hour or two
    python tests/chaos/chaos.py --long --on slurm --minutes 30 --report chaos.md

It trains a sweep on drawn images undisturbed. Then it trains the same sweep in another results
folder, on a small file system of its own, while it

- kills workers, pools and whole launches with SIGKILL, and suspends them; with ``--long`` also one
  on what claims take for another machine, for longer than a claim lasts;
- requeues and cancels jobs, and stops and starts slurmd and slurmctld; jobs have runs of their own,
  two packed in each, or take the next one that is ready, as each launch pleases;
- fills the disk, makes it read-only, and damages files of runs, claims, launches and offers;
- adds workers, of which one has a clock that is two hours wrong.

One method of the sweep is a plug-in whose runs kill their own process once, or hang once. Now and
then it launches again or retries, as a user would, sometimes twice at once. At the end it does so
until nothing is left to do. It passes if every run was finished exactly once, but for those whose
files it damaged, and its predictions and weights are the same, bit for bit. Needs root, for the
file system and for SLURM. It prints a line of the table in docs/cluster.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import damage
from cluster import Cluster

MARK = "LMDBENCH_CHAOS"  # in the environment of every process that a disturbed launch starts
TROUBLE = "LMDBENCH_CHAOS_TROUBLE"  # see troubled.py
WORKERS = ("lmdbench.sweep.executors.worker", "submitit.core._submit", "sweep worker")
LAUNCHES = ("sweep launch", "sweep retry")
LEAST_FAULTS = 6  # however long they take
RELAUNCHES = 40  # at most, after the faults have stopped
LONGEST_LAUNCH = 1200.0  # seconds that one of those is waited for
SMALL_DISK = "256m"
UNDER_WAY = ("running", "queued", "unknown")
RETRIED = ("failed", "lost", "damaged", "stalled")
CLAIM_SECONDS = 120.0  # after which the claim of another machine is dead
TAKEOVER_SECONDS = 40.0  # for a worker to start and to take what had that claim
ELSEWHERE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)

SWEEP = """
name = "chaos"
seeds = {seeds}
methods = {methods}
datasets = ["demo"]
plugins = ["{plugin}"]

[run]
image_size = {image_size}

[settings.all]
epochs = {epochs}
{of_lmd}
[resources]
on = "{on}"
workers = 2
threads = 1
patience = 30
runs_per_job = 2
keep_weights = "heads"
checkpoint_every = {checkpoint_every}

[retry]
stall = "10s"

[slurm]
time = {limit}
signal_seconds = 20
cpus_per_task = 1
{of_slurm}
"""
OF_LMD = """
[settings.lmd]
rounds = {rounds}
virtual_per_class = 2000
"""

SHORT = {
    "minutes": 0.3, "pause": (0.5, 2.0), "outage": 3.0, "methods": '["crt", "troubled"]',
    "seeds": "[0, 1]", "epochs": 5, "rounds": 4, "limit": 10, "image_size": 24,
}  # fmt: skip
LONG = {
    "minutes": 10.0, "pause": (2.0, 10.0), "outage": 60.0,
    "methods": '["ce", "crt", "lws", "rrl", "lmd", "troubled"]', "seeds": "[0, 1, 2]",
    "epochs": 30, "rounds": 10, "limit": 1, "image_size": 48,
}  # fmt: skip


@dataclass
class Chaos:
    """One disturbed sweep. ``sweeps``: files of it that a launch chooses from."""

    on: str
    sweeps: list[Path]
    results: Path
    env: dict[str, str]
    random: random.Random
    cluster: Cluster | None = None
    launches: list[subprocess.Popen[bytes]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    log: Path = Path(os.devnull)
    outage: float = 10.0  # seconds that a fault lasts at most
    long: bool = False  # also faults that take minutes
    plan: Any = None
    finished: dict[str, int] = field(default_factory=dict)  # run → when its mark was made
    redone: set[str] = field(default_factory=set)  # runs whose mark was made anew
    damaged: Counter[str] = field(default_factory=Counter)  # run → files of it that were damaged

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)

    def start(
        self, *words: str, before: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command of ``lmdbench sweep`` in the background."""
        command = [*before, sys.executable, "-m", "lmdbench", "sweep", words[0]]
        command += [str(self.random.choice(self.sweeps)), "--results", str(self.results)]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*command, *words[1:]], env={**self.env, **(env or {})}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.launches.append(process)
        return process

    def launch(self, command: str = "launch") -> None:
        """Launch or retry as a user would; what works on this machine goes on in the background."""
        few = len(self.processes(*LAUNCHES, "sweep worker")) < 2
        if self.on == "local" and command == "launch" and few and self.random.random() < 0.5:
            self.start_worker()
            return
        process = self.start(command)
        if self.on == "slurm":
            process.wait()

    def start_worker(
        self, before: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        words = ("worker", "--workers", "1", "--idle", "20s")
        return self.start(*words, before=before, env=env)

    def states(self) -> Counter[str]:
        """Runs in each state, read here: a command of its own would take seconds to start."""
        from lmdbench.core.errors import UserError
        from lmdbench.runs.request import Contexts
        from lmdbench.sweep.config.file import read_sweep
        from lmdbench.sweep.plan import make_plan
        from lmdbench.sweep.status import look

        if self.plan is None:
            sweep = read_sweep(str(self.sweeps[0]), None)
            cache = Path(self.env["LMDBENCH_CACHE"])
            self.plan = make_plan(sweep, Contexts(self.results, cache, files=False))
        try:
            overview = look(self.plan)
        except UserError as error:
            self.say(f"status: {error}")
            return Counter({"unknown": 1})
        for done in self.results.glob("*/*/*/seed*/done"):
            key = damage.run_of(done, self.results)
            with suppress(OSError):
                made = done.stat().st_mtime_ns
                if self.finished.setdefault(key, made) != made and not self.damaged[key]:
                    self.redone.add(key)
        states = Counter(status.state for status in overview.runs.values())
        return states + Counter({"unknown": 1}) if overview.silent else states

    def processes(self, *kinds: str) -> list[int]:
        """Living processes of the disturbed launches whose command line holds one of the words."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{MARK}={self.env[MARK]}".encode() in (folder / "environ").read_bytes():
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    around = ("srun", "unshare")
                    if any(kind in line for kind in kinds) and not line.startswith(around):
                        found.append(int(folder.name))
        return found

    # Faults. Each returns whether it could be done.

    def kill_worker(self) -> bool:
        return self._kill(self.processes(*WORKERS))

    def kill_launch(self) -> bool:
        return self._kill(self.processes(*LAUNCHES))

    def kill_pull_worker(self) -> bool:
        """With its pool, in mid-run where it has one; and another takes its place."""
        found = self._kill(self.processes("sweep worker"))
        self.start_worker()
        return found

    def kill_everything(self) -> bool:
        found = self.processes(*LAUNCHES, *WORKERS)
        _signal(found, signal.SIGKILL)
        return bool(found)

    def interrupt_launch(self) -> bool:
        return self._kill(self.processes(*LAUNCHES), signal.SIGINT)

    def _kill(self, found: list[int], number: signal.Signals = signal.SIGKILL) -> bool:
        if not found:
            return False
        _signal([self.random.choice(found)], number)
        return True

    def launch_twice(self) -> bool:
        if self.on == "local" and len(self.processes(*LAUNCHES)) > 1:
            return False
        for _ in range(2):
            self.start("launch", *(["--join"] if self.on == "local" else []))
        return True

    def suspend(self) -> bool:
        found = self.processes(*LAUNCHES, *WORKERS)
        chosen = self.random.sample(found, min(1, len(found)))
        with _suspended(chosen):
            self._last()
        return bool(chosen)

    def suspend_elsewhere(self) -> bool:
        """A worker that claims take for one of another machine is suspended until they count as
        dead: another takes its run, and the first must notice that when it goes on."""
        from lmdbench.core.claim import Claim

        self.start_worker(before=ELSEWHERE)
        for _ in range(60):
            time.sleep(1)
            claims = [Claim(path).holder() or {} for path in damage.of_claims(self.results)]
            if any(holder.get("alive") and holder.get("here") is False for holder in claims):
                break
        else:
            return False
        here = os.readlink("/proc/self/ns/pid")
        with _suspended([pid for pid in self.processes(*WORKERS) if _namespace(pid) != here]):
            time.sleep(CLAIM_SECONDS)
            self.start_worker()
            time.sleep(TAKEOVER_SECONDS)
        return True

    def clock_step(self) -> bool:
        """Another worker, whose clock is two hours wrong. The disk's is not: only heartbeats, whose
        times a process sets itself, are wrong as well."""
        wrong = {
            "LD_PRELOAD": str(FAKETIME), "FAKETIME": self.random.choice(("+2h", "-2h")),
            "NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1",
        }  # fmt: skip
        self.start_worker(env=wrong)
        return True

    # Damage

    def damage_finished(self) -> bool:
        return self._damage(damage.of_finished(self.results))

    def damage_unfinished(self) -> bool:
        return self._damage(damage.of_unfinished(self.results))

    def damage_claim(self) -> bool:
        """Of who lives, or is dead. A short chaos has no time to wait until such a claim counts as
        dead."""
        aged = not self.long or self.random.random() < 0.5
        found = [*damage.of_claims(self.results), *damage.of_launch_claims(self.results)]
        return self._damage(found, aged=aged, redone=False)

    def damage_record(self) -> bool:
        return self._damage(damage.of_records(self.results))

    def _damage(self, found: Sequence[Path], *, aged: bool = False, redone: bool = True) -> bool:
        """Damage one of the files. ``redone``: its run, if it is of one, may be trained anew."""
        if not found:
            return False
        path = self.random.choice(found)
        key = damage.run_of(path, self.results)
        if key and redone:
            self.damaged[key] += 1
        way = damage.spoil(path, self.random, aged=aged)
        self.say(f"{way or 'gone'}: {path.relative_to(self.results)}")
        return bool(way)

    # The disk and SLURM

    def fill_disk(self) -> bool:
        hog = self.results / "hog"
        with suppress(OSError), hog.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        self._last()
        hog.unlink(missing_ok=True)
        return True

    def read_only(self) -> bool:
        """Nothing can be made, renamed or removed, but what is open can be written, such as logs:
        with open files Linux does not let a whole file system become read-only."""
        folders = [str(folder) for folder, _, _ in os.walk(self.results)]
        subprocess.run(["chattr", "-f", "+i", *folders], check=False)
        self._last()
        subprocess.run(["chattr", "-f", "-i", *folders], check=False)
        return True

    def _last(self) -> None:
        """Let a fault last for a while."""
        time.sleep(self.random.uniform(0.2, 1) * self.outage)

    def requeue(self) -> bool:
        jobs = self._squeue("RUNNING")
        if not jobs:
            return False
        return self._run("scontrol", "requeue", self.random.choice(jobs))

    def cancel_job(self) -> bool:
        jobs = self._squeue("RUNNING,PENDING")
        return bool(jobs) and self._run("scancel", self.random.choice(jobs))

    def stop_node(self) -> bool:
        assert self.cluster is not None
        self.cluster.stop_node(how=signal.SIGKILL)
        self._last()
        self.cluster.start_node()
        return True

    def stop_controller(self) -> bool:
        assert self.cluster is not None
        self.cluster.stop_controller(signal.SIGKILL)
        self._last()
        self.cluster.start_controller()
        return True

    def _squeue(self, states: str) -> list[str]:
        command = ["squeue", "--array", "--noheader", "--format=%i", "--states", states]
        answer = subprocess.run(command, env=self.env, capture_output=True, text=True)
        return answer.stdout.split()

    def _run(self, *command: str) -> bool:
        return subprocess.run(command, env=self.env, capture_output=True).returncode == 0

    def menu(self) -> list[Callable[[], bool]]:
        """The faults that are possible here."""
        everywhere = [self.kill_worker, self.kill_worker, self.kill_everything, self.launch_twice]
        everywhere += [self.fill_disk, self.read_only, self.suspend]
        everywhere += [self.damage_finished, self.damage_finished, self.damage_unfinished]
        everywhere += [self.damage_claim, self.damage_record]
        if self.on == "slurm":
            slurm = [self.requeue, self.requeue, self.cancel_job, self.stop_node]
            return [*everywhere, *slurm, self.stop_controller]
        local = [self.kill_launch, self.interrupt_launch, self.kill_pull_worker]
        local += [self.clock_step] if FAKETIME else []
        return [*everywhere, *local, *([self.suspend_elsewhere] if self.long else [])]

    # The course of events

    def tend(self) -> None:
        """What the administrators of a cluster do: nodes that SLURM drained are put back to use."""
        if self.cluster is not None:
            listed = subprocess.run(
                ["sinfo", "--noheader", "--Node", "--format=%N %T"],
                env=self.env, capture_output=True, text=True,
            )  # fmt: skip
            for line in listed.stdout.splitlines():
                name, state = line.split()
                if state.startswith(("drain", "down")):
                    self._run("scontrol", "update", f"nodename={name}", "state=resume")

    def disturb(self, seconds: float, pause: tuple[float, float]) -> None:
        end = time.monotonic() + seconds
        menu = self.menu()
        remaining = self.random.sample(menu, len(menu))  # each once before any a second time
        while time.monotonic() < end or self.faults.total() < LEAST_FAULTS:
            time.sleep(self.random.uniform(*pause))
            self.tend()
            states = self.states()
            if set(states) == {"done"}:
                remaining.append(self.damage_finished)  # which makes more to do
            elif self.is_idle(states) or self.random.random() < 0.3:
                again = states.keys() & set(RETRIED)
                self.launch(self.random.choice(("launch", "retry")) if again else "launch")
                continue
            fault = remaining.pop()
            remaining = remaining or self.random.sample(menu, len(menu))
            if fault():
                self.faults[fault.__name__] += 1
                self.say(f"{fault.__name__}: {dict(states)}")

    def is_idle(self, states: Mapping[str, int]) -> bool:
        """Whether nobody works on a run or is about to."""
        return not (states.keys() & set(UNDER_WAY) or self.processes(*LAUNCHES, "sweep worker"))

    def finish(self) -> int:
        """Launch and retry until all is done. Returns how often that took."""
        command = "launch"
        for number in range(RELAUNCHES):
            self.launch(command)
            states = self.settled()
            if set(states) == {"done"}:
                return number + 1
            self.say(f"after {command} {number + 1}: {dict(states)}")
            again = command == "launch" and states.keys() & set(RETRIED)
            command = "retry" if again else "launch"
        return RELAUNCHES

    def settled(self) -> Counter[str]:
        """How the runs stand once nobody works on one any more."""
        end = time.monotonic() + LONGEST_LAUNCH
        while True:
            with suppress(subprocess.TimeoutExpired):
                self.launches[-1].wait(timeout=2)
            self.tend()
            states = self.states()
            working = self.launches[-1].poll() is None or states.keys() & set(UNDER_WAY)
            stalled = states["stalled"] and self.processes(*WORKERS)
            late = time.monotonic() > end
            if set(states) == {"done"} or late or not (working or stalled):
                return states

    def end(self) -> None:
        _signal(self.processes(*LAUNCHES, *WORKERS), signal.SIGKILL)
        for process in self.launches:
            process.wait()


@contextmanager
def _suspended(processes: Sequence[int]) -> Iterator[None]:
    _signal(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(processes, signal.SIGCONT)


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _namespace(pid: int) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid")
    return ""


def contents(results: Path) -> dict[str, str]:
    """Run → digest of its predictions and weights, of every finished run."""
    import numpy as np

    found = {}
    for run in _finished(results):
        digest = hashlib.sha256()
        try:
            with np.load(run / "predictions.npz") as arrays:
                for name in sorted(arrays.files):
                    digest.update(name.encode() + arrays[name].tobytes())
            for path in sorted(run.glob("*.safetensors")):
                digest.update(path.name.encode() + path.read_bytes())
            whole = json.loads((run / "run.json").read_text())["digests"]["model"]
            found[str(run.relative_to(results))] = digest.hexdigest() + whole
        except (OSError, ValueError, KeyError, EOFError) as error:
            found[str(run.relative_to(results))] = f"unreadable: {error}"
    return found


def finished_twice(results: Path, damaged: Mapping[str, int]) -> list[str]:
    """Runs that were finished, or moved aside, more often than damage to their files explains.

    A full disk may have cost lines of a log: the marks of finished runs are watched as well.
    """
    wrong = []
    for run in _finished(results):
        aside = list(run.parent.glob(f"{run.name}.old-*"))
        logs = [one / "run.log" for one in (run, *aside) if (one / "run.log").exists()]
        times = sum(log.read_text().count(" finished in ") for log in logs)
        key = str(run.relative_to(results))
        if max(len(aside), times - 1) > damaged.get(key, 0):
            wrong.append(key)
    return wrong


def _finished(results: Path) -> list[Path]:
    found = sorted(done.parent for done in results.glob("*/*/*/seed*/done"))
    return [run for run in found if ".old-" not in run.name]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, that can be filled and made read-only."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)]
    subprocess.run(command, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@dataclass
class Outcome:
    """What became of a disturbed sweep, beside an undisturbed one."""

    lost: list[str]
    differs: list[str]
    redone: list[str]  # finished twice, or runs that nobody asked for
    attempts: int

    @property
    def passed(self) -> bool:
        return not (self.lost or self.differs or self.redone)


def judge(expected: dict[str, str], results: Path, chaos: Chaos) -> Outcome:
    got = contents(results)
    twice = {*finished_twice(results, chaos.damaged), *chaos.redone}
    journals = [path.read_bytes() for path in results.glob("*/*/*/seed*/attempts.jsonl")]
    return Outcome(
        sorted(expected.keys() - got.keys()),
        sorted(key for key in expected.keys() & got.keys() if expected[key] != got[key]),
        sorted(got.keys() - expected.keys()) + sorted(twice),
        sum(journal.count(b'"what": "begin"') for journal in journals),
    )


def write_sweeps(options: argparse.Namespace, folder: Path, on: str) -> list[Path]:
    """The sweep's file; for SLURM a second one, by which jobs take the next run that is ready."""
    text = {
        "seeds": options.seeds, "methods": options.methods, "epochs": options.epochs,
        "image_size": options.image_size, "limit": options.limit, "on": on,
        "plugin": Path(__file__).with_name("troubled.py"),
        "of_lmd": OF_LMD.format(rounds=options.rounds) if "lmd" in options.methods else "",
        "checkpoint_every": 1 if on == "calm" else 2,
    }  # fmt: skip
    text["on"] = "local" if on == "calm" else on
    path = folder / f"{on}.toml"
    path.write_text(SWEEP.format(**text, of_slurm=""))
    if on != "slurm":
        return [path]
    pulling = folder / "slurm-workers.toml"
    pulling.write_text(SWEEP.format(**text, of_slurm="workers = 2"))
    return [path, pulling]


def undisturbed(options: argparse.Namespace, folder: Path, env: dict[str, str]) -> dict[str, str]:
    """Train the sweep in peace. Run → digest."""
    (sweep,), calm = write_sweeps(options, folder, "calm"), folder / "calm"
    command = [sys.executable, "-m", "lmdbench", "sweep", "launch", str(sweep)]
    done = subprocess.run([*command, "--results", str(calm)], env=env, capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    return contents(calm)


def disturbed(
    on: str, options: argparse.Namespace, folder: Path, env: dict[str, str]
) -> tuple[Chaos, Path, int]:
    """Train the sweep amid faults, to its end. Returns how often it was launched after them."""
    with ExitStack() as stack:
        trouble = folder / f"trouble-{on}"
        trouble.mkdir()
        env = {**env, MARK: uuid.uuid4().hex, TROUBLE: str(trouble)}
        cluster = None
        if on == "slurm":
            cluster = stack.enter_context(Cluster())
            env |= cluster.env
            os.environ |= cluster.env  # for squeue, asked by this process
        disk = stack.enter_context(small_disk(folder / f"disk-{on}"))
        chaos = Chaos(
            on, write_sweeps(options, folder, on), disk, env, random.Random(options.seed), cluster,
            log=folder / f"{on}.log", outage=options.outage, long=options.long,
        )  # fmt: skip
        stack.callback(chaos.end)
        chaos.launch()
        chaos.disturb(60 * options.minutes, tuple(options.pause))
        launches = chaos.finish()
        chaos.end()
        logs = disk.glob("sweeps/chaos/submitit/*_log.err")
        reached = sum(log.read_text(errors="replace").count(": this job is") for log in logs)
        happened = (path.name.partition("-")[0] for path in trouble.iterdir())
        chaos.faults += Counter(happened) + Counter({"time_limit": reached})
        kept = folder / f"disturbed-{on}"
        shutil.copytree(disk, kept)
        return chaos, kept, launches


def read_options() -> argparse.Namespace:
    """What the command line says, and of what it does not say that of a short or a long chaos."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--long", action="store_true", help="more of everything")
    parser.add_argument("--on", choices=["local", "slurm"], action="append", help="default: both")
    parser.add_argument("--minutes", type=float, help="of faults, each")
    parser.add_argument("--pause", type=float, nargs=2, help="seconds between two")
    parser.add_argument("--outage", type=float, help="seconds a fault lasts at most")
    parser.add_argument("--methods", help="as in the sweep's file")
    parser.add_argument("--seeds", help="of the sweep, as in its file")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rounds", type=int, help="of lmd")
    parser.add_argument("--image-size", type=int, help="pixels")
    parser.add_argument("--limit", type=int, help="minutes that a job of SLURM may take")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--report", type=Path, help="append lines of a Markdown table to this file")
    parser.set_defaults(**(LONG if parser.parse_args().long else SHORT))
    return parser.parse_args()


def main() -> int:
    options = read_options()
    passed = True
    with tempfile.TemporaryDirectory(prefix="lmdbench-chaos-") as name:
        folder = Path(name)
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        env.setdefault("LMDBENCH_CACHE", str(folder / "cache"))
        started = time.monotonic()
        expected = undisturbed(options, folder, env)
        calm = time.monotonic() - started
        print(f"undisturbed: {len(expected)} runs in {calm:.0f} s", flush=True)
        places = options.on or ["local", "slurm"]
        if options.on is None and (reason := Cluster.why_not()):
            print(f"only local faults: {reason}", flush=True)
            places = ["local"]
        if FAKETIME is None:
            print("no wrong clocks: libfaketime is not installed", flush=True)
        for on in places:
            started = time.monotonic()
            chaos, results, launches = disturbed(on, options, folder, env)
            seconds = time.monotonic() - started
            outcome = judge(expected, results, chaos)
            passed = passed and outcome.passed and chaos.faults.total() > 0
            if not outcome.passed:
                print(outcome)
                print(chaos.log.read_text()[-4000:])
            faults = ", ".join(f"{n} {what}" for what, n in sorted(chaos.faults.items()))
            line = (
                f"| {on} | {options.seed} | {chaos.faults.total()} ({faults}) | {len(expected)} | "
                f"{outcome.attempts} | {seconds:.0f} s ({calm:.0f} s) | {launches} | "
                f"{len(outcome.lost)} | {len(outcome.differs)} | {len(outcome.redone)} |"
            )
            print(line, flush=True)
            if options.report:
                with options.report.open("a") as file:
                    file.write(line + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
