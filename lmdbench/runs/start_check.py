"""Whether a method can work on a backbone, and take over from another method, told before anything
is trained."""

from __future__ import annotations

import functools
import json
from contextlib import suppress
from typing import Any, NoReturn

import torch

from lmdbench.core.errors import UserError
from lmdbench.core.randomness import Streams
from lmdbench.models.backbones import features_of, get_backbone
from lmdbench.models.tuning import check_rank, parse_tuning, tune
from lmdbench.runs.plan import PlannedRun, RunSpec
from lmdbench.training.method import METHODS, Method
from lmdbench.training.task import Images, Task

CPU = torch.device("cpu")
Counts = tuple[int, ...]  # images of each class
Network = tuple[str, int]  # a backbone's name, and the size of the images it is made for


def check_backbone(run: PlannedRun) -> None:
    """Raise UserError for a backbone that takes no images of the run's size, and for a method that
    can't be built on it. They are tried with random weights and without images."""
    split = run.context.prepared.split
    train, validation = (tuple(split.counts(part).tolist()) for part in ("train", "validation"))
    network = _network(run.spec)
    if run.context.backbone.origin is None:  # a library's is tried where it is looked up
        _check_size(*network)
    _check_backbone(_text(run.spec), network, split.classes, train, validation)


@functools.lru_cache(maxsize=256)
def _check_size(backbone: str, image_size: int) -> None:
    features_of(backbone, get_backbone(backbone, image_size).construct, image_size)


@functools.lru_cache(maxsize=256)
def _check_backbone(
    wanted: str, network: Network, classes: tuple[str, ...], train: Counts, validation: Counts
) -> None:
    with torch.random.fork_rng(devices=[]):
        try:
            _tried(wanted, network, _unseen(classes, train, validation))
        except (LookedAt, torch.linalg.LinAlgError):  # a matter of images
            return
        except Exception as error:
            name = json.loads(wanted)[0]
            raise UserError(
                f"{name} can't work on backbone {network[0]}: {_reason(error)}"
            ) from error


def check_optimizers(run: PlannedRun) -> None:
    """Raise UserError where a method's hook returns no optimisers by name. What it raises itself
    may be for want of trained weights, and is left to the run."""
    split = run.context.prepared.split
    counts = (tuple(split.counts(part).tolist()) for part in ("train", "validation"))
    _check_optimizers(_text(run.spec), _network(run.spec), split.classes, *counts)


@functools.lru_cache(maxsize=256)
def _check_optimizers(
    wanted: str, network: Network, classes: tuple[str, ...], train: Counts, validation: Counts
) -> None:
    with torch.random.fork_rng(devices=[]):
        try:
            method = _built(wanted, network, _unseen(classes, train, validation))
            made: Any = method.optimizers()
        except Exception:
            return
    values = made.values() if isinstance(made, dict) else [None]
    if not all(isinstance(one, torch.optim.Optimizer) for one in values):
        name = getattr(method, "name", type(method).__name__)
        raise UserError(
            f"optimizers() of {name} must return a dict of torch optimisers by name, such as "
            f'{{"sgd": self.sgd(self.parameters())}}, but returns {_kind(made)}'
        )


def check_settings(run: PlannedRun) -> None:
    """Raise UserError for settings or a tuning that its method or backbone can't do. Other errors
    may be for want of images or trained weights, and are left to the run."""
    split = run.context.prepared.split
    counts = (tuple(split.counts(part).tolist()) for part in ("train", "validation"))
    _check_settings(_text(run.spec), _network(run.spec), split.classes, *counts)


@functools.lru_cache(maxsize=256)
def _check_settings(
    wanted: str, network: Network, classes: tuple[str, ...], train: Counts, validation: Counts
) -> None:
    large = get_backbone(*network).origin is not None  # of a library: built without numbers
    unseen = _unseen(classes, train, validation)
    with torch.random.fork_rng(devices=[]), torch.device("meta" if large else "cpu"):
        try:
            _built(wanted, network, unseen).start_training()
        except UserError:
            raise
        except Exception:
            return


def _kind(made: Any) -> str:
    if isinstance(made, dict):
        others = [one for one in made.values() if not isinstance(one, torch.optim.Optimizer)]
        return f"one of {type(others[0]).__name__}"
    return f"a {type(made).__name__}" if made is not None else "nothing"


def check_start(run: PlannedRun) -> None:
    """Raise UserError for a run that can't start from what it is to start from.

    Both methods are built as they will be, with the run's backbone and class counts, but with
    random weights and without images, and the one starts from the other.
    """
    if run.ancestor is not None:
        split = run.context.prepared.split
        counts = (tuple(split.counts(part).tolist()) for part in ("train", "validation"))
        texts = _text(run.spec), _text(run.ancestor.spec)
        _check(*texts, _network(run.spec), split.classes, *counts)


def _network(spec: RunSpec) -> Network:
    return spec.backbone, spec.image_size


def _text(spec: RunSpec) -> str:
    return json.dumps([spec.method, dict(spec.settings), spec.tuning], default=str)


@functools.lru_cache(maxsize=256)  # a sweep asks the same for each of its seeds
def _check(
    wanted: str,
    given: str,
    network: Network,
    classes: tuple[str, ...],
    train: Counts,
    validation: Counts,
) -> None:
    with torch.random.fork_rng(devices=[]):
        task = _unseen(classes, train, validation)
        try:
            method, ancestor = _built(wanted, network, task), _built(given, network, task)
        except UserError:
            raise
        except Exception:  # not a matter of the start: left to the run that builds it
            return
        try:
            method.start(ancestor.eval())
        except UserError:
            raise
        except (LookedAt, torch.linalg.LinAlgError):  # a matter of images, or of trained weights
            return
        except Exception as error:
            raise UserError(
                f"{method.name} can't start from {ancestor.name}: {_reason(error)}"
            ) from error


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{kind}{error}".strip().split("\n")[0].removesuffix(": ")


def _unseen(classes: tuple[str, ...], train: Counts, validation: Counts) -> Task:
    return Task(classes, Unseen(train), Unseen(validation), Streams(0, CPU), CPU)


def _built(text: str, network: Network, task: Task) -> Method:
    name, settings, tuning = json.loads(text)
    method, encoder = METHODS.get(name), get_backbone(*network).construct()
    chosen = parse_tuning(tuning)
    check_rank(encoder.body, chosen)
    tune(encoder, chosen, trained=method.trains == "all")
    return method(task, method.Settings(**settings), encoder)


def _tried(text: str, network: Network, task: Task) -> None:
    """The same without numbers where that goes, as a library's networks may be large."""
    if get_backbone(*network).origin is not None:
        with suppress(Exception), torch.device("meta"):
            _built(text, network, task)
            return
    _built(text, network, task)


class LookedAt(Exception):
    """Images were asked for, which a plan has none of."""


class Unseen(Images):
    """So many images of each class, by their labels alone."""

    def __init__(self, counts: Counts) -> None:
        labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        super().__init__(torch.empty(0), torch.empty(0), labels, CPU)

    def fetch(self, *_: Any) -> NoReturn:
        raise LookedAt
