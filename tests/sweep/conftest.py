"""Tasks on the toy folder, pools that work them off in a process of their own, and bad disks."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Wanted = tuple[str, int, Mapping[str, str]]  # method, seed, settings


@pytest.fixture
def cache() -> Path:
    return Path(os.environ["LMDBENCH_CACHE"])


@pytest.fixture
def pool_jobs(toy_folder: Path, cache: Path) -> Callable[..., list[Any]]:
    """``pool_jobs(results, ("crt", 0, {"ce.epochs": "2"}), …)``: each with what it starts from."""
    from lmdbench.core.code import LOADED
    from lmdbench.runs.code_digest import combined
    from lmdbench.runs.request import Contexts, RunContext, RunRequest
    from lmdbench.sweep.executors.jobs import RunJob
    from lmdbench.sweep.executors.watcher import PoolJob

    def make(results: Path, *wanted: Wanted, **setup: Any) -> list[PoolJob]:
        LOADED.clear()  # as a new process begins
        contexts = Contexts(results, cache, files=False)
        base = {"dataset": "folder", "data_root": toy_folder, "backbone": "small", "image_size": 24}
        shared = RunContext(**{**base, **setup})
        found: dict[str, PoolJob] = {}
        for method, seed, settings in wanted:
            request = RunRequest(shared, method, seed, settings)
            needs = None
            for depth, run in enumerate(request.plan(contexts.of(shared)).chain):
                key = run.directory.relative_to(results).as_posix()
                job = RunJob(key, run.spec.id, combined(run.code), request, depth)
                found.setdefault(key, PoolJob(job, run.title, needs))
                needs = key
        return sorted(found.values(), key=lambda job: job.run.depth)

    return make


class Silent:
    """A watcher that keeps what is said. After its fourth epoch a run waits for ``gate``."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.epochs = 0
        self.gate = threading.Event()
        self.gate.set()

    def begin(self, *_: Any) -> None: ...
    def tick(self, *_: Any) -> None: ...
    def end(self) -> None: ...
    def prepare(self, *_: Any) -> None: ...
    def alive(self) -> None: ...

    def epoch(self, *_: Any) -> None:
        self.epochs += 1
        if self.epochs == 4:
            assert self.gate.wait(60)

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def make_worker(cache: Path) -> Callable[..., Any]:
    """``make_worker(results, …)``: a worker in this process, its watcher a ``Silent``."""
    import torch

    from lmdbench.sweep.executors.worker import Worker

    def make(results: Path, **options: Any) -> Worker:
        options = {"patience": 0.0, "wait_for_dead": False, **options}
        return Worker(results, cache, torch.device("cpu"), Silent(), **options)

    return make


@pytest.fixture
def predictions() -> Callable[[Path], dict[str, bytes]]:
    """The arrays of a run's predictions, to the bit; its history too, without the times."""
    import pandas as pd

    def read(directory: Path) -> dict[str, bytes]:
        with np.load(directory / "predictions.npz") as arrays:
            found = {name: array.tobytes() for name, array in arrays.items()}
        history = pd.read_csv(directory / "history.csv").drop(columns="seconds")
        return {**found, "history": history.to_csv().encode()}

    return read


@pytest.fixture
def undisturbed(tmp_path: Path, make_worker: Any, predictions: Any) -> Callable[..., Any]:
    """Key → predictions of jobs that one worker did in turn, in a results folder of their own."""

    def do(jobs: Sequence[Any]) -> dict[str, dict[str, bytes]]:
        results = tmp_path / "undisturbed"
        worker = make_worker(results)
        for job in jobs:
            assert worker.carry_out(job.run).kind == "done"
        return {job.key: predictions(results / job.key) for job in jobs}

    return do


