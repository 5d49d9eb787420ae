"""The runs that a sweep's worker jobs may take: a file for each launch, read by all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmdbench.core.errors import DiskError, UserError
from lmdbench.core.files import disk_errors, read_json, write_json
from lmdbench.runs.options import RunOptions
from lmdbench.sweep.executors.messages import GivenJob
from lmdbench.sweep.executors.watcher import PoolJob

OFFERS = "offers"  # the folder of these files, in a sweep's
FORMAT = 1


@dataclass(frozen=True)
class Offer:
    """Runs, and how they are to be carried out.

    ``since``: finished ones are done again unless they were finished after it, in seconds since
    1970; None: they are done.
    """

    jobs: tuple[PoolJob, ...]
    run: RunOptions
    since: float | None = None


def write_offer(folder: Path, name: str, offer: Offer) -> None:
    """``folder``: the sweep's. ``name``: of the launch. Raises DiskError."""
    path = offer_path(folder, name)
    with disk_errors(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
    jobs = [[job.run.to_json(), job.title, job.needs] for job in offer.jobs]
    content = {"format": FORMAT, "jobs": jobs, "run": asdict(offer.run), "since": offer.since}
    write_json(path, content)


def offer_path(folder: Path, name: str) -> Path:
    return folder / OFFERS / f"{name}.json"


def withdraw(folder: Path, names: Sequence[str] | None = None) -> None:
    """Take offers back; None: all of the sweep's."""
    paths = [offer_path(folder, name) for name in names or ()]
    for path in (folder / OFFERS).glob("*.json") if names is None else paths:
        with disk_errors(path.parent), suppress(FileNotFoundError):
            path.unlink()


class NewOffers:
    """What was offered since one last asked, to workers that carry runs out in the same way."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self.folder = folder / OFFERS
        self.run = json.loads(json.dumps(run))
        self._read: set[str] = set()

    def take(self) -> list[Offer]:
        """New offers, oldest first. What is damaged is left out; a bad disk is asked again."""
        try:
            names = {path.name for path in self.folder.glob("[!.]*.json")} - self._read
        except OSError:
            return []
        found: list[tuple[float, str, Offer]] = []
        for name in sorted(names):
            path = self.folder / name
            try:
                content, at = read_json(path), path.stat().st_mtime
            except DiskError:
                continue
            except (UserError, OSError):
                content, at = {}, 0.0
            self._read.add(name)
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                if content["format"] == FORMAT and content["run"] == self.run:
                    found.append((at, name, _offer(content)))
        return [offer for _, _, offer in sorted(found, key=lambda one: one[:2])]


def _offer(content: Mapping[str, Any]) -> Offer:
    jobs = tuple(
        PoolJob(GivenJob(str(run["key"]), run), str(title), needs)
        for run, title, needs in content["jobs"]
    )
    since = content["since"]
    run = RunOptions.from_json(content["run"])
    return Offer(jobs, run, None if since is None else float(since))
