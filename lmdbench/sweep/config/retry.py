"""How often runs that die or hang are tried, and with how much more: [retry]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lmdbench.core.schema import Check, Document, is_number, whole
from lmdbench.sweep.config.sbatch import mebibytes
from lmdbench.sweep.config.values import duration

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Retry:
    """``attempts``: deaths without an epoch done in between, before a run is left alone.

    ``stall``: seconds without a step after which a run counts as hanging, at the least; None: it
    never does. ``mem``, ``time``: a job's times this, for runs that the lack of it ended, and again
    each time, up to ``mem_most`` (MiB) and ``time_most`` (minutes).
    """

    attempts: int = 3
    stall: float | None = 600.0
    mem: float = 1.0
    time: float = 1.0
    mem_most: int | None = None
    time_most: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Retry:
        return cls(**content)


AS_USUAL = Retry()


def read_retry(doc: Document) -> Retry:
    """Raises UserError also for a bound of what is never raised."""
    values = doc.fields(("retry",), CHECKS)
    for name, most in (("mem", "mem_most"), ("time", "time_most")):
        if most in values and values.get(name, 1.0) == 1:
            text = f'{most} bounds what {name} raises; add {name} = "x2", or leave it out'
            raise doc.error(("retry", most), text)
    return Retry(**values)


def retry_table(retry: Retry) -> dict[str, Any]:
    """What reads back as these, without what is as usual."""
    said: dict[str, Any] = {k: v for k, v in vars(retry).items() if v != getattr(AS_USUAL, k)}
    if "stall" in said:
        said["stall"] = f"{said['stall']:.0f}s" if said["stall"] else False
    if "mem_most" in said:
        said["mem_most"] = f"{said['mem_most']}M"
    return said


def _stall(value: Any) -> float | None:
    if value is False:
        return None
    found = re.fullmatch(r"(\d{1,7}) ?(s|m|min|h|d)", value) if isinstance(value, str) else None
    if found is None or not int(found[1]):
        raise ValueError('a time such as "10m", "90s" or "2h", or false for never')
    return float(int(found[1]) * UNITS[found[2]])


def _factor(value: Any) -> float:
    number = value
    if isinstance(value, str) and (found := re.fullmatch(r"[x×] ?(\d+(?:\.\d+)?)", value)):
        number = float(found[1])
    if not is_number(number, 1, 100):
        raise ValueError('a factor from 1 to 100, such as "x2"')
    return float(number)


def _memory(value: Any) -> int:
    found = mebibytes(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('an amount of memory such as "64G"')
    return found


CHECKS: dict[str, Check] = {
    "attempts": whole(1, 1000),
    "stall": _stall,
    "mem": _factor,
    "time": _factor,
    "mem_most": _memory,
    "time_most": duration,
}
