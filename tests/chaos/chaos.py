"""Disturb a sweep in every way at hand, then compare it with one that nobody disturbed.

    python tests/chaos/chaos.py --minutes 20
    python tests/chaos/chaos.py --on slurm --minutes 30 --outage 60 --report chaos.md

It trains a sweep on drawn images undisturbed. Then it trains the same sweep in another results
folder, on a small file system of its own, while it kills workers, pools and whole launches with
SIGKILL, requeues jobs, stops and starts slurmd and slurmctld, fills the disk, and makes it
read-only; now and then it launches again, as a user would, sometimes twice at once. At the end it
launches until nothing is left to do. It passes if every run was finished exactly once and its
predictions and weights are the same, bit for bit. Needs root, for the file system and for SLURM. It
prints a line of the table in docs/cluster.md.
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster import Cluster

MARK = "LMDBENCH_CHAOS"  # in the environment of every process that a disturbed launch starts
WORKERS = ("lmdbench.sweep.executors.worker", "submitit.core._submit")
RELAUNCHES = 40  # at most, after the faults have stopped
SMALL_DISK = "256m"

SWEEP = """
name = "chaos"
seeds = {seeds}
methods = {methods}
datasets = ["demo"]

[settings.all]
epochs = {epochs}

[settings.lmd]
rounds = {rounds}
virtual_per_class = 2000

[resources]
on = "{on}"
workers = 2
threads = 1
patience = 30

