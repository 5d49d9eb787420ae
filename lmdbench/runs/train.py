"""Train a planned run under its claim: checkpoint at epoch ends, resume, score once at the end."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lmdbench.core.aside import clear, set_aside
from lmdbench.core.claim import Claim
from lmdbench.core.determinism import deterministic
from lmdbench.core.environment import (
    device_name,
    environment,
    lost_device,
    peak_memory_mib,
    peak_reserved_mib,
    reset_peak_memory,
)
from lmdbench.core.errors import Damaged, DeviceLost, DiskError, RunFailed, UserError
from lmdbench.core.files import (
    atomic,
    disk_errors,
    remove_leftovers,
    sha256_of,
    write_text,
)
from lmdbench.core.gpu_memory import is_full, what_lacked
from lmdbench.core.progress import PREPARING
from lmdbench.core.randomness import Streams
from lmdbench.data.reading import read_records
from lmdbench.data.store.scale import USUAL
from lmdbench.evaluation.metrics import balanced_accuracy, scores
from lmdbench.evaluation.predictions import Predictions, save_predictions
from lmdbench.models.backbones import weights_digest
from lmdbench.runs import attempts
from lmdbench.runs.checkpoint import CHECKPOINT, OUT_OF_MEMORY, read_checkpoint
from lmdbench.runs.code_digest import begun_by, package_versions, plugin_sources
from lmdbench.runs.frozen import Features, open_features
from lmdbench.runs.kept import keep
from lmdbench.runs.model import (
    fit_last,
    load_finished,
    logits_of,
    new_method,
    resolved_precision,
    train_epoch,
    trained_parameters,
)
from lmdbench.runs.plan import PlannedRun, check_interval
from lmdbench.runs.record import BEGUN, LESS_MEMORY, WEIGHTS, RunRecord
from lmdbench.runs.sources import keep_sources
from lmdbench.runs.steps import Steps
from lmdbench.runs.whole import (
    HISTORY,
    PREDICTIONS,
    REFIT,
    keep_validation,
)
from lmdbench.runs.workplace import Busy, Workplace, holder_text
from lmdbench.training.engine import Mode, execution_mode
from lmdbench.training.graph_memory import give_back
from lmdbench.training.loggers import Loggers, Scores
from lmdbench.training.method import Method
from lmdbench.training.task import Images, Task
from lmdbench.version import __version__

logger = logging.getLogger("lmdbench")

ONE_IMAGE = "Expected more than 1 value per channel"  # how torch's batch norm refuses a batch
LESS = "try a smaller --set batch_size, --image-size or --backbone"  # where memory ran out
OF_A_METHOD = "device-side assert"  # in an error of CUDA: an index or a label out of range
FLOAT16 = (
    "this GPU has no bfloat16: mixed precision is float16 with a GradScaler (--precision float32 "
    "does without)"
)
HERE = ("versions", "device", "threads")  # of a record: what bit-identical results depend on


def remedy(run: PlannedRun) -> str:
    """What may help where a loss or logits are not finite, behind a colon: a lower learning rate
    where the method has one, and a look at what was set in its chain; empty if neither is there."""
    rates = [key for key in run.spec.settings if key == "lr" or key.endswith("_lr")]
    changed = [
        f"{'' if link is run else link.spec.method + '.'}{key}={value}"
        for link in run.chain
        for key, value in link.changed_settings.items()
    ]
    ways = [f"try a lower {' or '.join(rates)}"] if rates else []
    if changed:
        ways.append(f"look at what was set: {', '.join(changed)}")
    return f": {', or '.join(ways)}" if ways else ""


@dataclass
class Checkpoint:
    """What is saved at an epoch's end besides the method and its optimisers."""

    epoch: int = 0  # epochs done
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_score: float = -1.0
    best_epoch: int = 0
    best_model: dict[str, Tensor] | None = None
    executed: dict[str, dict[str, None]] = field(default_factory=dict)  # see Execution


