"""Equal-budget search: which settings each method is tried with, and which of them it gets.

Every method has its own settings and as many random draws from the ranges beside its settings as
every other. Trials are judged by their validation images alone: test arrays are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lmdbench.core.errors import UserError, told_of
from lmdbench.core.randomness import derived_seed
from lmdbench.core.registry import unknown
from lmdbench.core.settings import Setting, Times, describe, draw, resolve
from lmdbench.runs.record import read_record
from lmdbench.runs.whole import saved_predictions
from lmdbench.sweep.config.file import Entry
from lmdbench.training.method import METHODS

# Trials


@dataclass(frozen=True)
class Trial:
    """What a method is tried with. ``number`` 0: the settings that the file gives it.

    ``drawn``: setting → text, of what was drawn; the file's other settings stay.
    """

    entry: Entry
    number: int = 0
    drawn: Mapping[str, str] = field(default_factory=dict)

    @property
    def tried(self) -> Entry:
        """The method as this trial has it."""
        return replace(self.entry, settings={**self.entry.settings, **self.drawn})


def searched(entry: Entry) -> dict[str, Setting]:
    """The settings of an entry's own method that have a range and that its file leaves open."""
    fixed = {key.removeprefix(f"{entry.method}.") for key in entry.settings}
    settings = describe(METHODS.get(entry.method).Settings)
    return {
        name: setting
        for name, setting in settings.items()
        if setting.range is not None and name not in fixed
    }


def trials(entry: Entry, defaults: Mapping[str, Any], draws: int, seed: int) -> list[Trial]:
    """An entry's own settings, then ``draws`` random ones; only the first if none has a range.

    ``defaults``: the values that its settings have on the data set and backbone. A draw depends on
    the seed, the method, the entry's label, the trial's number and the setting's name alone:
    neither other methods, nor more draws, nor a setting more or less change it. Raises UserError
    for a range that reaches values which the method refuses.
    """
    open_settings = {name: _suited(setting, defaults) for name, setting in searched(entry).items()}
    for setting in open_settings.values():
        _check_range(entry.method, setting, defaults)
    stream = f"tune/{entry.method}/{entry.label or ''}"
    made = [Trial(entry)]
    for number in range(1, draws + 1 if open_settings else 1):
        shares = {
            name: derived_seed(seed, f"{stream}/{name}", number) / 2**63 for name in open_settings
        }
        drawn = {
            name: draw(setting, shares[name], defaults[name])
            for name, setting in open_settings.items()
        }
        made.append(Trial(entry, number, drawn))
    return made


OF_SGD = ("lr", "weight_decay")  # settings whose ranges are what SGD learns by


def _suited(setting: Setting, defaults: Mapping[str, Any]) -> Setting:
    """A setting with a range for the optimiser that the set-up has: of another one than SGD,
    multiples of the default."""
    if setting.name not in OF_SGD or defaults.get("optimizer", "sgd") == "sgd":
        return setting
    return replace(setting, range=Times(0.1, 10.0))


def _check_range(method: str, setting: Setting, defaults: Mapping[str, Any]) -> None:
    for share in (0.0, 1.0):
        end = {setting.name: draw(setting, share, defaults[setting.name])}
        with told_of(f"range of {method}.{setting.name}, {setting.range}"):
            resolve(method, METHODS.get(method).Settings, [defaults], end)


# Judging


@dataclass(frozen=True)
class Validation:
    """How a trial did on the validation images, over its seeds.

    ``labels`` (N,) int64; ``right`` (N,) float, the share of seeds that predicted each image right.
    """

    labels: np.ndarray
    right: np.ndarray

    @property
    def score(self) -> float:
        """Balanced accuracy: the mean over seeds, as every seed has the same images."""
        return float(np.mean(_class_means(self.labels, self.right)))


def read_validation(directories: Sequence[Path]) -> Validation:
    """The validation predictions of the finished runs of a trial, one a seed.

    Of test arrays no more is known than that they are what was saved. Raises UserError for a
    damaged file, and where there are no validation images.
    """
    right = []
    for directory in directories:
        part = saved_predictions(directory, read_record(directory), ["validation"])["validation"]
        if not len(part):
            raise UserError(f"{directory}: its split has no validation images to choose by")
        right.append(part.logits.argmax(axis=1) == part.labels)
    return Validation(part.labels, np.mean(right, axis=0))


def validation_score(directory: Path) -> float:
    """Balanced accuracy of a finished run on its validation images."""
    return read_validation([directory]).score


def difference_error(a: Validation, b: Validation) -> float:
    """Standard error of b's score minus a's, on the same validation images.

    Classes are strata: SE² = Σ_c v_c/n_c / C², with v_c the mean square of the differences d
    between right (1) and wrong (0) on the n_c images of class c, which is their variance if neither
    is better, as in McNemar's test. As one image of a class says little of it, each class gets two
    more, one that a has right and one that b has: v_c = (Σd² + 2)/(n_c + 2). So one image of a
    class that has no other is never more than a standard error.
    """
    difference = b.right - a.right
    variances = []
    for label in np.unique(a.labels):
        d = difference[a.labels == label]
        n = len(d)
        variances.append((np.square(d).sum() + 2) / (n + 2) / n)
    return float(np.sqrt(np.sum(variances)) / len(variances))


def _class_means(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.array([values[labels == label].mean() for label in np.unique(labels)])


# Rules. Each takes a method's trials in their order, None for one that failed (one did not), and
# says which to use.

Tried = Sequence[Validation | None]


def best(tried: Tried) -> int:
    """The highest validation balanced accuracy; of equal ones the earliest."""
    scores = [-1.0 if one is None else round(one.score, 9) for one in tried]
    return scores.index(max(scores))


def one_se(tried: Tried) -> int:
    """The best of those better than the defaults by more than one standard error of the
    difference; the defaults where there is none."""
    defaults = tried[0]
    if defaults is None:
        return best(tried)
    better = [
        one
        if one is not None and one.score - defaults.score > difference_error(defaults, one)
        else None
        for one in tried
    ]
    return best([defaults, *better[1:]])


# Name → rule, for --rule.
RULES: Mapping[str, Callable[[Tried], int]] = {"best": best, "one-se": one_se}


def get_rule(name: str) -> Callable[[Tried], int]:
    """The rule of that name. Raises UserError with near matches and the list of all."""
    if name not in RULES:
        raise unknown("rule", name, list(RULES))
    return RULES[name]
