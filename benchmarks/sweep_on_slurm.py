"""A sweep of thousands of runs on a SLURM that takes few jobs at a time, and what it is asked for.

    python benchmarks/sweep_on_slurm.py --runs 2000 --runs-per-job 20
    python benchmarks/sweep_on_slurm.py --runs 2000 --workers

Starts a real SLURM on this machine (as root; see tests/cluster.py) whose arrays have at most
``--array-size`` tasks. Where mariadb and slurmdbd are installed, accounting lets a user have
``--limit`` jobs in the queue, and sbatch refuses more; else ``max_jobs`` of the sweep is that. The
runs are as short as can be: one epoch of the drawn images at 16 px, four of five runs behind a
stage 1 that they share. Calls of SLURM's commands are counted by wrappers on PATH, those of the
nodes, too; the benchmark's own are not. The peak memory is that of the ``launch`` process alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import cluster

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sacct", "sacctmgr")
DAEMONS = ("mariadbd", "mariadb", "mariadb-install-db", "slurmdbd", "sacctmgr")
METHODS = ("crt", "lws", "balms", "crt-wide")  # behind one ce each
WRAPPER = """#!/bin/sh
{command} "$@"
code=$?
echo "$code $*" >> {log}
exit $code
"""


class Limited(cluster.Cluster):
    """A cluster with accounting, whose users have at most ``limit`` jobs in the queue."""

    def __init__(self, limit: int, **options: int) -> None:
        super().__init__(**options)
        self.limit = limit

    def start_controller(self) -> None:
        if "slurmdbd" not in self._daemons:
            self._start_accounting()
        super().start_controller()

    def stop(self) -> None:
        super().stop()
        for name in ("slurmdbd", "mariadbd"):
            self._stop(name, signal.SIGTERM)

    def _start_accounting(self) -> None:
        folder = self.folder
        data, socket = folder / "mysql", folder / "mysql.socket"
        database, accounting = cluster._free_ports(2)
        data.mkdir()
        own = ["--no-defaults", "--user=root", f"--datadir={data}"]
        trust = "--auth-root-authentication-method=normal"
        subprocess.run(["mariadb-install-db", *own, trust], env=self.env, check=True, stdout=-3)
        small = ["--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"]
        where = [f"--socket={socket}", f"--port={database}", "--bind-address=127.0.0.1"]
        self._start("mariadbd", ["mariadbd", *own, *where, *small])
        self._wait(socket.exists, 60, "mariadbd has not come up")
        user = "slurm@localhost identified by 'x'"
        sql = f"create database slurm; create user {user}; grant all on slurm.* to slurm@localhost;"
        client = ["mariadb", "--no-defaults", f"--socket={socket}", "--user=root", "-e", sql]
        subprocess.run(client, env=self.env, check=True)
        munge = f"{folder}/munge/socket"
        configuration = folder / "slurmdbd.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={munge}\nDbdHost=localhost\n"
            f"DbdPort={accounting}\nSlurmUser=root\nLogFile={folder}/slurmdbd.log\n"
            f"PidFile={folder}/slurmdbd.pid\nStorageType=accounting_storage/mysql\n"
            f"StorageHost=localhost\nStoragePort={database}\nStorageUser=slurm\nStoragePass=x\n"
            "StorageLoc=slurm\n"
        )
        path = folder / "slurm.conf"
        text = path.read_text().replace(
            "AccountingStorageType=accounting_storage/none",
            "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\n"
            f"AccountingStoragePort={accounting}\nAccountingStoragePass={munge}\n"
            "AccountingStorageEnforce=associations,limits,qos",
        )
        path.write_text(text)
        self.env["MYSQL_UNIX_PORT"] = str(socket)
        self._start("slurmdbd", ["slurmdbd", "-D"])
        show = ["sacctmgr", "-n", "show", "cluster"]
        self._wait(lambda: bool(self.call(*show)) or True, 60, "slurmdbd has not come up")
        for words in (
            ["add", "cluster", "test"],
            ["add", "account", "lab", "Description=x", "Organization=x"],
            ["add", "user", "root", "account=lab"],
            ["modify", "qos", "normal", "set", f"MaxSubmitJobsPerUser={self.limit}"],
        ):
            self.call("sacctmgr", "-i", *words)


def write_sweep(path: Path, options: argparse.Namespace, *, accounting: bool) -> None:
    """Sweeps of ce and what starts from it, with as many seeds as make so many runs."""
    seeds = max(1, options.runs // (1 + len(METHODS)))
    lines = [f'seeds = "0-{seeds - 1}"', 'datasets = ["demo"]', 'plugins = ["wide.py"]']
    lines += [f"methods = {json.dumps(METHODS)}", "[run]", 'backbone = "small"', "image_size = 16"]
    lines += ["[settings.all]", "epochs = 1", "batch_size = 512", "[resources]", 'on = "slurm"']
    lines += ["threads = 1", f"runs_per_job = {options.runs_per_job}", "[slurm]", 'time = "2h"']
    lines += ['mem = "900M"']
    lines += [] if accounting else [f"max_jobs = {options.limit}"]
    lines += [f"workers = {options.limit}"] if options.workers else []
    path.write_text("\n".join(lines) + "\n")
    path.with_name("wide.py").write_text(
        "from lmdbench.training.method import METHODS, register_method\n"
        '@register_method("crt-wide")\nclass Wide(METHODS.get("crt")):\n    title = "wide"\n'
    )


def counting(folder: Path, env: dict[str, str]) -> dict[str, str]:
    """An environment whose commands of SLURM leave a line each in ``folder``."""
    folder.mkdir()
    for name in COMMANDS:
        real = shutil.which(name, path=env["PATH"])
        wrapper = folder / name
        wrapper.write_text(WRAPPER.format(command=real, log=folder / f"{name}.log"))
        wrapper.chmod(0o755)
    return {**env, "PATH": f"{folder}:{env['PATH']}"}


def calls(folder: Path, name: str) -> Counter[bool]:
    """How often a command was called, with success and without."""
    log = folder / f"{name}.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(line.startswith("0 ") for line in lines)


def launch_once(command: list[str], env: dict[str, str]) -> int:
    """Run a launch to its end; its peak resident memory, in KiB, without its children's."""
    process = subprocess.Popen(command, env=env)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss


def work(folder: Path, options: argparse.Namespace, env: dict[str, str]) -> None:
    """Launch until all is done, and print what that took."""
    command = [sys.executable, "-m", "lmdbench", "sweep"]
    where = [str(folder / "many.toml"), "--results", str(folder / "results")]
    launch = [*command, "launch", *where, *([] if options.workers else ["--follow"])]
    env = {**env, "LMDBENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    asked = counting(folder / "counted", env)
    begun = time.monotonic()
    states: dict[str, int] = {}
    launches = peak = 0
    while set(states) != {"done"} and launches < options.launches:
        launches += 1
        peak = max(peak, launch_once(launch, asked))
        while subprocess.run(
            ["squeue", "--noheader"], env=env, capture_output=True, text=True, check=True
        ).stdout.strip():
            time.sleep(2)
        told = subprocess.run([*command, "status", *where, "--json"], env=env, capture_output=True)
        states = json.loads(told.stdout)["states"]
    seconds = time.monotonic() - begun
    print(f"\n{states} after {launches} launch(es) and {seconds:.0f} s")
    print(f"{'launch':10} {peak / 1024:6.0f} MiB at most")
    for name in COMMANDS:
        count = calls(folder / "counted", name)
        print(f"{name:10} {count.total():6} calls, {count[False]} of them refused or unanswered")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--runs-per-job", type=int, default=5)
    parser.add_argument("--array-size", type=int, default=10)
    parser.add_argument("--limit", type=int, default=8, help="jobs in the queue at a time")
    parser.add_argument("--workers", action="store_true", help="pull workers, as many as the limit")
    parser.add_argument("--launches", type=int, default=5, help="at most")
    options = parser.parse_args()
    accounting = all(shutil.which(name, path=cluster.PATH) for name in DAEMONS)
    size = {"max_array_size": options.array_size}
    made = Limited(options.limit, **size) if accounting else cluster.Cluster(**size)
    with tempfile.TemporaryDirectory() as name, made as slurm:
        print(f"limit by {'accounting' if accounting else 'max_jobs'}", flush=True)
        write_sweep(Path(name) / "many.toml", options, accounting=accounting)
        work(Path(name), options, slurm.env)


if __name__ == "__main__":
    main()
