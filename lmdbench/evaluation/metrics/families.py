"""Statistics of classes that hold at a share which the user chooses: ``NAME@KEY=SHARE``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from lmdbench.core.errors import UserError
from lmdbench.evaluation.metrics.metric import ClassStat

Make = Callable[[str, float], ClassStat]


@dataclass(frozen=True)
class Family:
    """The ``name`` of a statistic at each ``key``, as sensitivity at each specificity.

    ``make``: of the statistic's full name and the share the statistic. ``example``: a share.
    ``below_one``: 1 is none.
    """

    name: str
    key: str
    example: str
    make: Make
    below_one: bool = False

    @property
    def form(self) -> str:
        return f"{self.name}@{self.key}={self.example}"

    def at(self, text: str) -> tuple[str, ClassStat]:
        """Full name and statistic at the share that is typed. Raises UserError for what is none."""
        try:
            share = float(text)
        except ValueError:
            share = -1
        if not 0 < share <= 1 or (share == 1 and self.below_one):
            upto = "below" if self.below_one else "up to"
            raise UserError(
                f"metric {self.name}@{self.key}={text}: {self.key} is {text or 'empty'}, but must "
                f"be a share above 0 and {upto} 1, as in {self.form}"
            )
        name = f"{self.name}@{self.key}={share:.12g}"
        return name, _made(self.make, name, share)


@lru_cache(maxsize=64)
def _made(make: Make, name: str, share: float) -> ClassStat:
    """One object for all classes, so that a ``Scorer`` computes once for all."""
    return make(name, share)
