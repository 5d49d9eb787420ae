"""Pictures of images beside what in them spoke for the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.core.files import atomic, read_bytes
from lmdbench.data.store.decoding import decode, whole_images
from lmdbench.evaluation.ensembles import mean_logits
from lmdbench.models.attribution import Kind
from lmdbench.runs.ensemble import Answers, Ensemble
from lmdbench.runs.prediction import TrainedRun

MOST = 200  # images
SIDE = 224  # pixels of a picture, at least
COLOURS, SHARE = "inferno", 0.55  # of the map, and how much of it covers the image where it is 1


def check_folder(folder: Path, images: int, force: bool) -> None:
    """Raise UserError where no maps can be written for so many images."""
    if images > MOST:
        raise UserError(f"--maps: {images:,} images, and at most {MOST} are drawn; name fewer")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--maps {folder}: is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise UserError(f"--maps {folder}: there is something in it; --force writes beside it")


def write_maps(
    ensemble: Ensemble, ids: Sequence[str], files: Sequence[Path], answers: Answers, folder: Path
) -> dict[Kind, int]:
    """A PNG for each image that can be read: the image, and on it the mean of the runs' maps for
    the answer of all. Returns of how many runs the maps are of a kind.

    Raises UserError for a method whose logits lead back to no image, and DiskError.
    """
    rows = [row for row in range(len(files)) if row not in answers.unreadable]
    kinds: dict[Kind, int] = {}
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(files)))
    for number, row in enumerate(rows):
        answer = int(answers.logits[row].argmax())
        maps = []
        with whole_images():
            content = read_bytes(files[row])
            for run in ensemble.runs:
                pixels = decode(content, run.image_size, run.scale)
                found, kind = run.maps(torch.from_numpy(pixels[None]), torch.tensor([answer]))
                maps.append(_resized(found[0]))
                if number == 0:
                    kinds[kind] = kinds.get(kind, 0) + 1
            shown = decode(content, max(SIDE, ensemble.lead.image_size), ensemble.lead.scale)
        name = re.sub(r"[^\w.-]+", "-", Path(ids[row]).stem)[:80]
        path = folder / f"{row + 1:0{digits}}-{name}.png"
        with atomic(path) as temporary, temporary.open("wb") as file:
            beside(shown.transpose(1, 2, 0), np.mean(maps, axis=0)).save(file, "PNG")
    return kinds


@dataclass(frozen=True)
class Maps:
    """Of N images ``values`` (N, SIDE, SIDE) from 0 to 1, ``answers`` (N,) int64 as class indices,
    and of how many runs the maps are of a kind."""

    values: np.ndarray
    answers: np.ndarray
    kinds: Mapping[Kind, int]


def maps_of(runs: Sequence[TrainedRun], pixels: torch.Tensor) -> Maps:
    """The mean of the maps of runs of the same classes and image size, for the answer of all to
    images (N, 3, S, S) uint8. Raises UserError as ``TrainedRun.maps`` does."""
    logits = [run.logits(pixels) for run in runs]
    answers = mean_logits(np.stack(logits)).argmax(axis=1)
    found, kinds = [], dict[Kind, int]()
    for run in runs:
        maps, kind = run.maps(pixels, torch.from_numpy(answers))
        found.append([_resized(one) for one in maps])
        kinds[kind] = kinds.get(kind, 0) + 1
    return Maps(np.mean(found, axis=0), answers, kinds)


def beside(image: np.ndarray, values: np.ndarray) -> Image.Image:
    """An image (S, S, 3) uint8, and right of it the same under a map (h, w) from 0 to 1."""
    side = len(image)
    values = np.asarray(Image.fromarray(values.astype(np.float32)).resize((side, side)))
    colours = 255 * colormaps[COLOURS](values)[..., :3]
    cover = SHARE * values[..., None]
    covered = (1 - cover) * image + cover * colours
    return Image.fromarray(np.hstack([image, covered.round().astype(np.uint8)]))


def _resized(values: np.ndarray) -> np.ndarray:
    """A map as all runs have it, whatever their image sizes."""
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((SIDE, SIDE)))
