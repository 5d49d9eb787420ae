"""Which class is taken for which, pair by pair: there are as many as images, not as classes²."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmdbench.comparison.outcomes import Outcomes
from lmdbench.comparison.types import ResultTable
from lmdbench.core.words import listed
from lmdbench.reporting.plots.figures import shortened
from lmdbench.reporting.plots.style import LONGEST_CLASS


@dataclass(frozen=True)
class Confusions:
    """Of one method: each pair of a ``true`` class and one it is ``taken_for``, (P,) indices; how
    many ``images``, mean over seeds, (P,). ``n`` (C,): images of each class.
    """

    true: np.ndarray
    taken_for: np.ndarray
    images: np.ndarray
    n: np.ndarray

    @classmethod
    def of(cls, seen: Outcomes, classes: int) -> Confusions:
        codes = (seen.labels * np.int64(classes) + seen.predicted).ravel()
        pairs, images = np.unique(codes, return_counts=True)
        true, taken_for = np.divmod(pairs, classes)
        n = np.bincount(seen.labels, minlength=classes)
        return cls(true, taken_for, images / len(seen.logits), n)

    @cached_property
    def shares(self) -> np.ndarray:
        """(P,) of the true class's images, in percent."""
        return 100 * self.images / self.n[self.true]

    @property
    def recalls(self) -> np.ndarray:
        """(C,) in percent, NaN for a class without images."""
        right = self.true == self.taken_for
        recalls = np.where(self.n > 0, 0.0, np.nan)
        recalls[self.true[right]] = self.shares[right]
        return recalls

    def largest(self, most: int) -> np.ndarray:
        """Places (K,) of the confusions of most images; of equal ones, of the largest share."""
        wrong = np.flatnonzero(self.true != self.taken_for)
        return wrong[np.lexsort((-self.shares[wrong], -self.images[wrong]))][:most]

    @property
    def all(self) -> int:
        """How many there are, right ones not counted."""
        return int((self.true != self.taken_for).sum())


def without_images(table: ResultTable, order: Sequence[int]) -> str:
    """A sentence on the classes that have none, empty where all have some."""
    names = [table.record.classes[c] for c in order]
    absent = [shortened(n, LONGEST_CLASS) for n in names if not table.rows[0].recalls[n].n]
    return f"No images of {listed(absent)}." if absent else ""
