"""The predictions file of a run: for each part, image ids, labels, logits and, if known, units."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmdbench.core.errors import Damaged, DiskError
from lmdbench.core.files import atomic, read_file

ARRAYS = ("ids", "labels", "logits")
# Bytes of a file up to which it is read at once, and not array by array in dozens of small pieces,
# each of which asks the server of a network file system
READ_WHOLE = 8 << 20


@dataclass(frozen=True)
class Predictions:
    """Of one part: ``ids`` (N,) str, ``labels`` (N,) int64, ``logits`` (N, C) float32, or
    float64 as other code gave them.

    ``units`` (N,) str: the lesion or patient of each image, "" where unknown; None if none is.
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    units: np.ndarray | None = None

    def __post_init__(self) -> None:
        images = len(self.labels)
        if self.ids.shape != (images,) or self.labels.shape != (images,):
            raise ValueError(f"{self.ids.shape} ids for {self.labels.shape} labels")
        if self.units is not None and (self.units.shape, self.units.dtype.kind) != ((images,), "U"):
            raise ValueError(f"units {self.units.shape} {self.units.dtype} for {images} images")
        if self.logits.ndim != 2 or len(self.logits) != images:
            raise ValueError(f"logits of shape {self.logits.shape} for {images} labels")
        if self.labels.dtype.kind not in "iu" or self.logits.dtype.kind != "f":
            raise ValueError(f"labels {self.labels.dtype} and logits {self.logits.dtype}")
        if images and not 0 <= self.labels.min() <= self.labels.max() < self.logits.shape[1]:
            raise ValueError(f"labels outside the {self.logits.shape[1]} classes of the logits")

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, chosen: np.ndarray) -> Predictions:
        """Those of the images with these indices, or where this mask is true."""
        return Predictions(
            self.ids[chosen],
            self.labels[chosen],
            self.logits[chosen],
            None if self.units is None else self.units[chosen],
        )


def save_predictions(path: Path, parts: Mapping[str, Predictions]) -> None:
    """Write ``parts`` (name → predictions) to ``path``, whole or not at all.

    The same predictions give the same bytes. Raises UserError for a full or unwritable disk.
    """
    arrays: dict[str, np.ndarray] = {}
    for part, predictions in parts.items():
        arrays[f"{part}_ids"] = np.asarray(predictions.ids, dtype=np.str_)
        arrays[f"{part}_labels"] = np.asarray(predictions.labels, dtype=np.int64)
        arrays[f"{part}_logits"] = predictions.logits
        if predictions.units is not None:
            arrays[f"{part}_units"] = predictions.units
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_predictions(
    path: Path, parts: Sequence[str] | None = None, sha256: str | None = None
) -> dict[str, Predictions]:
    """Read the named parts of a predictions file, or all of them.

    Raises Damaged, naming the file, if it is absent, damaged, lacks an array or is not the one of
    this ``sha256``, and DiskError if it cannot be read.
    """
    try:
        return read_file(path, lambda path: _load(path, parts, sha256))
    except FileNotFoundError:
        raise Damaged(f"{path}: no such file; do the run again with --force") from None
    except KeyError as error:
        lacking = str(error.args[0]).split(" ")[0]
        raise Damaged(f"{path}: lacks the array {lacking}; do the run again with --force") from None
    except (Damaged, DiskError):
        raise
    except Exception as error:  # a damaged zip, and a damaged array in it, can raise anything
        raise Damaged(
            f"{path}: damaged ({type(error).__name__}); do the run again with --force"
        ) from error


def _load(path: Path, parts: Sequence[str] | None, sha256: str | None) -> dict[str, Predictions]:
    whole = sha256 is not None or path.stat().st_size <= READ_WHOLE
    content = path.read_bytes() if whole else b""
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise Damaged(
            f"{path}: damaged, its SHA-256 is not the one in run.json; do the run again with "
            "--force"
        )
    with np.load(io.BytesIO(content) if whole else path, allow_pickle=False) as arrays:
        if parts is None:
            parts = [name.removesuffix("_ids") for name in arrays if name.endswith("_ids")]
        return {
            part: Predictions(
                **{name: arrays[f"{part}_{name}"] for name in ARRAYS},
                units=arrays.get(f"{part}_units"),
            )
            for part in parts
        }
