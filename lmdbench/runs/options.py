"""How runs are carried out: plain data, which workers get as JSON; none is in a run's id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lmdbench.training.engine import Asked


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

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunOptions:
        return cls(**{**content, "log": tuple(content["log"])})

    @property
    def redoes_changed(self) -> bool:
        """Whether finished runs that changed are done again."""
        return self.redo == "changed"


IN_SWEEPS = RunOptions(redo="unfinished", wait=False)  # unless a sweep or its user says otherwise
