"""Runs that ask for more memory than the null GPU has, at several places, until they need less.

    short_of_memory.py RESULTS METHOD ...

Prints each method's exit code, record, what failed it, and what its log warns of.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import run  # noqa: F401  which gives the null GPU its kernels
import torch
from answer import answer

from lmdbench.cli.commands import exit_code
from lmdbench.training.method import METHODS, register_method

CE = METHODS.get("ce")


def ask(method, unless: bool) -> None:
    """For a terabyte."""
    if not unless:
        torch.empty(2**40, dtype=torch.uint8, device=method.task.device)


@register_method("in-steps")
class InSteps(CE):
    """Takes too much beside images, and too much for graphs."""

    def loss(self, batch):
        task = self.task
        ask(self, task.train.streamed and task.execution.mode == "plain")
        return super().loss(batch)


@register_method("in-evaluation")
class InEvaluation(CE):
    """Takes too much beside images, in the second epoch's evaluation."""

    def predict(self, images):
        ask(self, self.task.train.streamed or self.progress < 0.5)
        return super().predict(images)


@register_method("in-late-evaluation")
class InLateEvaluation(CE):
    """Takes too much beside graphs, in the second epoch's evaluation."""

    def predict(self, images):
        ask(self, self.task.execution.mode == "plain" or self.progress < 0.5)
        return super().predict(images)


@register_method("in-finish")
class InFinish(CE):
    """Takes too much in any case, after the last epoch."""

    def finish(self):
        ask(self, False)


def carried_out(name: str, results: Path) -> dict[str, object]:
    words = f"run --method {name} --dataset demo --device cuda --set epochs=2 --quiet"
    sys.argv[1:] = [*words.split(), "--results", str(results)]
    code = exit_code()
    (directory,) = results.glob(f"*/*/{name}/seed*")
    failure, log = directory / "failed.txt", (directory / "run.log").read_text()
    return {
        "code": code,
        "record": json.loads((directory / "run.json").read_text()),
        "failure": failure.read_text().partition("\n")[0] if failure.exists() else "",
        "told": [line for line in log.splitlines() if "WARNING" in line],
    }


results, *names = sys.argv[1:]
answer({name: carried_out(name, Path(results)) for name in names})