POOL = """
import json, sys
from pathlib import Path
from lmdbench.cli.options import stop_on_sigterm
from lmdbench.cli.sweep_live import pool_watcher
from lmdbench.core.errors import Interrupted, UserError
from lmdbench.core.registry import load_plugin
from lmdbench.sweep.config.retry import Retry
from lmdbench.sweep.executors.local import PoolOptions, run_locally
from lmdbench.sweep.executors.watcher import PoolJob
from lmdbench.sweep.executors.jobs import RunJob

stop_on_sigterm()
given = json.load(open(sys.argv[1]))
jobs = [PoolJob(RunJob.from_json(job), title, needs) for job, title, needs in given["jobs"]]
options = given["options"]
for name in ("results", "cache", "folder"):
    options[name] = Path(options[name])
options["plugins"] = tuple(map(Path, options["plugins"]))
options["retry"] = Retry.from_json(options.get("retry", {}))
for plugin in options["plugins"]:
    load_plugin(plugin)
try:
    summary = run_locally(jobs, PoolOptions(**options), pool_watcher("toy"))
except (Interrupted, UserError) as error:
    print(error, file=sys.stderr)
    sys.exit(130 if isinstance(error, Interrupted) else 2)
print(json.dumps({key: [o.kind, o.text] for key, o in summary.outcomes.items()}))
"""


class Pool:
    """A pool in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.err = ""

    def finish(self, code: int = 0) -> dict[str, list[str]]:
        """Wait for its end. Key → kind and text of the outcome."""
        out, self.err = self.process.communicate(timeout=120)
        assert self.process.returncode == code, self.err
        return json.loads(out) if out else {}


class Recorder:
    """A watcher of a pool that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.started_titles: list[str] = []
        self.counts: Mapping[str, int] = {}

    def begin(self, *_: Any) -> None: ...
    def end(self) -> None: ...

    def started(self, _slot: Any, job: Any) -> None:
        self.started_titles.append(job.title)

    def event(self, _slot: Any, event: Mapping[str, Any]) -> None:
        if event["event"] == "say":
            self.said.append(event["text"])

    def ended(self, job: Any, outcome: Any) -> None:
        self.said.append(f"{job.title}: {outcome.kind}: {outcome.text}")

    def elsewhere(self, job: Any) -> None: ...

    def died(self, slot: Any, what: str) -> None:
        self.said.append(f"{slot.name}: {what}")

    def count(self, counts: Mapping[str, int]) -> None:
        self.counts = counts


class Thread:
    """A pool in a thread of this process, which starts sooner than one in its own."""

    def __init__(self, jobs: Sequence[Any], options: Any) -> None:
        from lmdbench.sweep.executors.local import run_locally

        self.watcher = Recorder()
        self.executor = ThreadPoolExecutor(1)
        self.future = self.executor.submit(run_locally, jobs, options, self.watcher)

    def finish(self) -> dict[str, tuple[str, str]]:
        summary = self.future.result(120)
        return {key: (o.kind, o.text) for key, o in summary.outcomes.items()}


@pytest.fixture
def pool(cache: Path, quick_workers: None) -> Iterator[Callable[..., Thread]]:
    """``pool(jobs, results, workers=2, …)``, with options of ``PoolOptions``."""
    from lmdbench.sweep.executors.pool import PoolOptions

    threads: list[Thread] = []

    def start(jobs: Sequence[Any], results: Path, **options: Any) -> Thread:
        options = {"name": f"toy-{len(threads)}", "workers": 1, "threads": 1, **options}
        folder = results / "sweeps" / "toy"
        options = {"results": results, "cache": cache, "folder": folder, **options}
        threads.append(Thread(jobs, PoolOptions(**options)))
        return threads[-1]

    yield start
    for thread in threads:
        thread.executor.shutdown()


def children(pid: int) -> list[int]:
    """Process ids of the workers that a process has started itself."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return [child for child in found if "executors.worker" in command(child)]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@pytest.fixture
def workers(copies: Any) -> Callable[[int], list[int]]:
    """Process ids of the workers of a pool's process, also of this one with ``quick_workers``."""
    return lambda pid: copies.workers() if pid == os.getpid() else children(pid)


