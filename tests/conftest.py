"""Fixtures that tests of every folder use."""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
from PIL import Image

from .forked import Server

if TYPE_CHECKING:
    from lmdbench.models.classifier import Encoder
    from lmdbench.training.method import Method
    from lmdbench.training.task import Task

# Tensors here are tiny: more threads only wait for each other, most of all beside other tests.
# Set before torch is imported, and inherited by commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

os.environ.pop("COLUMNS", None)  # set by pytest-xdist: output here goes to no terminal

# Tests that run in the background ignore SIGINT, and commands that they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("lmdbench", deadline=None)  # first calls import and compile
hypothesis.settings.load_profile("lmdbench")

# What takes a minute and more. It begins first: at the end of ``make test``, when nothing else is
# left to do beside it, it would be waited for. Of three processes each begins with one of these,
# and that with chaos, a single test, has the fourth to do behind it: both wait more than they work.
LONG = (
    "chaos/test_chaos.py",
    "test_types.py",
    "sweep/executors/test_local.py",
    "sweep/test_slurm_real.py",
    "cli/sweep/test_commands.py",
    "runs/test_train.py",
    "sweep/test_worker_jobs.py",
    "nullgpu/test_devices.py",
    "nullgpu/test_memory.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the files of ``LONG`` to the front; what is in a file keeps its order."""
    folder = Path(__file__).parent
    places = {folder / name: place for place, name in enumerate(LONG)}
    assert all(path.exists() for path in places)
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images and official tables; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LMDBENCH_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set LMDBENCH_TEST_DATA)")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch works on one thread, as on a machine with one processor."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """Makes small tasks: random images whose brightness tells their class, on the CPU.

    ``make_task(counts, seed=0, validation=2, size=32)``: so many training images of each class, in
    mixed order; ``validation`` images of each class.
    """
    import torch

    from lmdbench.core.randomness import Streams
    from lmdbench.training.task import Images, Task

    def make(
        counts: Sequence[int] = (12, 5, 2), *, seed: int = 0, validation: int = 2, size: int = 32
    ) -> Task:
        generator = torch.Generator().manual_seed(seed)

        def images(counts: Sequence[int]) -> Images:
            labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
            labels = labels[torch.randperm(len(labels), generator=generator)]
            noise = torch.randint(0, 128, (len(labels), 3, size, size), generator=generator)
            brightness = labels * 127 // max(1, len(counts) - 1)
            pixels = (noise + brightness[:, None, None, None]).to(torch.uint8)
            return Images(pixels, torch.arange(len(labels)), labels, torch.device("cpu"))

        return Task(
            classes=tuple(f"class {c}" for c in range(len(counts))),
            train=images(counts),
            validation=images([validation] * len(counts)),
            streams=Streams(seed, torch.device("cpu")),
            device=torch.device("cpu"),
        )

    return make


