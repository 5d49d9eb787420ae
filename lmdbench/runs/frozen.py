"""Features of an encoder that is not trained, computed once for all runs on the same images.

They lie in the cache beside the prepared images, named after all that they depend on, and take the
place of images in a run: its methods, samplers and heads work on them unchanged.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import lmdbench.models
from lmdbench.core.code import code_of, files_of
from lmdbench.core.errors import UserError
from lmdbench.core.files import check_cache, read_file
from lmdbench.data.store.build_once import make_once
from lmdbench.data.store.store import Store
from lmdbench.models.backbones import Backbone, Weights, build_encoder
from lmdbench.models.weights import file_sha256
from lmdbench.runs.code_digest import backbone_digest
from lmdbench.training.task import Images

FILE = "features.npy"
VIEWS = "lmdbench.training.views.augmentation"
BATCH = 64  # images encoded at a time


@dataclass(frozen=True)
class Features:
    """``rows`` (M, D) float32, one for each image of ``index`` (image id → row).

    ``digest``: SHA-256 of the file they come from.
    """

    rows: Tensor
    index: Mapping[str, int] = field(repr=False)
    digest: str

    def places(self, ids: Iterable[str]) -> Tensor:
        """Where images lie in ``rows``, (N,) int64."""
        return torch.tensor([self.index[image] for image in ids], dtype=torch.int64)


def open_features(
    store: Store,
    backbone: Backbone,
    weights: Weights,
    device: torch.device,
    precision: torch.dtype | None,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> Features:
    """The features of a store's images in the test view, the encoder in evaluation mode; computed
    on first use, by one process while others wait. Raises UserError for a full disk."""
    ids = sorted(store.index)
    key = _key(store, backbone, weights, precision)
    name = store.folder.name.rpartition("-")[0]
    folder = store.folder.parents[1] / "features" / f"{name}-{backbone.slug}-{key[:16]}"

    def compute(into: Path) -> None:
        encoder = build_encoder(backbone, weights).to(device).eval()
        labels = torch.zeros(len(ids), dtype=torch.int64)
        images = Images(store.pixels, store.rows(ids), labels, device)
        unused = torch.Generator(device)
        found = []
        for positions in torch.arange(len(ids)).split(BATCH):
            batch = images.batch(positions, ("test",), unused)
            with (
                torch.inference_mode(),
                torch.autocast(device.type, precision or torch.bfloat16, precision is not None),
            ):
                found.append(encoder(batch.images).float().cpu())
            progress(int(positions[-1]) + 1, len(ids))
        np.save(into / FILE, torch.cat(found).numpy())

    path = folder / FILE
    if not path.is_file():
        say(f"features of {len(ids):,} images by {backbone.name}: computed once, or waited for")
        check_cache(folder.parent)
        make_once(folder, path.is_file, compute)
    try:
        rows = read_file(path, lambda path: np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} can't be read ({error}); delete it to compute it anew") from error
    index = {image: row for row, image in enumerate(ids)}
    return Features(torch.from_numpy(rows), index, file_sha256(path))


def _key(store: Store, backbone: Backbone, weights: Weights, precision: torch.dtype | None) -> str:
    """A digest of all that features depend on, but for the device and the libraries."""
    models = sorted(module.name for module in pkgutil.iter_modules(lmdbench.models.__path__))
    names = (*(f"{lmdbench.models.__name__}.{name}" for name in models), VIEWS, __name__)
    code = hashlib.sha256(b"".join(code_of(*one) for one in files_of(names).items()))
    network = backbone_digest(backbone)  # of plug-ins too
    what = [
        store.digest,
        backbone.name,
        network,
        weights.identity,
        str(precision),
        code.hexdigest(),
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()
