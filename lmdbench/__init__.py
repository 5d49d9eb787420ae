"""A benchmark harness for long-tailed medical image classification.

Everything here is imported when it is first used:

>>> import lmdbench
>>> "run" in dir(lmdbench)
True

``run``, ``fit``, ``load_runs``, ``compare``, ``plan_power`` and ``predict`` do what the commands
do; the ``register_…`` decorators add methods, data sets, backbones, metrics, samplers, views,
plots, loggers and executors.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # what typing calls so; its import takes longer than all else here
if TYPE_CHECKING:
    from typing import Any

    from lmdbench.api import compare, fit, load_runs, plan_power, predict, run
    from lmdbench.core.errors import UserError
    from lmdbench.core.registry import load_plugin
    from lmdbench.core.settings import Choice, LogUniform, Times, Uniform, at_least, at_most
    from lmdbench.data.dataset import Dataset, Part, Split, register_dataset
    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.evaluation import inference, metrics
    from lmdbench.evaluation.metrics import register_metric
    from lmdbench.models.backbones import Pretrained, register_backbone
    from lmdbench.models.classifier import Encoder
    from lmdbench.reporting.plots import register_plot
    from lmdbench.runs.options import RunOptions
    from lmdbench.sweep.executors import register_executor
    from lmdbench.training.loggers import register_logger
    from lmdbench.training.method import Method, Start, register_method
    from lmdbench.training.samplers import register_sampler
    from lmdbench.training.task import Batch, Images, Task
    from lmdbench.training.views.augmentation import register_view
    from lmdbench.version import __version__

# Module → the public names that live in it
_HOMES = {
    "lmdbench.api": ("compare", "fit", "load_runs", "plan_power", "predict", "run"),
    "lmdbench.core.errors": ("UserError",),
    "lmdbench.core.registry": ("load_plugin",),
    "lmdbench.core.settings": (
        *("Choice", "LogUniform", "Times", "Uniform", "at_least", "at_most"),
    ),
    "lmdbench.data.dataset": ("Dataset", "Part", "Split", "register_dataset"),
    "lmdbench.evaluation.metrics": ("register_metric",),
    "lmdbench.models.backbones": ("Pretrained", "register_backbone"),
    "lmdbench.models.classifier": ("Encoder",),
    "lmdbench.reporting.plots": ("register_plot",),
    "lmdbench.data.splits.spec": ("SplitSpec",),
    "lmdbench.runs.options": ("RunOptions",),
    "lmdbench.sweep.executors": ("register_executor",),
    "lmdbench.training.loggers": ("register_logger",),
    "lmdbench.training.method": ("Method", "Start", "register_method"),
    "lmdbench.training.samplers": ("register_sampler",),
    "lmdbench.training.task": ("Batch", "Images", "Task"),
    "lmdbench.training.views.augmentation": ("register_view",),
    "lmdbench.version": ("__version__",),
}
_MODULES = {name: f"lmdbench.evaluation.{name}" for name in ("inference", "metrics")}
_MODULES = {name: f"lmdbench.evaluation.{name}" for name in ("inference", "metrics")}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "Choice",
    "Dataset",
    "Encoder",
    "Images",
    "LogUniform",
    "Method",
    "Part",
    "Pretrained",
    "RunOptions",
    "Split",
    "SplitSpec",
    "Start",
    "Task",
    "Times",
    "Uniform",
    "UserError",
    "__version__",
    "at_least",
    "at_most",
    "compare",
    "fit",
    "inference",
    "load_plugin",
    "load_runs",
    "metrics",
    "plan_power",
    "predict",
    "register_backbone",
    "register_dataset",
    "register_executor",
    "register_logger",
    "register_method",
    "register_metric",
    "register_plot",
    "register_sampler",
    "register_view",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = importlib.import_module(_MODULES[name])
    elif name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'lmdbench' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