[slurm]
time = 1
signal_seconds = 20
cpus_per_task = 1
"""


@dataclass
class Chaos:
    """One disturbed sweep."""

    on: str
    sweep: Path
    results: Path
    env: dict[str, str]
    random: random.Random
    cluster: Cluster | None = None
    launches: list[subprocess.Popen[bytes]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    log: Path = Path(os.devnull)
    outage: float = 10.0  # seconds that a fault lasts at most
    plan: Any = None
    finished: dict[str, int] = field(default_factory=dict)  # run → when its mark was made
    redone: set[str] = field(default_factory=set)  # runs whose mark was made anew

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)

    def command(self, *words: str) -> list[str]:
        lmdbench = [sys.executable, "-m", "lmdbench"]
        return [*lmdbench, *words, str(self.sweep), "--results", str(self.results)]

    def launch(self) -> None:
        """Launch as a user would; a pool goes on in the background."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command("sweep", "launch"), env=self.env, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.launches.append(process)
        if self.on == "slurm":
            process.wait()

    def states(self) -> Counter[str]:
        """Runs in each state, read here: a command of its own would take seconds to start."""
        from lmdbench.core.errors import UserError
        from lmdbench.runs.request import Contexts
        from lmdbench.sweep.config.file import read_sweep
        from lmdbench.sweep.plan import make_plan
        from lmdbench.sweep.status import look

        if self.plan is None:
            sweep = read_sweep(str(self.sweep), None)
            cache = Path(self.env["LMDBENCH_CACHE"])
            self.plan = make_plan(sweep, Contexts(self.results, cache, files=False))
        try:
            overview = look(self.plan)
        except UserError as error:
            self.say(f"status: {error}")
            return Counter({"unknown": 1})
        for done in self.results.glob("*/*/*/seed*/done"):
            with suppress(OSError):
                made = done.stat().st_mtime_ns
                if self.finished.setdefault(str(done.parent), made) != made:
                    self.redone.add(str(done.parent))
        return Counter(status.state for status in overview.runs.values())

    def processes(self, *kinds: str) -> list[int]:
        """Living processes of the disturbed launches whose command line holds one of the words."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{MARK}={self.env[MARK]}".encode() in (folder / "environ").read_bytes():
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if any(kind in line for kind in kinds) and "srun" not in line.split()[0]:
                        found.append(int(folder.name))
        return found

    # Faults. Each returns whether it could be done.

    def kill_worker(self) -> bool:
        return self._kill(self.processes(*WORKERS))

    def kill_launch(self) -> bool:
        return self.on == "local" and self._kill(self.processes("sweep launch"))

    def kill_everything(self) -> bool:
        found = self.processes("sweep launch", *WORKERS)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(found)

    def interrupt_launch(self) -> bool:
        return self.on == "local" and self._kill(self.processes("sweep launch"), signal.SIGINT)

    def _kill(self, found: list[int], number: int = signal.SIGKILL) -> bool:
        if not found:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.random.choice(found), number)
        return True

    def launch_twice(self) -> bool:
        if self.on == "local" and len(self.processes("sweep launch")) > 1:
            return False
        both = [
            subprocess.Popen(
                [*self.command("sweep", "launch"), *(["--join"] if self.on == "local" else [])],
                env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            for _ in range(2)
        ]  # fmt: skip
        self.launches += both
        return True

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
        everywhere += [self.fill_disk, self.read_only]
        if self.on == "local":
            return [*everywhere, self.kill_launch, self.interrupt_launch]
        slurm = [self.requeue, self.requeue, self.cancel_job, self.stop_node, self.stop_controller]
        return [*everywhere, *slurm]

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
        while time.monotonic() < end:
            time.sleep(self.random.uniform(*pause))
            self.tend()
            states = self.states()
            if states and set(states) == {"done"}:
                self.say("all done before the faults were over")
                return
            if not (states["running"] or states["queued"]) or self.random.random() < 0.3:
                self.launch()
                continue
            fault = remaining.pop()
            remaining = remaining or self.random.sample(menu, len(menu))
            if fault():
                self.faults[fault.__name__] += 1
                self.say(f"{fault.__name__}: {dict(states)}")

    def finish(self) -> int:
        """Launch until all is done. Returns how many launches that took."""
        for number in range(RELAUNCHES):
            self.launch()
            while True:
                if self.launches[-1].poll() is None:
                    with suppress(subprocess.TimeoutExpired):
                        self.launches[-1].wait(timeout=5)
                self.tend()
                states = self.states()
                if set(states) == {"done"}:
                    return number + 1
                if not (states["running"] or states["queued"] or states["unknown"]):
                    break
                time.sleep(1)
            self.say(f"after launch {number + 1}: {dict(states)}")
            if states["failed"]:
                command = self.command("sweep", "retry")
                subprocess.run(command, env=self.env, capture_output=True)
        return RELAUNCHES

    def end(self) -> None:
        for pid in self.processes("sweep launch", *WORKERS):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.launches:
            process.wait()


def contents(results: Path) -> dict[str, str]:
    """Run → digest of its predictions and weights, of every finished run."""
    import numpy as np

    found = {}
    for done in sorted(results.glob("*/*/*/seed*/done")):
        digest = hashlib.sha256()
        with np.load(done.parent / "predictions.npz") as arrays:
            for name in sorted(arrays.files):
                digest.update(name.encode() + arrays[name].tobytes())
        digest.update((done.parent / "model.safetensors").read_bytes())
        found[str(done.parent.relative_to(results))] = digest.hexdigest()
    return found


def finished_twice(results: Path) -> list[str]:
    """Runs whose log says more than once that they were finished, and any that were moved aside.

    A full disk may have cost lines of a log: the marks of finished runs are watched as well.
    """
    wrong = [str(path) for path in results.glob("*/*/*/seed*.old-*")]
    for done in results.glob("*/*/*/seed*/done"):
        log = (done.parent / "run.log").read_text()
        if log.count(" finished in ") > 1:
            wrong.append(str(done.parent))
    return wrong


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


def judge(expected: dict[str, str], results: Path, redone: set[str]) -> Outcome:
    got = contents(results)
    records = [json.loads(p.read_text()) for p in results.glob("*/*/*/seed*/run.json")]
    return Outcome(
        sorted(expected.keys() - got.keys()),
        sorted(key for key in expected.keys() & got.keys() if expected[key] != got[key]),
        sorted(got.keys() - expected.keys()) + finished_twice(results) + sorted(redone),
        sum(record["attempts"] for record in records),
    )


def undisturbed(options: argparse.Namespace, folder: Path, env: dict[str, str]) -> dict[str, str]:
    """Train the sweep in peace. Run → digest."""
    sweep, calm = folder / "chaos.toml", folder / "calm"
    command = [sys.executable, "-m", "lmdbench", "sweep", "launch", str(sweep), "--on", "local"]
    done = subprocess.run([*command, "--results", str(calm)], env=env, capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    return contents(calm)


def disturbed(
    on: str, options: argparse.Namespace, folder: Path, env: dict[str, str]
) -> tuple[Chaos, Path, int]:
    """Train the sweep amid faults, to its end. Returns how often it was launched after them."""
    with ExitStack() as stack:
        env = {**env, MARK: uuid.uuid4().hex}
        cluster = None
        if on == "slurm":
            cluster = stack.enter_context(Cluster())
            env |= cluster.env
            os.environ |= cluster.env  # for squeue, asked by this process
        sweep = folder / "chaos.toml"
        disk = stack.enter_context(small_disk(folder / f"disk-{on}"))
        chaos = Chaos(
            on, sweep, disk, env, random.Random(options.seed), cluster,
            log=folder / f"{on}.log", outage=options.outage,
        )  # fmt: skip
        stack.callback(chaos.end)
        chaos.launch()
        chaos.disturb(60 * options.minutes, tuple(options.pause))
        launches = chaos.finish()
        chaos.end()
        logs = disk.glob("sweeps/chaos/submitit/*_log.err")
        reached = sum(log.read_text(errors="replace").count(": this job is") for log in logs)
        if reached:
            chaos.faults["time_limit"] = reached
        kept = folder / f"disturbed-{on}"
        shutil.copytree(disk, kept)
        return chaos, kept, launches


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--on", choices=["local", "slurm"], action="append", help="default: both")
    parser.add_argument("--minutes", type=float, default=10, help="of faults, each")
    parser.add_argument("--pause", type=float, nargs=2, default=(2, 10), help="seconds between two")
    parser.add_argument("--outage", type=float, default=10, help="seconds a fault lasts at most")
    parser.add_argument("--methods", default='["ce", "crt", "lws", "rrl", "lmd"]')
    parser.add_argument("--seeds", default="[0, 1, 2]", help="of the sweep, as in its file")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--report", type=Path, help="append lines of a Markdown table to this file")
    options = parser.parse_args()
    passed = True
    with tempfile.TemporaryDirectory(prefix="lmdbench-chaos-") as name:
        folder = Path(name)
        chosen = {key: getattr(options, key) for key in ("methods", "seeds", "epochs", "rounds")}
        (folder / "chaos.toml").write_text(SWEEP.format(**chosen, on="local"))
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
        for on in places:
            (folder / "chaos.toml").write_text(SWEEP.format(**chosen, on=on))
            started = time.monotonic()
            chaos, results, launches = disturbed(on, options, folder, env)
            seconds = time.monotonic() - started
            outcome = judge(expected, results, chaos.redone)
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
