"""Whether a method can take over from another one, told before either is trained."""

from __future__ import annotations

import functools
import json
from typing import Any, NoReturn

import torch

from lmdbench.core.errors import UserError
from lmdbench.core.randomness import Streams
from lmdbench.models.backbones import get_backbone
from lmdbench.runs.plan import PlannedRun, RunSpec
from lmdbench.training.method import METHODS, Method
from lmdbench.training.task import Images, Task

CPU = torch.device("cpu")
Counts = tuple[int, ...]  # images of each class


def check_start(run: PlannedRun) -> None:
    """Raise UserError for a run that can't start from what it is to start from.

    Both methods are built as they will be, with the run's backbone and class counts, but with
    random weights and without images, and the one starts from the other.
    """
    if run.ancestor is not None:
        split = run.context.prepared.split
        counts = (tuple(split.counts(part).tolist()) for part in ("train", "validation"))
        _check(_text(run.spec), _text(run.ancestor.spec), run.spec.backbone, split.classes, *counts)


def _text(spec: RunSpec) -> str:
    return json.dumps([spec.method, dict(spec.settings)], default=str)


@functools.lru_cache(maxsize=256)  # a sweep asks the same for each of its seeds
def _check(
    wanted: str,
    given: str,
    backbone: str,
    classes: tuple[str, ...],
    train: Counts,
    validation: Counts,
) -> None:
    with torch.random.fork_rng(devices=[]):
        task = Task(classes, Unseen(train), Unseen(validation), Streams(0, CPU), CPU)
        try:
            method, ancestor = _built(wanted, backbone, task), _built(given, backbone, task)
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
            reason = f"{type(error).__name__}: {error}".strip().split("\n")[0].removesuffix(": ")
            raise UserError(f"{method.name} can't start from {ancestor.name}: {reason}") from error


def _built(text: str, backbone: str, task: Task) -> Method:
    name, settings = json.loads(text)
    method = METHODS.get(name)
    return method(task, method.Settings(**settings), get_backbone(backbone).construct())


class LookedAt(Exception):
    """Images were asked for, which a plan has none of."""


class Unseen(Images):
    """So many images of each class, by their labels alone."""

    def __init__(self, counts: Counts) -> None:
        labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        super().__init__(torch.empty(0), torch.empty(0), labels, CPU)

    def fetch(self, *_: Any) -> NoReturn:
        raise LookedAt
