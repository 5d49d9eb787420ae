"""A real SLURM on this machine, for tests: ``python tests/cluster.py -- COMMAND`` runs in one.

Started as root on a bare machine or container that has Debian's ``slurm-wlm`` and ``munge``;
neither systemd nor the machine's own configuration is used. Everything lies in a temporary folder
and on ports of its own, munge included, so that several clusters can run beside each other.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

# Where Debian has the daemons; not on every root's PATH.
PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
START_SECONDS = 30.0
NODE_CPUS = 3  # declared, whatever the machine has: as many runs work at a time
NODE_MEMORY = 8192  # MiB, declared as well

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1,sched_min_interval=0
ReturnToService=2
MaxArraySize={max_array_size}
DefMemPerCPU=512
MessageTimeout=10
# Quick where clusters are slow: a requeued job may start after 5 s (cred_expire; else 120), a
# killed one is gone after 5, a silent node is down after 15.
KillWait=5
MinJobAge={min_job_age}
SlurmctldTimeout=15
SlurmdTimeout=15
InactiveLimit=0
UnkillableStepTimeout=60
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=other Nodes=ALL MaxTime=INFINITE State=UP
"""


class Cluster:
    """A SLURM of ``nodes`` nodes, all on this machine, from entering it to leaving it.

    ``env``: the environment for commands that shall use it. Raises RuntimeError, with the end of
    the daemons' logs, if it does not come up.
    """

    def __init__(self, nodes: int = 1, max_array_size: int = 1001, min_job_age: int = 300) -> None:
        self.names = [f"n{number + 1}" for number in range(nodes)]
        self.max_array_size = max_array_size
        self.min_job_age = min_job_age
        self.folder = Path()
        self.env: dict[str, str] = {}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def why_not() -> str | None:
        """Why there can be no cluster here; None if there can."""
        missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
        if missing:
            return f"no SLURM here ({', '.join(missing)} missing): install slurm-wlm and munge"
        return None if os.geteuid() == 0 else "a SLURM for tests must be started as root"

    def __enter__(self) -> Cluster:
        reason = self.why_not()
        if reason:
            raise RuntimeError(reason)
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        try:
            self._configure()
            self._start_munge()
            self.start_controller()
            for name in self.names:
                self.start_node(name)
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Commands

    def call(self, *command: str, timeout: float = 60.0) -> str:
        """What a command inside prints. Raises CalledProcessError with its stderr."""
        return subprocess.run(
            command, env=self.env, check=True, capture_output=True, text=True, timeout=timeout
        ).stdout

    def jobs(self) -> dict[str, str]:
        """Job id → state of all that is in the queue."""
        lines = self.call("squeue", "--array", "--noheader", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait_empty(self, timeout: float) -> None:
        """Until no job is in the queue any more. Raises RuntimeError after ``timeout`` seconds."""
        self._wait(lambda: not self.jobs(), timeout, "jobs are still in the queue")

    def wait_ready(self) -> None:
        """Until the controller answers and every node serves. Raises RuntimeError in the end."""
        self._wait(self._all_serve, START_SECONDS, "not all nodes serve")

    # Faults

    def start_controller(self) -> None:
        self._start("slurmctld", ["slurmctld", "-D"])

    def stop_controller(self, how: signal.Signals = signal.SIGTERM) -> None:
        """SIGTERM: in good order; SIGKILL: a crash. Jobs go on in both cases."""
        self._stop("slurmctld", how)

    def start_node(self, name: str = "n1") -> None:
        self._start(name, ["slurmd", "-D", "-N", name])

    def stop_node(self, name: str = "n1", how: signal.Signals = signal.SIGTERM) -> None:
        """Stop its slurmd. Its jobs go on; once the node counts as down they are requeued."""
        self._stop(name, how)

    def stop(self) -> None:
        """Cancel all jobs, stop all daemons and remove the folder."""
        with contextlib.suppress(subprocess.SubprocessError, RuntimeError, OSError):
            if "slurmctld" in self._daemons and self.jobs():
                self.call("scancel", "--signal=KILL", "--user=root", timeout=20)
                self.call("scancel", "--user=root", timeout=20)
                self.wait_empty(20)
        for name in [*self.names, "slurmctld", "munged"]:
            self._stop(name, signal.SIGTERM)
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    # Inside

    def _configure(self) -> None:
        ports = _free_ports(1 + len(self.names))
        host = socket.gethostname().split(".")[0]
        lines = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={NODE_CPUS} RealMemory={NODE_MEMORY} State=UNKNOWN"
            for name, port in zip(self.names, ports[1:], strict=True)
        ]
        configuration = self.folder / "slurm.conf"
        configuration.write_text(
            CONFIGURATION.format(
                host=host,
                controller_port=ports[0],
                folder=self.folder,
                max_array_size=self.max_array_size,
                min_job_age=self.min_job_age,
                nodes="\n".join(lines),
            )
        )
        for name in ("state", "munge", *(f"spool-{name}" for name in self.names)):
            (self.folder / name).mkdir(mode=0o755)
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
        self.env = {**outside, "PATH": PATH, "SLURM_CONF": str(configuration)}

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={folder / name}" for option, name in files.items()]
        self._start("munged", ["munged", "--foreground", f"--key-file={key}", *options])
        self._wait((folder / "socket").exists, START_SECONDS, "munged has not come up")

    def _start(self, name: str, command: list[str]) -> None:
        self._stop(name, signal.SIGKILL)
        with (self.folder / f"{name}.out").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _stop(self, name: str, how: signal.Signals) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(how)
        try:
            daemon.wait(timeout=15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _processes(self) -> Iterator[int]:
        """What a daemon left behind, such as the steps of jobs: told by its environment."""
        mark = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid():
                    yield int(path.parent.name)

    def _all_serve(self) -> bool:
        lines = self.call("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %t")
        states = dict(line.split() for line in lines.splitlines())
        return {states.get(name) for name in self.names} <= {"idle", "mix", "alloc", "comp"}

    def _wait(self, condition: Callable[[], bool], timeout: float, complaint: str) -> None:
        end = time.monotonic() + timeout
        while True:
            with contextlib.suppress(subprocess.SubprocessError):
                if condition():
                    return
            if time.monotonic() > end:
                raise RuntimeError(f"{complaint} after {timeout:.0f} s\n{self._logs()}")
            time.sleep(0.2)

    def _logs(self) -> str:
        """The end of what the daemons wrote, and the queue."""
        texts = []
        for path in sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")]):
            texts += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-10:]]
        with contextlib.suppress(subprocess.SubprocessError):
            texts += ["--- squeue", self.call("squeue", "--array", timeout=10)]
        return "\n".join(texts)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def main(words: list[str]) -> int:
    if words[:1] == ["--"]:
        words = words[1:]
    if not words:
        print(__doc__, file=sys.stderr)
        return 2
    reason = Cluster.why_not()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    with Cluster() as cluster:
        return _run(words, cluster.env)


def _run(words: list[str], env: Mapping[str, str]) -> int:
    with subprocess.Popen(words, env=dict(env)) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
