"""What the class of a method must say, looked at as it is registered: a slip is told at once, and
not after the run that it starts from was trained."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.core.registry import misspelt, unknown
from lmdbench.training.samplers import SAMPLERS
from lmdbench.training.views.augmentation import VIEWS

TUPLES = (
    "views",
    "deviations",
    "scaffolding",
    "of_encoder",
    "chosen_on_validation",
)  # attributes of which a text would be taken apart
TRAINING = ("loss", "step", "epoch")  # hooks of which one makes a method that trains
FITTING = ("finish", "start", "predict")  # and one of these a method that does not
OTHERS = (
    "build",
    "optimizers",
    "phase",
    "samplers",
    "prepared",
    "Settings",
)  # that a method may say besides


def check_definition(name: str, cls: Any, base: Any) -> None:
    """Raise UserError for the first thing that makes no sense in a method. ``base``: ``Method``."""
    for problem in _problems(cls, base):
        raise UserError(f"method {name!r}: {problem}")


def _problems(cls: Any, base: Any) -> Iterator[str]:
    said = [key for key in inspect.get_annotations(base) if key not in ("settings", "model")]
    yield from misspelt(cls, base, [*said, "epochs", *TRAINING, *FITTING, *OTHERS])
    for attribute in TUPLES:
        value = getattr(cls, attribute)
        if isinstance(value, str):
            shown = textwrap.shorten(value, 40, placeholder="…")
            yield f'{attribute} must be a tuple, as in ("{shown}",)'
    for view in cls.views:
        if view not in VIEWS:
            yield str(unknown(VIEWS.kind, view, list(VIEWS)))
    for sampler in cls.sampler if isinstance(cls.sampler, tuple) else (cls.sampler,):
        if isinstance(sampler, str):
            if sampler not in SAMPLERS:
                yield str(unknown(SAMPLERS.kind, sampler, list(SAMPLERS)))
        elif not (callable(sampler) or hasattr(sampler, "draw")):
            yield (
                f"sampler is {sampler!r}, but must be a name, a function of the labels, or an "
                "object with draw"
            )
    if cls.trains not in ("all", "head"):
        yield f'trains is {cls.trains!r}, but must be "all" or "head"'
    if cls.passes is not None and not _two_numbers(cls.passes):
        yield f"passes is {cls.passes!r}, but must be a tuple of two numbers, as in (2, 1)"
    yield from _problems_of_settings(cls)
    yield from _problems_of_hooks(cls, base)


def _two_numbers(value: Any) -> bool:
    numbers = value if isinstance(value, tuple) else ()
    return len(numbers) == 2 and all(type(n) in (int, float) and n >= 0 for n in numbers)


def _problems_of_settings(cls: Any) -> Iterator[str]:
    settings = cls.Settings
    own = list(inspect.get_annotations(settings))
    decorated = "__dataclass_fields__" in vars(settings)
    if not decorated and (own or not dataclasses.is_dataclass(settings)):
        yield (
            "the line @dataclass(frozen=True, kw_only=True) is not above its class Settings"
            + (f", so that these are no settings: {', '.join(own)}" if own else "")
        )
        return
    fields = dataclasses.fields(settings)
    for field in fields:
        if field.default is dataclasses.MISSING:
            yield f"its setting {field.name} has no default; give it one: {field.name}: … = …"
        elif getattr(settings, field.name, field.default) is not field.default:
            yield (
                f"its setting {field.name} is given a default without a type, which has no "
                f"effect; write {field.name}: … = …"
            )
    names = [field.name for field in fields]
    for key in vars(cls).get("authors", ()):
        if key not in names:
            yield f"authors: {unknown('setting', key, names)}"
    for key in cls.chosen_on_validation:
        if key not in names:
            yield f"chosen_on_validation: {unknown('setting', key, names)}"
        elif getattr(settings, key) is not None:
            yield f"chosen_on_validation: its setting {key} must be None where it is chosen"


def _problems_of_hooks(cls: Any, base: Any) -> Iterator[str]:
    def overrides(*hooks: str) -> bool:
        return any(getattr(cls, hook) is not getattr(base, hook) for hook in hooks)

    epochs = cls.epochs  # a number, or a property that only the settings of a run can tell
    if epochs is base.epochs:  # which reads the setting
        defaults = {field.name: field.default for field in dataclasses.fields(cls.Settings)}
        if "epochs" not in defaults:
            yield "it has no setting epochs; one that trains nothing says epochs = 0 in its class"
        epochs = defaults.get("epochs")
    may_be_none = not isinstance(epochs, int) or epochs == 0
    if not overrides(*TRAINING) and not (may_be_none and overrides(*FITTING)):
        yield (
            f"it defines neither {', '.join(TRAINING[:-1])} nor {TRAINING[-1]}; one that trains "
            "nothing has epochs = 0, and fits itself in finish"
        )
