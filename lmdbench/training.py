"""Carry out a planned run: train, checkpoint at epoch ends, resume, score once at the end."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import resource
import shutil
import subprocess
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmdbench.data.batches import Images, Task
from lmdbench.data.store import Store
from lmdbench.errors import RunFailed, UserError
from lmdbench.evaluation.metrics import balanced_accuracy
from lmdbench.evaluation.predictions import Predictions, save_predictions
from lmdbench.files import Claim, atomic, remove_leftovers, write_json, write_text
from lmdbench.method import Method
from lmdbench.models.backbones import Weights, build_encoder
from lmdbench.randomness import Streams, derived_seed
from lmdbench.run import PlannedRun, method_digest, run_state
from lmdbench.version import __version__

logger = logging.getLogger("lmdbench")

RANDOM = Weights("none", "none")  # of an encoder that gets its weights elsewhere
WAIT_SECONDS = 2.0  # between two looks at a run that another worker is training


class Progress(Protocol):
    """Who watches a run. Called from the training loop; must be quick."""

    def begin(self, run: PlannedRun, epoch: int, epochs: int) -> None: ...
    def tick(self, done: int, total: int) -> None: ...
    def epoch(self, row: Mapping[str, float]) -> None: ...
    def end(self) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass(frozen=True)
class Machine:
    """What runs work on."""

    store: Store
    device: torch.device
    progress: Progress
    force: bool = False  # move a finished run aside and do it again
    accept_changed: bool = False  # trust a run made by other code or from another store


def execute(run: PlannedRun, machine: Machine) -> Path:
    """Make sure that a run and all it starts from are finished. Returns its directory.

    Raises UserError for a stale run or a full disk, RunFailed for one that breaks.
    """
    for link in run.chain:
        _finish(link, machine, force=machine.force and link is run)
    return run.directory


def _finish(run: PlannedRun, machine: Machine, *, force: bool) -> None:
    directory = run.directory
    claim = Claim(directory / "running.json")
    stale = _staleness(run, machine)
    if stale and not machine.accept_changed:
        if not machine.force:
            raise UserError(
                f"{directory}: {stale}; --force moves it aside and trains it anew, "
                f"--accept-changed trusts it as it is"
            )
        force = True
    if force and directory.exists():
        if run.state == "running":
            raise UserError(f"{directory} is being trained {holder_text(claim)}; not moved aside")
        _move_aside(directory, machine.progress)
    waited = False
    while run.state != "finished":
        directory.mkdir(parents=True, exist_ok=True)
        if claim.acquire():
            try:
                if run.state != "finished":
                    Training(run, machine, claim).carry_out()
            finally:
                claim.release()
            return
        if not waited:
            machine.progress.say(
                f"{run.spec.method} seed {run.spec.seed}: being trained {holder_text(claim)}; "
                f"waiting for it"
            )
            waited = True
        time.sleep(WAIT_SECONDS)


def holder_text(claim: Claim) -> str:
    """Who holds a claim, for a sentence."""
    holder = claim.holder() or {}
    return f"by process {holder.get('pid', '?')} on {holder.get('host', '?')}"


def _staleness(run: PlannedRun, machine: Machine) -> str | None:
    """Why a directory's contents may not be what its id promises; None if they are."""
    if run_state(run.directory) == "missing":
        return None
    record = run.record()
    made = record.get("digests", {})
    if made.get("method") != method_digest(run.method):
        return f"the code of {run.spec.method} has changed since this run"
    if made.get("store") != machine.store.digest:
        return "the images have changed since this run"
    if run.ancestor is not None and run_state(run.ancestor.directory) == "finished":
        model = run.ancestor.record().get("digests", {}).get("model")
        if made.get("ancestor") not in (None, model):
            return f"the {run.ancestor.spec.method} run it started from has been trained anew"
    return None


