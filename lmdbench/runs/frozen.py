"""Features of an encoder that is not trained, computed once for all runs on the same images.

They lie in the cache beside the prepared images, named after all that they depend on, and take the
place of images in a run: its methods, samplers and heads work on them unchanged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import lmdbench.models
from lmdbench.core.code import code_of, files_of
from lmdbench.core.errors import Damaged
from lmdbench.core.files import check_cache, read_file, sha256_of, sync, write_json
from lmdbench.core.progress import COMPUTING
from lmdbench.core.randomness import derived_seed
from lmdbench.data.store.build_once import make_once
from lmdbench.data.store.store import Store
from lmdbench.models.backbone import FROZEN
from lmdbench.models.backbones import Backbone, Weights, build_encoder
from lmdbench.models.classifier import Encoder
from lmdbench.runs.code_digest import backbone_digest
from lmdbench.runs.feature_files import FILE, FOLDER, RECORD, FeaturesRecord, read_record
from lmdbench.training.task import Images

VIEWS = "lmdbench.training.views.augmentation"
BATCH = 64  # images encoded at a time

Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]  # done, of how many, of what


@dataclass(frozen=True)
class Features:
    """``rows`` ((1 + K) · M, D) float32: one for each image of ``index`` (image id → row) in the
    test view, then as many in each of K drawn views.

    ``digest``: SHA-256 of the file they come from.
    """

    rows: Tensor
    index: Mapping[str, int] = field(repr=False)
    digest: str

    def places(self, ids: Iterable[str], *, drawn: bool = False) -> Tensor:
        """Where images lie in ``rows``: (N,) int64 in the test view, or (1 + K, N) with all
        views."""
        places = torch.tensor([self.index[image] for image in ids], dtype=torch.int64)
        views = len(self.rows) // max(1, len(self.index))
        if not drawn or views == 1:
            return places
        return places + len(self.index) * torch.arange(views)[:, None]


def open_features(
    store: Store,
    backbone: Backbone,
    weights: Weights,
    device: torch.device,
    precision: torch.dtype | None,
    say: Say,
    progress: Progress,
) -> Features:
    """The features of a store's images in the test view, and in the backbone's drawn views, the
    encoder in evaluation mode; mapped from a file that is computed on first use, by one process
    while others wait. A damaged file is named and computed anew. Raises UserError for a full
    disk."""
    ids = sorted(store.index)
    index = {image: row for row, image in enumerate(ids)}
    folder = features_folder(store, backbone, weights, precision)
    path = folder / FILE

    def compute(into: Path) -> None:
        first = None
        if backbone.drawn_views:
            plain = replace(backbone, name=FROZEN + backbone.architecture, drawn_views=0)
            first = open_features(store, plain, weights, device, precision, say, progress).rows
        encoder = build_encoder(backbone, weights).to(device).eval()
        images = Images(store.pixels, store.rows(ids), torch.zeros(len(ids)).long(), device)
        encoded = _encoded(encoder, images, backbone.drawn_views, precision, first, progress)
        shape = _shape(len(ids), encoder.out_features, backbone.drawn_views)
        _write(into / FILE, shape, encoded)
        record = FeaturesRecord(
            dataset=store.folder.name.rpartition("-")[0].rpartition("-")[0],
            image_size=store.pixels.shape[-1],
            backbone=backbone.name,
            weights=weights.identity,
            drawn_views=backbone.drawn_views,
            images=len(ids),
            width=encoder.out_features,
            precision=str(precision or torch.float32).removeprefix("torch."),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            sha256=sha256_of(into / FILE),
        )
        write_json(into / RECORD, asdict(record))

    if not is_whole(folder):
        if path.exists():
            say(f"{path}: damaged; computed anew, or waited for")
        else:
            say(f"features of {len(ids):,} images by {backbone.name}: computed once, or waited for")
        check_cache(folder.parent)
        make_once(folder, lambda: is_whole(folder), compute)
    with contextlib.suppress(OSError):  # of another user, or a cache that may only be read
        os.utime(folder / RECORD)  # when they were last used
    rows = torch.from_numpy(read_file(path, _mapped))
    return Features(rows.reshape(-1, rows.shape[-1]), index, read_record(folder).sha256)


def features_folder(
    store: Store, backbone: Backbone, weights: Weights, precision: torch.dtype | None
) -> Path:
    """Where the features of a store's images lie, or will."""
    name = store.folder.name.rpartition("-")[0]
    views = f"-{backbone.drawn_views}-views" if backbone.drawn_views else ""
    key = _key(store, backbone, weights, precision)[:16]
    return store.folder.parents[1] / FOLDER / f"{name}-{backbone.slug}{views}-{key}"


_seen: dict[tuple[Path, int, int], str] = {}  # path, size, time of change → SHA-256


def is_whole(folder: Path) -> bool:
    """Whether the features in a folder are those that were written. Raises DiskError where they
    can't be read."""
    path = folder / FILE
    if not (path.is_file() and (folder / RECORD).is_file()):
        return False
    try:
        record = read_record(folder)
    except Damaged:
        return False
    stat = path.stat()
    seen = path, stat.st_size, stat.st_mtime_ns
    if seen not in _seen:
        _seen[seen] = read_file(path, sha256_of)
    return _seen[seen] == record.sha256


def _mapped(path: Path) -> np.ndarray:
    """Shared by all processes that map it; where a file system maps nothing, read."""
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError:
        return np.load(path, allow_pickle=False)


def _shape(images: int, width: int, drawn_views: int) -> tuple[int, ...]:
    return (1 + drawn_views, images, width) if drawn_views else (images, width)


@torch.inference_mode()
def _encoded(
    encoder: Encoder,
    images: Images,
    drawn_views: int,
    precision: torch.dtype | None,
    first: Tensor | None,
    progress: Progress,
) -> Iterator[Tensor]:
    """Features (B, D) float32 batch after batch: of all images in the test view, or ``first`` in
    their place, then of all in each drawn view, of random numbers of its own."""
    views = [*("test",)[: first is None], *["strong"] * drawn_views]
    if first is not None:
        yield first
    for number, view in enumerate(views):
        generator = torch.Generator(images.device)
        generator.manual_seed(derived_seed(0, "feature-views", number))
        for positions in torch.arange(len(images)).split(BATCH):
            batch = images.batch(positions, (view,), generator)
            with torch.autocast(
                images.device.type, precision or torch.bfloat16, precision is not None
            ):
                features = encoder(batch.images)
            yield features.float().cpu()
            done = number * len(images) + int(positions[-1]) + 1
            progress(done, len(views) * len(images), COMPUTING)


def _write(path: Path, shape: tuple[int, ...], batches: Iterable[Tensor]) -> None:
    """A .npy file of float32, written batch after batch."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            file.write(batch.numpy().astype("<f4").tobytes())
        file.flush()
        sync(file.fileno(), path.parent)


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
