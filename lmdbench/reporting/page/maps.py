"""Maps of what in the images of a page spoke for the answers of a row's runs, as data URIs.

Apart from all other of a page, as it needs the weights of the runs, and torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.core.errors import UserError
from lmdbench.core.words import count, size, some
from lmdbench.data.store.files import StoreFiles
from lmdbench.reporting.page.pictures import MOST_BYTES, Attention, Pictures, data_uri, fitting
from lmdbench.runs.maps import SIDE, beside, maps_of
from lmdbench.runs.prediction import TrainedRun, load_run
from lmdbench.runs.whole import HEADS, MODEL

BATCH = 32  # images looked at together
BEST = ""  # asked for in place of a method: the best row by the first column


def with_maps(
    pictures: Pictures, stored: StoreFiles, table: ResultTable, method: str, device: torch.device
) -> Pictures:
    """Pictures with maps of the answers of a method's runs, all of a row together, on the images as
    prepared. ``method``: a name or a row's label, or ``BEST``. Where there are none, with the
    reason."""
    ids = sorted(pictures.uris)
    row = {image: number for number, image in enumerate(stored.hashes)}
    try:
        asked = _asked(table, method)
        runs = _loaded(asked, device)
        found: dict[str, Attention] = {}
        kinds: dict[str, None] = {}
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            pixels = np.stack([stored.pixels[row[image]] for image in batch])
            maps = maps_of(runs, torch.from_numpy(pixels))
            kinds |= dict.fromkeys(maps.kinds)
            for image, one, values, answer in zip(
                batch, pixels, maps.values, maps.answers, strict=True
            ):
                picture = beside(_shown(one), values)
                uri = data_uri(picture, max(picture.size))
                found[image] = Attention(uri, runs[0].classes[answer])
    except UserError as error:
        name = table.setting["results_name"]
        reason = str(error).removeprefix("--maps: ").partition("; ")[0]
        return pictures.without_maps(f"no maps of {name}: {reason}")
    some_runs = len(runs) < len(asked.runs)
    of_runs = f"{len(runs)} of its {len(asked.runs)} runs" if some_runs else count(len(runs), "run")
    note = (
        f" A click shows beside it what spoke for the answer of {asked.label} ({of_runs}; "
        f"{' and '.join(kinds)}): where an answer came from, not whether it is right."
    )
    return _within_bounds(replace(pictures, note=pictures.note + note), found)


def _within_bounds(pictures: Pictures, found: dict[str, Attention]) -> Pictures:
    """With as many maps as ``MOST_BYTES`` allow."""
    kept = {image: found[image] for image in fitting((i, one.uri) for i, one in found.items())}
    pictures = replace(pictures, maps=kept)
    if lacking := len(found) - len(kept):
        return pictures.advised(
            f"{lacking:,} of {len(found):,} maps are left out: all are more than {size(MOST_BYTES)}"
        )
    return pictures


def _asked(table: ResultTable, method: str) -> MethodResult:
    """The row that is asked for; of several of a method, and of all rows, the best, which stands
    last. Raises UserError where there is none with weights, or none of that name."""
    rows = [row for row in table.rows if method in (BEST, row.method, row.label)]
    if not rows:
        raise UserError(f"no row of {method}, only of {some(_labels(table), 5)}")
    if any(run.folds for row in rows for run in row.runs):
        raise UserError("each image of a k-fold split is tested by another run")
    return next((row for row in reversed(rows) if _has_weights(row)), rows[-1])


def _labels(table: ResultTable) -> list[str]:
    return [row.label for row in table.rows]


def _has_weights(row: MethodResult) -> bool:
    return any((run.directory / name).exists() for run in row.runs for name in (MODEL, HEADS))


def _loaded(row: MethodResult, device: torch.device) -> Sequence[TrainedRun]:
    """Those of a row's runs that can answer. Raises UserError, why the first can't, for none."""
    runs, reasons = [], []
    for run in row.runs:
        try:
            runs.append(load_run(run.directory, device))
        except UserError as error:
            reasons.append(error)
    if not runs:
        raise reasons[0]
    return runs


def _shown(pixels: np.ndarray) -> np.ndarray:
    """An image (3, S, S) uint8 as (S', S', 3), at the size of its map at least."""
    image = Image.fromarray(pixels.transpose(1, 2, 0))
    side = max(SIDE, image.width)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
