"""Trains methods on the null GPU, goes on with each from a checkpoint, and prints what happened."""

from __future__ import annotations

import io
import sys
import warnings
from collections import Counter
from pathlib import Path

import torch
from answer import answer
from workload import ancestor_of, make_method, make_task, told

from lmdbench.runs.model import fit_last, logits_of, train_epoch
from lmdbench.training.method import Method

STOPPED_AFTER = 2  # epochs


def waits(method: Method, number: int) -> list[str]:
    """The lines at which an epoch's steps on whole batches wait for the GPU."""
    found: Counter[str] = Counter()
    execute = method.execute

    def watched(raws):
        whole = len(raws[0]) == method.usual_size
        torch.cuda.set_sync_debug_mode("warn" if whole else "default")
        try:
            return execute(raws)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    method.execute = watched
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        train_epoch(method, method.task, number)
    del method.execute
    found.update(
        f"{Path(w.filename).name}:{w.lineno}" for w in seen if "synchron" in str(w.message)
    )
    return [f"{line} {n} times" for line, n in found.items()]


def saved(method: Method) -> io.BytesIO:
    file = io.BytesIO()
    optimizers = {name: o.state_dict() for name, o in method.running_optimizers.items()}
    torch.save({"method": method.state_dict(), "optimizers": optimizers}, file)
    file.seek(0)
    return file


def resumed(name: str, ancestor: Method | None, checkpoint: io.BytesIO) -> Method:
    method = make_method(name, make_task("compiled"), ancestor, schedule="cosine")
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    method.load_state_dict(content["method"])
    for key, optimizer in method.running_optimizers.items():
        optimizer.load_state_dict(content["optimizers"][key])
    return method


def finished(method: Method, first: int) -> Method:
    for number in range(first, method.epochs):
        train_epoch(method, method.task, number)
    fit_last(method, method.task)
    return method.eval()


def ancestor(name: str, made: dict[str, Method]) -> Method | None:
    start = ancestor_of(name)
    if start is not None and start not in made:
        method = make_method(start, make_task("plain"), ancestor(start, made))
        made[start] = finished(method, max(0, method.epochs - 1))
    return made.get(start)


def looked_at(name: str, made: dict[str, Method]) -> dict[str, object]:
    told.lines.clear()
    above = ancestor(name, made)
    method = make_method(name, make_task("compiled"), above, schedule="cosine")
    waited: list[str] = []
    for number in range(method.epochs):
        # Each phase's first epoch captures, which waits.
        known = set(method.stepper.replays)
        lines = waits(method, number)
        if number and known == set(method.stepper.replays):
            waited += lines
        logits_of(method, method.task, method.task.validation)
        if number + 1 == STOPPED_AFTER:
            checkpoint = saved(method)
    fit_last(method, method.task)
    captured = [replay.captured for replay in method.stepper.replays.values()]
    if method.epochs > STOPPED_AFTER:
        again = finished(resumed(name, above, checkpoint), STOPPED_AFTER)
        captured += [replay.captured for replay in again.stepper.replays.values()]
    return {"captured": captured, "waits": sorted(set(waited)), "told": list(told.lines)}


def main() -> None:
    made: dict[str, Method] = {}
    found = {}
    for name in sys.argv[1:]:
        try:
            found[name] = looked_at(name, made)
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"[:500]}
    answer(found)


main()