@pytest.fixture
def start_pool(tmp_path: Path, cache: Path) -> Iterator[Callable[..., Pool]]:
    """As ``pool``, in a process of its own with what a person sees."""
    pools: list[Pool] = []

    def start(jobs: Sequence[Any], results: Path, **options: Any) -> Pool:
        number = len(pools)
        folder = results / "sweeps" / "toy"
        content = {
            "jobs": [(job.run.to_json(), job.title, job.needs) for job in jobs],
            "options": {
                "results": str(results),
                "cache": str(cache),
                "folder": str(folder),
                "name": f"toy-{number}",
                "workers": 1,
                "threads": 1,
                "plugins": [],
                **options,
            },
        }
        file = tmp_path / f"pool-{number}.json"
        file.write_text(json.dumps(content, default=str))
        process = subprocess.Popen(
            [sys.executable, "-c", POOL, str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        pools.append(Pool(process))
        return pools[-1]

    yield start
    for pool in pools:
        if pool.process.poll() is None:
            pool.process.kill()
            pool.process.communicate()


@pytest.fixture
def until() -> Callable[..., Any]:
    """``until(lambda: …)``: what it returns, once that is true."""

    def wait(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.005)
        return found

    return wait


@pytest.fixture
def gone(until: Any) -> Callable[[int], None]:
    """Waits until a process that is no child of this one has ended."""

    def wait(pid: int) -> None:
        def ended() -> bool:
            try:
                return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                return True

        until(ended, 15)

    return wait


def mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, check=False)
    if os.getuid() != 0 or done.returncode != 0:
        pytest.skip("only root can mount file systems")


class SmallDisk:
    """A file system of its own that can be full or read-only for a while."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ballast = folder / "ballast"

    def fill(self) -> None:
        with self.ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def empty(self) -> None:
        self.ballast.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Who opens a file from now on finds it read-only; files that are open stay so."""
        mount("--bind", str(self.folder), str(self.folder))
        try:
            mount("-o", "remount,bind,ro", str(self.folder))
            yield
        finally:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., Path]:
    """``plugin("raising", "1 / 0")``: a file with a method of that name and loss. Names are used
    once in all tests: they stay registered."""

    def write(name: str, loss: str, starts_from: str | None = None) -> Path:
        path = tmp_path / f"{name.replace('-', '_')}_plugin.py"
        path.write_text(PLUGIN.format(name=name, loss=loss, start=starts_from))
        return path

    return write


PLUGIN = """
import os, signal
from torch import nn
from torch.nn.functional import cross_entropy
from lmdbench.training.method import Method, register_method
from lmdbench.models.classifier import Classifier

@register_method("{name}")
class Mine(Method):
    starts_from = {start!r}

    def build(self, encoder):
        head = nn.Linear(encoder.out_features, self.task.num_classes)
        self.model = Classifier(encoder, nn.Sequential(nn.Dropout(0.5), head))

    def loss(self, batch):
        return {loss}
"""


@pytest.fixture
def attempts() -> Callable[[Path], int]:
    """How often a run was begun, by its record and its log alike."""

    def count(directory: Path) -> int:
        begun = (directory / "run.log").read_text().count(", process ")
        assert json.loads((directory / "run.json").read_text())["attempts"] == begun
        return begun

    return count


@pytest.fixture(scope="session")
def slurm() -> Iterator[Any]:
    """A real SLURM of two nodes with three CPUs each; tests skip where it is not installed.

    Commands find it by ``SLURM_CONF`` and ``PATH`` of its ``env``.
    """
    path = Path(__file__).resolve().parents[1] / "cluster.py"  # a script, in no package
    spec = importlib.util.spec_from_file_location("cluster", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reason = module.Cluster.why_not()
    if reason:
        pytest.skip(reason)
    with module.Cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture
def make_plan(toy_folder: Path, cache: Path, tmp_path: Path) -> Callable[..., Any]:
    """Plans a sweep on the toy folder from the rest of its file, in ``tmp_path / "results"``;
    ``of_dataset``: lines below its data set."""
    from lmdbench.runs.request import Contexts
    from lmdbench.sweep.config.file import read_sweep
    from lmdbench.sweep.plan import make_plan

    def make(text: str, of_dataset: str = "") -> Any:
        path = tmp_path / "toy.toml"
        setup = '[run]\nbackbone = "small"\nimage_size = 24\n[[datasets]]\nname = "folder"\n'
        path.write_text(f'{text}\n{setup}data_root = "{toy_folder}"\n{of_dataset}\n')
        contexts = Contexts(tmp_path / "results", cache, files=False)
        return make_plan(read_sweep(str(path), None), contexts)

    return make
