"""What an encoder that does not run here made of a data set's images: vectors in their place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lmdbench.core.errors import UserError


@dataclass(frozen=True)
class Vectors:
    """``rows`` (N, D) float32: the features of the images ``ids`` (N), by the encoder ``name``."""

    name: str
    ids: Sequence[str]
    rows: np.ndarray = field(repr=False)

    @property
    def width(self) -> int:
        """Numbers an image, D."""
        return int(self.rows.shape[1])

    @cached_property
    def place(self) -> dict[str, int]:
        """Image id → row."""
        return {image: row for row, image in enumerate(self.ids)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all ids and features, in the order of the ids."""
        return self.digest_of(self.ids)

    def digest_of(self, ids: Iterable[str]) -> str:
        """The same of some of the images."""
        digest = hashlib.sha256(f"{self.width}\n".encode())
        for image in sorted(ids):
            digest.update(
                f"{image}\n".encode() + self.rows[self.place[image]].astype("<f4").tobytes()
            )
        return digest.hexdigest()


def refuse_vectors(vectors: Vectors | None, what: str, advice: str = "leave it out") -> None:
    """Raise UserError where a data set has vectors: ``what`` is about images."""
    if vectors is not None:
        raise UserError(
            f"{what} is about images, and the data set has features by {vectors.name} in their "
            f"place; {advice}"
        )
