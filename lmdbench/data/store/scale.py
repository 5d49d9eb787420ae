"""Which values become black and white in pictures of more than 8 bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.words import some

BITS = (8, 10, 12, 14, 16)  # that pictures of 16 bits may hold
FLOATS = (1.0, 255.0)  # what is white in pictures of floats
NAMED = 3  # pictures that an error names
WAY = "say which values are black and white by intensity_range = [LOW, HIGH] in dataset.toml"


class Refused(ValueError):
    """Why a picture that may be sound is not read as things are: a bound, a package, its range."""


@dataclass(frozen=True)
class Scale:
    """Values from ``low`` to ``high`` become 0 to 255, evenly. One scale serves all pictures of a
    data set: stretching each by its own range would make them incomparable.

    ``clips``: values beyond are cut to the ends, as a window does; else they are an error. The
    default is that of 16 bits.
    """

    low: float = 0.0
    high: float = 65535.0
    clips: bool = False

    def grey(self, values: np.ndarray) -> np.ndarray:
        """Values of any shape and kind as uint8. Raises ValueError for values beyond the scale and
        for those that are no numbers."""
        low, high = extremes(values)
        if not self.clips and (low < self.low or high > self.high):
            raise Refused(f"values from {number(low)} to {number(high)}, beyond {self.text}")
        return self._table[values] if values.dtype == np.uint16 else self._scaled(values)

    @cached_property
    def _table(self) -> np.ndarray:
        return self._scaled(np.arange(65536))

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        inside = np.clip(values.astype(np.float64), self.low, self.high)
        return ((inside - self.low) / ((self.high - self.low) / 255)).round().astype(np.uint8)

    @property
    def text(self) -> str:
        """As records and stores carry it: ``0..4095``, ``-1000..400 clipped``."""
        return f"{number(self.low)}..{number(self.high)}" + " clipped" * self.clips

    @property
    def words(self) -> str:
        clipped = ", what is beyond is cut" if self.clips else ""
        return f"{number(self.low, ',')} becomes black, {number(self.high, ',')} white{clipped}"


USUAL = Scale()


def extremes(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value. Raises ValueError where one is no number."""
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError("has values that are no finite numbers (NaN or infinite)")
    return low, high


def parse_scale(text: str) -> Scale:
    """What ``Scale.text`` wrote. Raises ValueError for anything else."""
    ends, _, clipped = text.partition(" ")
    low, dots, high = ends.partition("..")
    if not dots or clipped not in ("", "clipped"):
        raise ValueError(f"{text!r} is no scale such as 0..4095")
    return Scale(float(low), float(high), bool(clipped))


def of_bits(bits: int, *, signed: bool = False) -> Scale:
    """The scale of whole numbers of so many bits."""
    half = 2.0 ** (bits - 1)
    return Scale(-half, half - 1) if signed else Scale(0.0, 2 * half - 1)


def number(value: float, grouping: str = "") -> str:
    """A number without needless digits; with ``grouping`` for people, who need six of them."""
    whole = float(value).is_integer() and abs(value) < 1e15
    digits = 6 if grouping else 15
    return f"{int(value):{grouping}}" if whole else f"{value:{grouping}.{digits}g}"


@dataclass(frozen=True)
class Values:
    """What a picture of more than 8 bits holds: its smallest and largest value. ``stated``: bits
    that its file says are used, 0 where it says none."""

    low: float
    high: float
    floats: bool = False
    stated: int = 0


def common_scale(values: Mapping[str, Values], asked: Scale | None = None) -> Scale:
    """The scale of a data set's pictures (name → values): the one asked for, or that of the fewest
    bits that hold all values, of those in ``BITS``.

    Of floats 0 to 1, or 0 to 255. Raises UserError, naming pictures, for values beyond.
    """
    if asked is not None:
        _require(values, asked)
        return asked
    if not values:
        return USUAL
    if len({one.floats for one in values.values()}) > 1:
        floats = [name for name, one in values.items() if one.floats]
        raise UserError(
            f"{some(floats, NAMED)}: pictures of floats, beside others of whole numbers; {WAY}"
        )
    low, high = min(v.low for v in values.values()), max(v.high for v in values.values())
    if next(iter(values.values())).floats:
        scales = [Scale(0.0, white) for white in FLOATS]
    else:
        stated = max(_stated(one) for one in values.values())
        scales = [of_bits(bits, signed=low < 0) for bits in BITS if bits >= stated]
    for scale in scales:
        if scale.low <= low and high <= scale.high:
            return scale
    worst = [name for name, one in values.items() if _beyond(one, scales[-1])]
    raise UserError(
        f"{some(worst, NAMED)}: values from {number(low, ',')} to {number(high, ',')}, so what is "
        f"black and white is not known; {WAY}"
    )


def _stated(one: Values) -> int:
    """The bits that the file says are used, where its values fit: some scale them up instead."""
    return one.stated if one.high < 2.0**one.stated else 0


def _beyond(one: Values, scale: Scale) -> bool:
    return one.low < scale.low or one.high > scale.high


def _require(values: Mapping[str, Values], asked: Scale) -> None:
    beyond = [] if asked.clips else [n for n, one in values.items() if _beyond(one, asked)]
    if beyond:
        ends = (values[beyond[0]].low, values[beyond[0]].high)
        held = " to ".join(number(end, ",") for end in ends)
        raise UserError(
            f"{some(beyond, NAMED)}: values beyond the {number(asked.low)} to "
            f"{number(asked.high, ',')} of its bit_depth (the first has {held}); give another "
            "bit_depth, or intensity_range = [LOW, HIGH], in dataset.toml"
        )
