"""What a pool and its worker processes tell each other: plain data, that needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lmdbench.runs.options import IN_SWEEPS, RunOptions


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    done · failed: ``failed.txt`` says why, unless a finished run was refused · busy: another live
    worker has it or what it starts from · not-ready: what it starts from is not finished, and is
    not this worker's to train · gave-up: it could not begin or go on now.
    """

    kind: Literal["done", "failed", "busy", "not-ready", "gave-up"]
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a worker process works: the first line that it reads.

    ``chains``: whether it also trains what a run starts from, where that is not finished.
    ``wait_for_dead``: see ``worker.Worker``.
    """

    results: Path
    cache: Path
    device: str
    threads: int  # of the CPU, for a run
    patience: float
    run: RunOptions = IN_SWEEPS
    plugins: tuple[Path, ...] = ()
    chains: bool = True
    wait_for_dead: bool = False

    def to_json(self) -> dict[str, Any]:
        paths = {"results": str(self.results), "cache": str(self.cache)}
        return {**asdict(self), **paths, "plugins": [str(path) for path in self.plugins]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Start:
        paths = {name: Path(content[name]) for name in ("results", "cache")}
        plugins = tuple(map(Path, content["plugins"]))
        return cls(
            **{**content, **paths, "run": RunOptions.from_json(content["run"]), "plugins": plugins}
        )


@dataclass(frozen=True)
class GivenJob:
    """A ``RunJob`` as it travels: a process that only hands it on need not know what is in it."""

    key: str
    content: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return dict(self.content)
