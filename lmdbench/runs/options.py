"""How runs are carried out: plain data, which workers get as JSON; none is in a run's id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown

if TYPE_CHECKING:
    from lmdbench.training.engine import Asked

KEEPS = ("all", "heads", "none")  # of weights
AUTO = "auto"
QUICK_SECONDS = 1.0  # to write a checkpoint: then each epoch has one
WRITING_SHARE = 0.1  # of a run's time that writing others may take


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is done with what is there already, and how what is not there is trained."""

    force: bool = False  # move a finished run aside and do it again
    accept_changed: bool = False  # trust a run made by other code or from another store
    # What other code or images began, or also what they finished, is moved aside and done again.
    redo: Literal["nothing", "unfinished", "changed"] = "nothing"
    wait: bool = True  # for a run that another worker trains; else Busy is raised
    log: tuple[str, ...] = ()  # names of the loggers that are told of them
    validate_every: int = 1  # epochs; the last one is scored in any case
    execution: Asked = "auto"  # auto: compiled on a GPU
    deterministic: bool = False  # on a GPU, too, the same bits each time
    # Between two checkpoints: epochs, or minutes ("10m"), or "auto", each epoch unless to write one
    # takes long; after the last epoch there is one
    checkpoint_every: int | str = AUTO
    # Of the weights when a run is finished: all, what is not the encoder, or none. What others of
    # the same chain or sweep start from keeps all.
    keep_weights: Literal["all", "heads", "none"] = "all"

    def __post_init__(self) -> None:
        try:
            checkpoint_interval(self.checkpoint_every)
        except ValueError as problem:
            raise UserError(
                f"checkpoint_every is {self.checkpoint_every!r}; give {problem}"
            ) from None

        if self.keep_weights not in KEEPS:
            raise unknown("keep_weights", str(self.keep_weights), list(KEEPS))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunOptions:
        return cls(**{**content, "log": tuple(content["log"])})

    @property
    def redoes_changed(self) -> bool:
        """Whether finished runs that changed are done again."""
        return self.redo == "changed"

    def checkpoint_due(self, epochs: int, seconds: float, writing: float = 0.0) -> bool:
        """Whether so many epochs, and so long, after one checkpoint it is time for the next.
        ``writing``: seconds that the last one took to write."""
        every = self.checkpoint_every
        if every == AUTO:
            return writing <= QUICK_SECONDS or seconds >= writing / WRITING_SHARE
        return epochs >= every if isinstance(every, int) else seconds >= 60 * int(every[:-1])


def checkpoint_interval(value: Any) -> int | str:
    """A number of epochs, minutes as ``10m``, or ``auto``. Raises ValueError, which says what is
    wanted."""
    text = str(value).strip() if type(value) in (int, str) else ""
    if text == AUTO:
        return AUTO
    if re.fullmatch(r"[1-9]\d{0,5}m?", text):
        return text if text.endswith("m") else int(text)
    raise ValueError('epochs, such as 5, minutes, such as "10m", or "auto"')


IN_SWEEPS = RunOptions(redo="unfinished", wait=False)  # unless a sweep or its user says otherwise