def _move_aside(directory: Path, progress: Progress) -> None:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    aside = directory.with_name(f"{directory.name}.old-{stamp}")
    number = 1
    while aside.exists():
        aside = directory.with_name(f"{directory.name}.old-{stamp}-{number}")
        number += 1
    directory.rename(aside)
    progress.say(f"moved aside: {aside}")


@dataclass
class State:
    """What a checkpoint holds besides the method and its optimisers."""

    epoch: int = 0  # epochs done
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_score: float = -1.0
    best_epoch: int = 0
    best_model: dict[str, Tensor] | None = None


class Training:
    """One run on one machine, under a claim already held."""

    def __init__(self, run: PlannedRun, machine: Machine, claim: Claim) -> None:
        self.run = run
        self.machine = machine
        self.claim = claim
        self.directory = run.directory
        self.progress = machine.progress
        self.state = State()

    def carry_out(self) -> None:
        with self._logging():
            try:
                self._carry_out()
            except (KeyboardInterrupt, UserError):
                raise
            except torch.cuda.OutOfMemoryError as error:
                self._fail(error, "out of GPU memory: try a smaller --set batch_size")
            except Exception as error:
                self._fail(error, str(error).strip().split("\n")[0])
            finally:
                self.progress.end()

    def _carry_out(self) -> None:
        run, spec = self.run, self.run.spec
        remove_leftovers(self.directory)
        self._remove("failed.txt")
        started = time.monotonic()
        self._record_start()
        task = self._task()
        method = self._build(task)
        self._resume(method)
        self.progress.begin(run, self.state.epoch, method.epochs)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        begun = started - self.state.seconds  # as if earlier attempts had been one with this
        for number in range(self.state.epoch, method.epochs):
            epoch_started = time.monotonic()
            task.streams.start_epoch(number + 1)
            method.progress = number / method.epochs
            method.train()
            logs = method.epoch(number)
            validation = self._validation_score(method, task)
            row = {
                "epoch": number + 1,
                **logs,
                "validation_balanced_accuracy": validation,
                "seconds": time.monotonic() - epoch_started,
            }
            bad = [name for name, value in logs.items() if not np.isfinite(value)]
            if bad:
                raise FloatingPointError(
                    f"{bad[0]} is {logs[bad[0]]} in epoch {number + 1}: try a lower learning rate"
                )
            self.state.epoch = number + 1
            self.state.seconds = time.monotonic() - begun
            self.state.history.append(row)
            if spec.selection == "best" and validation > self.state.best_score:
                self.state.best_score = validation
                self.state.best_epoch = number + 1
                self.state.best_model = _copy(method.state_dict())
            self._save(method)
            self.progress.epoch(row)
            logger.info("epoch %d/%d  %s", number + 1, method.epochs, _plain(row))
        if self.state.best_model is not None:
            method.load_state_dict(self.state.best_model)
        task.streams.start_epoch(method.epochs + 1)
        method.progress = 1.0
        method.eval()
        method.finish()
        self.state.seconds = time.monotonic() - begun
        self._publish(method, task)

    # Before the first epoch

    def _task(self) -> Task:
        """The training and validation images. Test images stay out of reach until the end."""
        precision = None
        if self.run.spec.precision == "mixed" and self.machine.device.type == "cuda":
            precision = torch.bfloat16 if torch.cuda.is_bf16_supported() else None
        return Task(
            classes=self.run.experiment.prepared.split.classes,
            train=self._images("train"),
            validation=self._images("validation"),
            streams=Streams(self.run.spec.seed, self.machine.device),
            device=self.machine.device,
            precision=precision,
            tick=self.progress.tick,
        )

    def _images(self, part: str) -> Images:
        data = self.run.experiment.prepared.split.parts[part]
        store = self.machine.store
        labels = torch.from_numpy(np.asarray(data.labels, dtype=np.int64))
        return Images(store.pixels, store.rows(data.ids), labels, self.machine.device)

    def _build(self, task: Task) -> Method:
        """The method at its starting point: pretrained weights, or the run it starts from."""
        run = self.run
        method = new_method(run, task)
        if run.ancestor is not None:
            method.start(load_finished(run.ancestor, task))
        method.start_training()
        lonely = [
            name
            for name, count in zip(task.classes, task.class_counts.tolist(), strict=True)
            if count == 1
        ]
        if lonely:
            logger.info("one training image only: %s", ", ".join(lonely))
        return method

    def _resume(self, method: Method) -> None:
        path = self.directory / "checkpoint.pt"
        if not path.exists():
            return
        try:
            saved = torch.load(path, map_location=self.machine.device, weights_only=True)
            method.load_state_dict(saved["method"])
            for name, optimizer in method.running_optimizers.items():
                optimizer.load_state_dict(saved["optimizers"][name])
            self.state = State(**saved["state"])
        except Exception as error:
            raise UserError(
                f"{path} can't be read ({type(error).__name__}); "
                f"delete it to train this run from its beginning"
            ) from error
        logger.info("resumed after epoch %d of %d", self.state.epoch, method.epochs)

    def _record_start(self) -> None:
        path = self.directory / "run.json"
        previous = self.run.record() if path.exists() else {}
        threads = torch.get_num_threads()
        if (
            previous.get("threads", threads) != threads
            or previous.get("device", self._device_name()) != self._device_name()
        ):
            logger.warning(
                "resumed on another device or with another number of threads: "
                "not bit-identical to an uninterrupted run"
            )
        ancestor = self.run.ancestor
        self.info = {
            **self.run.describe(),
            "digests": {
                "method": method_digest(self.run.method),
                "store": self.machine.store.digest,
                "ancestor": ancestor and ancestor.record()["digests"].get("model"),
            },
            "versions": {
                "lmdbench": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
                "numpy": np.__version__,
            },
            "git_commit": git_commit(),
            "started": previous.get("started", _now()),
            "device": self._device_name(),
            "threads": threads,
            "attempts": previous.get("attempts", 0) + 1,
        }
        write_json(path, self.info)

    def _device_name(self) -> str:
        if self.machine.device.type == "cuda":
            return torch.cuda.get_device_name(self.machine.device)
        return f"cpu ({platform.machine()})"

    # At each epoch's end

    def _validation_score(self, method: Method, task: Task) -> float:
        if len(task.validation) == 0:
            return float("nan")
        logits = logits_of(method, task, task.validation)
        return balanced_accuracy(task.validation.host_labels.numpy(), logits)

    def _check_claim(self) -> None:
        if not self.claim.is_mine():
            raise UserError(
                f"{self.directory} was taken over {holder_text(self.claim)}; this process stops"
            )

    def _save(self, method: Method) -> None:
        self._check_claim()
        checkpoint = {
            "method": method.state_dict(),
            "optimizers": {n: o.state_dict() for n, o in method.running_optimizers.items()},
            "state": vars(self.state),
        }
        with atomic(self.directory / "checkpoint.pt") as path:
            torch.save(checkpoint, path)
        with atomic(self.directory / "history.csv") as path:
            pd.DataFrame(self.state.history).to_csv(path, index=False)

    # At the end

    def _publish(self, method: Method, task: Task) -> None:
        """Score test once, write the results, and only then mark the run as finished."""
        self._check_claim()
        parts = {
            "validation": (task.validation, self._ids("validation")),
            "test": (self._images("test"), self._ids("test")),
        }
        save_predictions(
            self.directory / "predictions.npz",
            {
                part: Predictions(
                    ids=ids,
                    labels=images.host_labels.numpy(),
                    logits=logits_of(method, task, images),
                )
                for part, (images, ids) in parts.items()
            },
        )
        model = {
            name: tensor.contiguous()
            for name, tensor in _copy(method.state_dict()).items()
            if name.partition(".")[0] not in method.scaffolding
        }
        with atomic(self.directory / "model.safetensors") as path:
            save_file(model, path)
        with (self.directory / "model.safetensors").open("rb") as file:
            self.info["digests"]["model"] = hashlib.file_digest(file, "sha256").hexdigest()
        selected = self.state.best_epoch if self.state.best_model is not None else method.epochs
        write_json(
            self.directory / "run.json",
            {
                **self.info,
                "finished": _now(),
                "seconds": self.state.seconds,
                "peak_memory_mib": _peak_memory_mib(self.machine.device),
                "precision_used": str(task.precision or torch.float32).removeprefix("torch."),
                "epochs": method.epochs,
                "selected_epoch": selected,
            },
        )
        self._check_claim()
        write_text(self.directory / "done", _now() + "\n")
        self._remove("checkpoint.pt")
        logger.info("finished in %.0f s", self.state.seconds)

    def _ids(self, part: str) -> np.ndarray:
        return np.asarray(self.run.experiment.prepared.split.parts[part].ids, dtype=str)

    def _fail(self, error: Exception, reason: str) -> None:
        path = self.directory / "failed.txt"
        with contextlib.suppress(OSError, UserError):
            write_text(path, traceback.format_exc())
        name = f"{self.run.spec.method} seed {self.run.spec.seed}"
        raise RunFailed(f"{name} failed: {reason} (traceback in {path})") from error

    def _remove(self, name: str) -> None:
        (self.directory / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _logging(self) -> Iterator[None]:
        """The run's log file, for as long as it is worked on."""
        handler = logging.FileHandler(self.directory / "run.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            logger.info(
                "%s seed %d on %s, process %d on %s, lmdbench %s",
                self.run.spec.method,
                self.run.spec.seed,
                self._device_name(),
                os.getpid(),
                platform.node(),
                __version__,
            )
            yield
        finally:
            logger.removeHandler(handler)
            handler.close()


def new_method(run: PlannedRun, task: Task) -> Method:
    """An untrained method on the run's device; its random parameters follow from the seed."""
    weights = run.experiment.weights
    if run.spec.ancestor is not None:
        weights = RANDOM  # the ancestor brings its own
    torch.manual_seed(derived_seed(run.spec.seed, "init", 0))
    encoder = build_encoder(run.experiment.backbone, weights)
    settings = run.method.Settings(**run.spec.settings)
    method = run.method(task, settings, encoder)
    return method.to(task.device).to(memory_format=torch.channels_last)


def load_finished(run: PlannedRun, task: Task) -> Method:
    """The method of a finished run with its trained weights, in evaluation mode."""
    experiment = replace(run.experiment, weights=RANDOM)
    method = new_method(replace(run, experiment=experiment), task)
    path = run.directory / "model.safetensors"
    try:
        weights = load_file(path, device=str(task.device))
    except Exception as error:
        raise UserError(f"{path} can't be read: {error}; --force trains it anew") from error
    missing, unexpected = method.load_state_dict(weights, strict=False)
    missing = [name for name in missing if name.partition(".")[0] not in method.scaffolding]
    if missing or unexpected:
        raise UserError(f"{path} does not fit {run.spec.method}: {(missing + unexpected)[0]}")
    return method.eval()


@torch.inference_mode()
def logits_of(method: Method, task: Task, images: Images) -> np.ndarray:
    """Logits (N, C) float32 of a part's images in their order."""
    method.eval()
    rows = [torch.empty(0, task.num_classes)]
    for batch in task.in_order(images):
        with task.autocast():
            logits = method.predict(batch.images)
        rows.append(logits.float().cpu())
    return torch.cat(rows).numpy()


def git_commit() -> str | None:
    """The commit of the source tree that lmdbench runs from, None outside a checkout."""
    if shutil.which("git") is None:
        return None
    here = Path(__file__).resolve().parent
    commands = ["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]
    answers = []
    for command in commands:
        result = subprocess.run(
            ["git", "-C", str(here), *command], capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            return None
        answers.append(result.stdout.strip())
    commit, changes = answers
    return f"{commit} with uncommitted changes" if changes else commit


def _peak_memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _copy(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(row: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
