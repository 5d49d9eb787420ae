"""Weights & Biases: offline where its server can't be reached."""

from __future__ import annotations

import logging
import math
import netrc
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lmdbench.training.loggers import Logger, Rows, Scores, register_logger

logger = logging.getLogger("lmdbench")

# What of its settings is other than it would be: it prints nothing, asks for nothing, and is told
# nothing of the machine, the code and the packages. Those that a version lacks are left out.
QUIET: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "host": "",
    "init_timeout": 30.0,  # seconds that a server may take to take a run on
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
REACHED_WITHIN = 3.0  # seconds to find out whether there is a network
SENT_WITHIN = 60.0  # seconds at the end of a run for what was not sent yet
STOPPED = 130  # exit code of what was interrupted


def mode() -> str:
    """``WANDB_MODE``, or online where there is a key and the server can be reached; else offline.

    No key is ever asked for: nobody may sit in front of a run.
    """
    if said := os.environ.get("WANDB_MODE"):
        return said
    import wandb

    server = urlparse(wandb.setup().settings.base_url)
    host = server.hostname or ""
    if not (os.environ.get("WANDB_API_KEY") or _in_netrc(host)):
        return "offline"
    port = server.port or (443 if server.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), timeout=REACHED_WITHIN).close()
    except OSError as error:
        logger.info("wandb: %s can't be reached (%s), so it works offline", host, error)
        return "offline"
    return "online"


def _in_netrc(host: str) -> bool:
    """Whether ``wandb login`` left a key for a host."""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, RuntimeError, netrc.NetrcParseError):  # RuntimeError: there is no home folder
        return False


@register_logger(
    "wandb",
    title="Weights & Biases, offline where there is no network",
    needs="wandb",
    extra="tracking",
)
class WeightsAndBiases(Logger):
    """Each attempt is a run there, with all epochs so far; those of one run of ours are a group.

    It is told the specification, the history and the scores: no images, predictions or weights,
    nor code, the machine's load or what is printed. Its files lie in ``wandb/`` of the run.
    """

    def __init__(self) -> None:
        self._run: Any = None
        self._told = 0  # rows of the history

    def begin(
        self, record: Mapping[str, Any], settings: Mapping[str, Any], directory: Path
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        spec, attempt = record["spec"], record.get("attempts") or 1
        known = wandb.Settings.model_fields
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "lmdbench",
            dir=str(directory),
            mode=mode(),  # type: ignore[arg-type]
            id=f"{record['id'][:16]}-{attempt}",
            group=record["id"][:16],
            name=f"{spec['method']} seed {spec['seed']}",
            tags=[record["results_name"], record["split_label"]],
            config={**spec, "settings": dict(settings), "attempt": attempt},
            reinit="create_new",
            settings=wandb.Settings(**{name: QUIET[name] for name in QUIET if name in known}),
        )
        if self._run.offline:
            logger.info("wandb: offline; `wandb sync %s` sends it", self._folder)

    def epoch(self, history: Rows) -> None:
        for row in history[self._told :]:
            finite = {name: value for name, value in row.items() if math.isfinite(value)}
            self._run.log(finite, step=int(row["epoch"]))
        self._told = len(history)

    def end(self, scores: Scores | None) -> None:
        if scores is not None:
            self._run.summary.update(
                {
                    f"{part}/{metric}": value
                    for part, values in scores.items()
                    for metric, value in values.items()
                    if value is not None
                }
            )
        self._finish(0 if scores is not None else STOPPED)

    def fail(self, reason: str) -> None:
        self._run.summary["failed"] = reason
        self._finish(1)

    @property
    def _folder(self) -> Path:
        return Path(self._run.settings.sync_dir)

    def _finish(self, code: int) -> None:
        """Send what is left, but never wait for long: the files stay where they are."""
        problems: list[BaseException] = []

        def finish() -> None:
            try:
                self._run.finish(exit_code=code)
            except BaseException as error:  # of a server that is away; also what wandb exits by
                problems.append(error)

        sending = threading.Thread(target=finish, name="wandb", daemon=True)
        sending.start()
        sending.join(SENT_WITHIN)
        if problems or sending.is_alive():
            logger.warning("wandb: not all was sent; `wandb sync %s` sends it", self._folder)