@pytest.fixture
def make_encoder() -> Callable[..., Encoder]:
    """Makes tiny encoders with a batch norm, the same one for the same seed."""
    import torch
    from torch import nn

    from lmdbench.models.classifier import Encoder

    def make(seed: int = 0, width: int = 8) -> Encoder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = nn.Sequential(
                nn.Conv2d(3, width, 3, stride=2),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
        return Encoder(body, width)

    return make


@pytest.fixture
def make_method(make_encoder: Callable[..., Encoder]) -> Callable[..., Method]:
    """Makes methods ready to train, as a run does.

    ``make_method("crt", task, ancestor, epochs=2, ...)``: with a tiny encoder, small batches unless
    the settings say otherwise, and the ancestor's weights where one is given.
    """
    from lmdbench.training.method import METHODS

    def make(
        method: str | type[Method], task: Task, ancestor: Method | None = None, **settings: Any
    ) -> Method:
        cls = METHODS.get(method) if isinstance(method, str) else method
        task.streams.start_epoch(0)
        small = {"batch_size": 4, "epochs": 2}
        small = {name: n for name, n in small.items() if hasattr(cls.Settings, name)}
        made = cls(task, cls.Settings(**{**small, **settings}), make_encoder())
        if ancestor is not None:
            made.start(ancestor)
        made.start_training()
        return made

    return make


@pytest.fixture
def train() -> Callable[..., list[dict[str, float]]]:
    """Trains a method from epoch ``first`` up to ``last`` (all, if not given), as a run does.

    Returns what each epoch logs.
    """

    def run(method: Method, first: int = 0, last: int | None = None) -> list[dict[str, float]]:
        logs = []
        for number in range(first, method.epochs if last is None else last):
            method.task.streams.start_epoch(number + 1)
            method.progress = number / method.epochs
            method.train()
            logs.append(method.epoch(number))
        method.eval()
        return logs

    return run


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def lmdbench(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Runs the command in this process, through its entry point, as in a new one that loads the
    code as it is now."""
    from lmdbench.cli.main import main
    from lmdbench.core.code import LOADED

    def call(*words: object) -> Outcome:
        LOADED.clear()
        monkeypatch.setattr(sys, "argv", ["lmdbench", *map(str, words)])
        handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        for number, handler in handlers.items():  # a process that ends needs none
            signal.signal(number, handler)
        out, err = capfd.readouterr()
        assert isinstance(stop.value.code, int)
        return Outcome(stop.value.code, out, err)

    return call


@pytest.fixture(autouse=True)
def _own_plugins() -> Iterator[None]:
    """What third parties register during a test is gone after it, as are the modules of plug-ins.

    What is built in stays: any look-up may have loaded it."""
    from lmdbench.core.registry import PLUGIN_MODULE, loaded_registries

    before = {registry: registry.added() for registry in loaded_registries()}
    modules = set(sys.modules)
    yield
    for registry in loaded_registries():
        for name in registry.added() - before.get(registry, set()):
            del registry._things[name], registry._origins[name]
    for name in set(sys.modules) - modules:
        if name.startswith(PLUGIN_MODULE):
            del sys.modules[name]


@pytest.fixture
def read_terminal() -> Callable[[int], bytes]:
    """Reads a pseudo-terminal until its other end is closed, and closes it; at most two minutes of
    silence are waited for."""

    def read(descriptor: int) -> bytes:
        seen = b""
        while select.select([descriptor], [], [], 120)[0]:
            try:
                chunk = os.read(descriptor, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            seen += chunk
        os.close(descriptor)
        return seen

    return read


@pytest.fixture(scope="session")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library for LD_PRELOAD by which file systems lack calls or stumble; see refusing.c."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc, by which calls are made to fail")
    library = tmp_path_factory.mktemp("refusing") / "refusing.so"
    source = Path(__file__).with_name("refusing.c")
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture
def on_refusing_disk(refusing: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Runs Python code, in the test's folder, whose calls fail as variables of refusing.c say."""

    def run(code: str, *arguments: object, **faults: object) -> subprocess.CompletedProcess:
        said = {f"FAULT_{name.upper()}": str(value) for name, value in faults.items()}
        env = {**os.environ, "LD_PRELOAD": str(refusing), "FAULT_UNDER": str(tmp_path), **said}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)

    return run


TOY_CLASSES = {"round": 20, "striped": 8, "dotted": 4, "rare": 1}  # class → training images


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small PNG images with labels.csv: four classes, one with one training image."""
    folder = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(0)
    rows = ["image,label,split"]
    for c, (label, count) in enumerate(TOY_CLASSES.items()):
        parts = ["train"] * count + ["validation"] * 2 + ["test"] * 3
        for number, part in enumerate(parts):
            pixels = rng.integers(0, 128, (24, 24, 3))
            pixels[:, :, c % 3] += 40 * (c + 1) // 2
            name = f"{label}-{number}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
            rows.append(f"{name},{label},{part}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is read from or left in the user's own folders."""
    os.environ["LMDBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for name in ("LMDBENCH_DATA", "LMDBENCH_RESULTS"):
        os.environ.pop(name, None)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_disks() -> Iterator[None]:
    """Files are not flushed to the disk: nothing here outlives the machine, and what a killed
    process has written is there all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _compiled() -> None:
    """Commands that tests start find the sources compiled, also where Python is told to keep no
    such files."""
    root = Path(__file__).resolve().parents[1]
    for folder in ("lmdbench", "methods", "datasets"):
        compileall.compile_dir(root / folder, quiet=2)


@pytest.fixture(scope="session")
def copies() -> Iterator[Server]:
    """Starts commands and workers that have everything imported as they begin, see forked.py."""
    if sys.platform != "linux":
        pytest.skip("copies of a process are made on Linux only")
    with Server() as server:
        yield server


@pytest.fixture
def quick_workers(copies: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of pools in this process start as such copies."""
    names = {"Popen": copies.popen, "PIPE": subprocess.PIPE}
    names["TimeoutExpired"] = subprocess.TimeoutExpired
    monkeypatch.setattr("lmdbench.sweep.executors.pool.subprocess", SimpleNamespace(**names))


@pytest.fixture
def toy_run(
    lmdbench: Callable[..., Outcome], toy_folder: Path, tmp_path: Path
) -> Callable[..., Outcome]:
    """``lmdbench run`` of a method on the toy folder with the small network, a few epochs long."""

    def run(method: str, *words: object) -> Outcome:
        return lmdbench(
            *("run", "--method", method, "--dataset", "folder", "--data-root", toy_folder),
            *("--backbone", "small", "--image-size", 24, "--results", tmp_path / "results"),
            *words,
        )

    return run


@pytest.fixture(scope="session")
def trained_run(copies: Server, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of ce on the toy folder, not to be changed."""
    results = tmp_path_factory.mktemp("trained") / "results"
    process = copies.popen(
        [
            *(sys.executable, "-m", "lmdbench", "run", "--method", "ce", "--dataset", "folder"),
            *("--data-root", toy_folder, "--backbone", "small", "--image-size", "24"),
            *("--set", "epochs=8", "--results", results, "--quiet"),
        ]
    )
    assert process.wait() == 0
    (done,) = results.glob("*/*/ce/seed*/done")
    return done.parent


@pytest.fixture
def rewrite_record() -> Callable[..., None]:
    """``rewrite_record(directory, change)``: ``run.json`` with ``change(record)`` done to it, as a
    run would have written it: its id and digests fit, also that of predictions as they are now."""
    from lmdbench.runs.record import seal, spec_id

    def rewrite(
        directory: Path, change: Callable[[dict[str, Any]], object] = lambda _: None
    ) -> None:
        path, predictions = directory / "run.json", directory / "predictions.npz"
        record = json.loads(path.read_text())
        change(record)
        record["id"] = spec_id(record["spec"])
        if predictions.exists():
            sha256 = hashlib.sha256(predictions.read_bytes()).hexdigest()
            record["digests"]["predictions"] = sha256
        record["digests"]["record"] = seal(record)
        path.write_text(json.dumps(record))

    return rewrite


@pytest.fixture
def fake_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes run directories whose predictions are given or drawn at random.

    ``fake_run("crt", seed=1, ancestor=<directory of another>, settings={…}, backbone="resnet50")``;
    further words replace parts of the spec. ``test``: (labels, logits), else drawn with the given
    ``skill``, of the given ``images``; ``record`` replaces parts of ``run.json``. Returns the
    directory.
    """
    from lmdbench.evaluation.predictions import Predictions, save_predictions
    from lmdbench.runs.record import spec_id

    classes = ["nv", "mel_a", "bcc", "df"]
    counts = {"train": [60, 20, 10, 2], "validation": [6, 4, 3, 1], "test": [30, 12, 6, 2]}

    def draw(part: str, seed: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, len(part), round(100 * skill)])
        labels = np.repeat(np.arange(len(classes)), counts[part])
        logits = rng.normal(size=(len(labels), len(classes)))
        logits[np.arange(len(labels)), labels] += skill
        return labels, logits

    def write(
        method: str = "ce",
        seed: int = 0,
        *,
        results: Path | None = None,
        skill: float = 1.0,
        test: tuple[Any, Any] | None = None,
        ancestor: Path | None = None,
        settings: dict[str, Any] | None = None,
        state: str | None = "done",
        record: dict[str, Any] | None = None,
        images: Sequence[str] | None = None,
        **spec: Any,
    ) -> Path:
        above = None
        if ancestor is not None:
            there = json.loads((ancestor / "run.json").read_text())
            above = {
                "method": there["spec"]["method"],
                "id": there["id"],
                "directory": str(ancestor),
            }
        full_spec = {
            "method": method,
            "method_version": 1,
            "settings": {"epochs": 100, "lr": 0.01, **(settings or {})},
            "selection": "last",
            "ancestor": above and above["id"],
            "dataset": "skin",
            "split": {
                "name": "plain",
                "seed": 42,
                "imbalance_factor": 100.0,
                "fingerprint": "f" * 64,
            },
            "seed": seed,
            "backbone": "resnet18",
            "weights": "IMAGENET1K_V1",
            "image_size": 224,
            "precision": "mixed",
            **spec,
        }
        full_spec.setdefault("results_name", full_spec["dataset"])
        content: dict[str, Any] = {
            "format": 1,
            "id": spec_id(full_spec),
            "spec": full_spec,
            "results_name": full_spec["results_name"],
            "split_label": "plain-if100",
            "ancestor": above,
            "classes": classes,
            "class_counts": counts,
            "groups": {"head": ["nv"], "medium": ["mel_a", "bcc"], "tail": ["df"]},
            "partial": None,
            "synthetic": False,
            "changed_settings": settings or {},
            "precision_used": "bfloat16",
            **(record or {}),
        }
        parts = {part: draw(part, seed, skill) for part in ("validation", "test")}
        if test is not None:
            labels, logits = np.asarray(test[0]), np.asarray(test[1], dtype=float)
            parts["test"] = labels, logits
            per_class = np.bincount(labels, minlength=logits.shape[1]).tolist()
            content["class_counts"] = {**content["class_counts"], "test": per_class}
        folder = (results or tmp_path / "results") / content["results_name"]
        directory = folder / content["split_label"] / method / f"seed{seed}-{content['id'][:8]}"
        directory.mkdir(parents=True)
        (directory / "run.json").write_text(json.dumps(content))
        save_predictions(
            directory / "predictions.npz",
            {
                part: Predictions(
                    np.array(
                        images
                        if images and part == "test"
                        else [
                            f"{'image' if part == 'test' else part}{n}" for n in range(len(labels))
                        ]
                    ),
                    labels,
                    logits.astype(np.float32),
                )
                for part, (labels, logits) in parts.items()
            },
        )
        if state:
            (directory / state).touch()
        return directory

    return write