class RunLog(logging.FileHandler):
    """The run's log file. A full disk costs lines of it, never the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):  # of lines that could not be written before
            super().close()


class Diverged(Exception):
    """A loss or logits that are no numbers any more."""


class Training:
    """One run in one place, under a claim already held."""

    def __init__(self, run: PlannedRun, place: Workplace, claim: Claim) -> None:
        check_interval(run.spec.selection, place.options.validate_every)
        self.run = run
        self.place = place
        self.claim = claim
        self.directory = run.directory
        self.progress = place.progress
        self.state = Checkpoint()
        self.loggers = Loggers(place.options.log)
        self.kept: Mapping[str, Any] | None = None  # a checkpoint to go on from
        self.task: Task | None = None
        self.fallbacks: list[str] = []  # of LESS_MEMORY
        self.short = False  # whether this attempt ran out of the GPU's memory
        self.reason = ""  # why it fails, in one line
        self.steps = Steps(run.directory, claim.token)

    def carry_out(self) -> None:
        asked = self.place.options.deterministic
        with self._logging(), self._journal(), deterministic(self.place.device, asked):
            try:
                while self._runs_short():
                    give_back(self.place.device)
            except (KeyboardInterrupt, UserError):
                raise
            except Diverged as error:
                self._fail(error, f"{error}{remedy(self.run)}")
            except (Exception, SystemExit) as error:  # a method that calls sys.exit, too
                if self._lacks_memory(error):
                    lacked = what_lacked(error, self.place.device)
                    self._fail(error, f"{lacked}: {LESS}")
                self._check_device(error)
                first_line = str(error).strip().split("\n")[0]
                reason = f"{type(error).__name__}: {first_line}".removesuffix(": ")
                if ONE_IMAGE in first_line:
                    reason = "batch norm needs batches of at least 2 images: --set batch_size=2"
                    reason += " or more"
                self._fail(error, reason)
            finally:
                self.steps.over()
                self.progress.end()
                self.loggers.end()
                self.task = None
                give_back(self.place.device)

    def _runs_short(self) -> bool:
        """Carry it out. Whether the GPU's memory ran out, and there is a way with less."""
        try:
            self._carry_out()
        except Exception as error:
            way = self._way_with_less() if self._lacks_memory(error) else None
            if way is None:
                raise
            self.fallbacks.append(way)
            self.short = True
            lacked = what_lacked(error, self.place.device)
            kept = (self.directory / CHECKPOINT).exists()
            goes_on = "goes on from its checkpoint" if kept else "begins again"
            text = f"{self.run.title}: {lacked}; {goes_on} with {way}"
            logger.warning(text)
            self.progress.end()
            self.progress.say(text)
            traceback.clear_frames(error.__traceback__)  # which hold what the run had in memory
            self.task, self.state = None, Checkpoint()
            return True
        return False

    def _lacks_memory(self, error: BaseException) -> bool:
        return self.place.device.type == "cuda" and is_full(error)

    def _way_with_less(self) -> str | None:
        """The next way to train the same with less of the GPU's memory, if there is one."""
        streamed, plain = LESS_MEMORY
        if self.task is not None and self.task.holds_images:
            return streamed
        compiled = self.task is not None and self.task.execution.mode == "compiled"
        return plain if compiled else None

    def _carry_out(self) -> None:
        """Train from the checkpoint, or from the beginning where there is none that will do."""
        remove_leftovers(self.directory)
        for state_file in ("failed.txt", "done"):  # before the record tells of a new attempt
            clear(self.directory / state_file)
        self.steps.made()
        self.kept = self._kept()
        _ = self.features  # computed once for many runs, and so no part of this one's cost
        reset_peak_memory(self.place.device)
        started = time.monotonic()
        self._record_start()
        task = self.task = self._task()
        method = self._build(task)
        self._count(method)
        if task.scaler.is_enabled():
            logger.info(FLOAT16)
        try:
            self._resume(method)
        except Damaged as error:
            self._set_aside(error)
            self._carry_out()
            return
        task.execution.executed |= self.state.executed
        self.state.executed = task.execution.executed
        settings = dict(self.run.spec.settings)
        self.loggers.begin(self.record.to_json(), settings, self.directory)
        if self.state.history:
            self.loggers.epoch(self.state.history)
        begun = started - self.state.seconds  # as if earlier attempts had been one with this
        self.progress.begin(self.run, self.state.epoch, self._length(method))
        saved, saved_at, writing = self.state.epoch, time.monotonic(), 0.0
        for number in range(self.state.epoch, self._length(method)):
            self._epoch(method, task, number)
            self.state.seconds = time.monotonic() - begun
            self._check_claim()
            now = time.monotonic()
            due = self.place.options.checkpoint_due(number + 1 - saved, now - saved_at, writing)
            if due or number + 1 == self._length(method):
                self._save(method)
                saved, saved_at = number + 1, time.monotonic()
                writing = saved_at - now
            row = self.state.history[-1]
            self.steps.epoch(row["seconds"])
            self.progress.epoch(row)
            self.loggers.epoch(self.state.history)
            logger.info("epoch %d/%d  %s", number + 1, self._length(method), _plain(row))
        if self.state.best_model is not None:
            method.load_state_dict({**method.state_dict(), **self.state.best_model})
        fit_last(method, task)
        self.state.seconds = time.monotonic() - begun
        self._publish(method, task)

    def _epoch(self, method: Method, task: Task, number: int) -> None:
        """One epoch, its validation score, and its row of the history."""
        started = time.monotonic()
        logs = train_epoch(method, task, number)
        for name, value in logs.items():
            if not np.isfinite(value):
                raise Diverged(f"{name} is {value} in epoch {number + 1}")
        last = number + 1 == self._length(method)
        due = (number + 1) % self.place.options.validate_every == 0 or last
        score = self._validation_score(method, task) if due else float("nan")
        if self.run.spec.selection == "best" and score > self.state.best_score:
            self.state.best_score = score
            self.state.best_epoch = number + 1
            self.state.best_model = _copy(self._trained(method))
        self.state.epoch = number + 1
        self.state.history.append(
            {
                "epoch": number + 1,
                **logs,
                "validation_balanced_accuracy": score,
                "seconds": time.monotonic() - started,
            }
        )

    def _length(self, method: Method) -> int:
        """Epochs: those of the method, or of the run that this one repeats, on its schedule."""
        refit = self.run.spec.refit
        return method.epochs if refit is None else int(refit["epochs"])

    def _tick(self, done: int, total: int) -> None:
        self.steps.made()
        self.progress.tick(done, total)

    def _alive(self) -> None:
        self.steps.made()
        self.progress.alive()

    def _prepare(self, done: int, total: int, what: str = PREPARING) -> None:
        self.steps.made()
        self.progress.prepare(done, total, what)

    # Before the first epoch

    def _task(self) -> Task:
        """The training and validation images. Test images stay out of reach until the end."""
        return Task(
            classes=self.run.context.prepared.split.classes,
            train=self._images("train"),
            validation=self._images("validation"),
            streams=Streams(self.run.spec.seed, self.place.device),
            device=self.place.device,
            precision=resolved_precision(self.run.spec, self.place.device),
            tick=self._tick,
            alive=self._alive,
            mode=self._mode,
        )

    @property
    def _mode(self) -> Mode:
        if LESS_MEMORY[1] in self.fallbacks:
            return "plain"
        return execution_mode(self.place.options.execution, self.place.device)

    def _images(self, part: str) -> Images:
        """A part's images, or what a frozen encoder makes of them."""
        data = self.run.context.prepared.split.parts[part]
        labels = torch.from_numpy(np.asarray(data.labels, dtype=np.int64))
        store, features = self.place.store, self.features
        if features is not None:
            drawn = part == "train" and self.run.method.views == ("strong",)
            pixels, rows = features.rows, features.places(data.ids, drawn=drawn)
        else:
            pixels, rows = store.pixels, store.rows(data.ids)
        streamed = LESS_MEMORY[0] in self.fallbacks
        return Images(pixels, rows, labels, self.place.device, stays=streamed)

    @cached_property
    def features(self) -> Features | None:
        """Of the frozen encoder, where the run has one; None where the store has features."""
        context, device = self.run.context, self.place.device
        if not context.backbone.frozen or self.place.store.pixels.ndim == 2:
            return None
        return open_features(
            self.place.store,
            context.backbone,
            context.weights,
            device,
            resolved_precision(self.run.spec, device),
            self.progress.say,
            self._prepare,
        )

    def _weights_digest(self) -> str | None:
        """SHA-256 of the file of published weights that the run begins with, if any."""
        context = self.run.context
        if self.run.spec.ancestor is not None:
            return None
        return weights_digest(context.backbone, context.weights)

    def _build(self, task: Task) -> Method:
        """The method at its starting point: pretrained weights, or the run it starts from."""
        run = self.run
        method = new_method(run, task)
        if run.ancestor is not None:
            method.start(load_finished(run.ancestor.directory, run.ancestor.spec, task))
        method.start_training()
        lonely = [
            name
            for name, count in zip(task.classes, task.class_counts.tolist(), strict=True)
            if count == 1
        ]
        if lonely:
            logger.info("one training image only: %s", ", ".join(lonely))
        return method

    def _kept(self) -> Mapping[str, Any] | None:
        """What an earlier attempt left to go on from. What is damaged is moved aside."""
        path = self.directory / CHECKPOINT
        if not os.path.lexists(path):
            return None
        try:
            if not (self.directory / "run.json").exists():
                raise Damaged(f"{path}: its run.json is gone, so it can't be gone on with")
            return read_checkpoint(path, self.run.spec.id)
        except Damaged as error:
            self._set_aside(error)
            return None

    def _set_aside(self, why: Damaged) -> None:
        """Move a checkpoint aside, and the history that goes with it."""
        aside = set_aside(self.directory / CHECKPOINT)
        if os.path.lexists(self.directory / HISTORY):
            set_aside(self.directory / HISTORY)
        text = f"{self.run.title}: {why}; moved aside: {aside}; trained from its beginning"
        logger.warning(text)
        self.progress.say(text)

    def _resume(self, method: Method) -> None:
        """Raises Damaged where a whole checkpoint does not fit; the method is of no use then."""
        saved, self.kept = self.kept, None
        if saved is None:
            return
        try:
            method.load_state_dict({**method.state_dict(), **saved["method"]})
            for name, optimizer in method.running_optimizers.items():
                optimizer.load_state_dict(saved["optimizers"][name])
            if scale := saved.get("scaler"):
                method.task.scaler.load_state_dict(scale)
            self.state = Checkpoint(**saved["state"])
        except OUT_OF_MEMORY:
            raise
        except Exception as error:
            path = self.directory / CHECKPOINT
            raise Damaged(f"{path}: damaged, it does not fit ({type(error).__name__})") from error
        logger.info("resumed after epoch %d of %d", self.state.epoch, self._length(method))

    def _record_start(self) -> None:
        path = self.directory / "run.json"
        previous = self.run.record() if path.exists() else None
        here = environment(self.place.device)
        packages = package_versions(self.run.method, self.run.context.backbone)
        here["versions"] |= {k: v for k, v in packages.items() if k not in here["versions"]}
        goes_on = self.kept is not None
        ancestor = self.run.ancestor
        digests: dict[str, Any] = {
            **self.run.code,
            "store": self.place.store.digest,
            "ancestor": ancestor and ancestor.record().digests.get("model"),
            **({"features": self.features.digest} if self.features else {}),
            **({WEIGHTS: weights} if (weights := self._weights_digest()) else {}),
        }
        if previous is not None and goes_on and previous.device == here["device"]:
            earlier = previous.fallbacks or []
            self.fallbacks = list(dict.fromkeys([*earlier, *self.fallbacks]))
        begun_versions = None
        if previous is not None:
            if goes_on:
                digests |= begun_by(previous.digests, digests)
                begun_versions = versions_before(previous, here["versions"])
            changes = {key: (getattr(previous, key), here[key]) for key in HERE}
            changes |= gpu_changes(previous.gpu, here["gpu"])
            if goes_on and previous.execution is not None:
                changes["execution"] = previous.execution, self._mode
            if self.features is not None:
                changes["features"] = previous.digests.get("features"), self.features.digest
            words = dict(zip(BEGUN, ("code", "images", "starting weights"), strict=True))
            changes |= {words[k]: (digests[k][:8], "changed") for k in BEGUN if k in digests}
            for what, (before, now) in changes.items():
                if before != now:
                    warning = (
                        f"{self.run.title}: goes on with other {what} ({now}) than it began with "
                        f"({before}): not bit-identical to an uninterrupted run"
                    )
                    logger.warning(warning)
                    self.progress.say(warning)
        attempts = (previous and previous.attempts) or 0
        scale = self.place.store.survey.scale
        sources = plugin_sources(self.run.method, self.run.context.backbone)
        keep_sources(self.directory, sources, attempts)
        self.record = replace(
            self.run.describe(),
            digests=digests,
            **here,
            begun_versions=begun_versions,
            validate_every=self.place.options.validate_every,
            intensity_scale=None if scale == USUAL else scale.text,
            started=(previous and previous.started) or _now(),
            attempts=attempts + (not self.short),
            execution=self._mode,
            fallbacks=self.fallbacks or None,
        )
        self.record.write(self.directory)

    def _count(self, method: Method) -> None:
        """Record how many parameters there are, and how many of them are trained."""
        trained, whole = trained_parameters(method)
        self.record = replace(self.record, parameters=whole, trained_parameters=trained)
        text = f"trains {trained / 1e6:.3g} of {whole / 1e6:.3g} M parameters"
        logger.info(text)
        if self.run.spec.tuning != "full":
            self.progress.say(f"{self.run.title}: {text}")

    # At each epoch's end

    def _validation_score(self, method: Method, task: Task) -> float:
        if len(task.validation) == 0:
            return float("nan")
        logits = self._logits(method, task, task.validation, self.state.epoch + 1)
        return balanced_accuracy(task.validation.host_labels.numpy(), logits)

    def _logits(self, method: Method, task: Task, images: Images, epoch: int) -> np.ndarray:
        """``logits_of`` after so many epochs, refusing what no score can be made of: nothing of it
        is saved."""
        logits = logits_of(method, task, images)
        if len(logits) and not np.isfinite(logits.max(axis=1)).all():
            raise Diverged("logits are not finite" + (f" after epoch {epoch}" if epoch else ""))
        return logits

    def _check_claim(self) -> None:
        with disk_errors(self.directory):
            if not self.claim.is_mine():
                raise Busy(
                    f"{self.directory} was taken over {holder_text(self.claim)}; "
                    "this process stops",
                    self.claim,
                )

    def _save(self, method: Method) -> None:
        """Both files at once, so that the history never tells of epochs that would be lost."""
        checkpoint = {
            "run": self.run.spec.id,
            "method": self._trained(method),
            "optimizers": {n: o.state_dict() for n, o in method.running_optimizers.items()},
            "scaler": method.task.scaler.state_dict(),  # empty but in float16
            "state": vars(self.state),
        }
        # First the history: what is in a checkpoint is not written again.
        with atomic(self.directory / HISTORY) as path:
            pd.DataFrame(self.state.history).to_csv(path, index=False)
        with atomic(self.directory / CHECKPOINT) as path:
            torch.save(checkpoint, path)

    def _trained(self, method: Method) -> dict[str, Tensor]:
        """A method's state but for a frozen encoder, which is as it was."""
        frozen = self.run.context.backbone.frozen
        return {
            name: tensor
            for name, tensor in method.state_dict().items()
            if not (frozen and name.startswith("model.encoder."))
        }

    # At the end

    def _publish(self, method: Method, task: Task) -> None:
        """Score test once, write the results, and only then mark the run as finished."""
        self._check_claim()
        parts = {
            "validation": (task.validation, self._ids("validation")),
            "test": (self._images("test"), self._ids("test")),
        }
        predictions = {
            part: Predictions(
                ids=ids,
                labels=images.host_labels.numpy(),
                logits=self._logits(method, task, images, self.state.epoch),
                units=self._units(ids),
            )
            for part, (images, ids) in parts.items()
        }
        save_predictions(self.directory / PREDICTIONS, predictions)
        model = {
            name: tensor.contiguous()
            for name, tensor in _copy(method.state_dict()).items()
            if name.partition(".")[0] not in method.scaffolding
        }
        keeps = self.place.options.keep_weights
        above = self.run.ancestor
        digests = keep(self.directory, model, keeps, above.directory if above else None)
        digests["predictions"] = sha256_of(self.directory / PREDICTIONS)
        if self.run.refit_of is not None:
            digests[REFIT] = keep_validation(self.run.refit_of, self.directory)
        with contextlib.suppress(FileNotFoundError):  # without an epoch
            digests["history"] = sha256_of(self.directory / HISTORY)
        length = self._length(method)
        selected = self.state.best_epoch if self.state.best_model is not None else length
        self.record = replace(
            self.record,
            digests={**self.record.digests, **digests},
            kept_weights=None if keeps == "all" else keeps,
            finished=_now(),
            seconds=self.state.seconds,
            peak_memory_mib=peak_memory_mib(self.place.device),
            peak_reserved_mib=peak_reserved_mib(self.place.device),
            execution=task.execution.mode,
            executed=task.execution.came_to,
            fallbacks=self.fallbacks or None,
            preparing_seconds=task.execution.preparing_seconds,
            precision_used=str(task.precision or torch.float32).removeprefix("torch."),
            epochs=length,
            selected_epoch=selected,
        )
        self.record.write(self.directory)
        self._check_claim()
        write_text(self.directory / "done", _now() + "\n")
        with contextlib.suppress(OSError):
            (self.directory / CHECKPOINT).unlink(missing_ok=True)
        executed = ", ".join(f"{work}: {how}" for work, how in task.execution.came_to.items())
        logger.info("finished in %.0f s; executed %s", self.state.seconds, executed or "nothing")
        self.loggers.end(lambda: self._scores(predictions))

    def _scores(self, parts: Mapping[str, Predictions]) -> Scores:
        split = self.run.context.prepared.split
        groups = {
            group: [split.classes.index(name) for name in members]
            for group, members in split.groups.items()
        }
        return {part: scores(p.labels, p.logits, groups) for part, p in parts.items()}

    def _ids(self, part: str) -> np.ndarray:
        return np.asarray(self.run.context.prepared.split.parts[part].ids, dtype=str)

    def _units(self, ids: np.ndarray) -> np.ndarray | None:
        """The lesion or patient of each image, "" where unknown; None if none is known."""
        groups = read_records(self.run.context.prepared.dataset)["group"]
        units = groups.loc[ids].to_numpy(dtype=str)
        return units if (units != "").any() else None

    def _check_device(self, error: BaseException) -> None:
        """Raise DeviceLost where the GPU broke, and not the method."""
        how = lost_device(self.place.device)
        if how and OF_A_METHOD not in how:
            self.reason = f"its process {how}"
            logger.error("stopped: its process %s", how, exc_info=error)
            raise DeviceLost(self.run.title, how) from error

    def _fail(self, error: BaseException, reason: str) -> None:
        path = self.directory / "failed.txt"
        self.reason = reason
        logger.error("failed: %s", reason, exc_info=error)
        self.loggers.fail(reason)
        with contextlib.suppress(OSError, UserError):
            write_text(path, f"{reason}\n\n{traceback.format_exc()}")
        traceback.clear_frames(error.__traceback__)  # which hold all that the run had in memory
        raise RunFailed(f"{self.run.title} failed: {reason} (traceback in {path})") from error

    @contextlib.contextmanager
    def _journal(self) -> Iterator[None]:
        """Note that the attempt begins, and how it ends."""
        attempts.begin(self.directory, self.claim.token)
        try:
            yield
        except BaseException as error:
            attempts.end(self.directory, self.claim.token, *self._ending(error))
            raise
        attempts.end(self.directory, self.claim.token, "done")

    def _ending(self, error: BaseException) -> tuple[attempts.How, str, str]:
        """How an attempt ends by an error, with cause and reason."""
        if isinstance(error, DeviceLost):
            return "died", "crash", self.reason
        if isinstance(error, RunFailed):
            return "failed", attempts.cause_of(error.__cause__ or error), self.reason
        if isinstance(error, UserError) and not isinstance(error, DiskError | Busy):
            return "failed", "crash", str(error)
        by_will = isinstance(error, KeyboardInterrupt)
        return "stopped", "cancelled" if by_will else "unknown", str(error)

    @contextlib.contextmanager
    def _logging(self) -> Iterator[None]:
        """The run's log file, for as long as it is worked on."""
        with disk_errors(self.directory):
            handler = RunLog(self.directory / "run.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            logger.info(
                "%s on %s, process %d on %s, lmdbench %s",
                self.run.title,
                device_name(self.place.device),
                os.getpid(),
                platform.node(),
                __version__,
            )
            yield
        finally:
            logger.removeHandler(handler)
            handler.close()


def gpu_changes(
    before: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> dict[str, tuple[Any, Any]]:
    """What of a GPU is otherwise than it was, by name; nothing where either is not recorded."""
    if before is None or now is None:
        return {}
    return {f"GPU {k}": (before[k], now[k]) for k in now if k in before and before[k] != now[k]}


def versions_before(previous: RunRecord, now: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """By name, the versions of all attempts before one that goes on, commas between; None where
    these are as they are ``now``."""
    if previous.versions == now:
        return previous.begun_versions
    versions: dict[str, dict[str, None]] = {}
    for name, text in [*(previous.begun_versions or {}).items(), *previous.versions.items()]:
        versions.setdefault(name, {}).update(dict.fromkeys(str(text).split(", ")))
    return {name: ", ".join(each) for name, each in versions.items()}


def _copy(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(row: Mapping[str, float]) -> str:
    shown = {name: v for name, v in row.items() if name != "epoch" and not np.isnan(v)}
    return "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
