"""Features of a part's images by a trained run's encoder, and by that of what it started from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmdbench.comparison.results import Run, ancestor_of
from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Dataset
from lmdbench.data.splits.assign import shuffled
from lmdbench.data.splits.availability import locate, missing_images, record_files
from lmdbench.data.vectors import refuse_vectors
from lmdbench.reporting.plots.embedding import Embedding
from lmdbench.reporting.plots.style import MOST_CLASSES, order_of
from lmdbench.runs.record import RunRecord
from lmdbench.runs.whole import saved_predictions

if TYPE_CHECKING:
    import torch

MOST_IMAGES = 4000  # of many classes together: t-SNE takes its time
ALIKE = 1e-5  # of the features' scale: a difference that arithmetic alone can make


def embedding_of(
    directory: Path,
    open_dataset: Callable[[str], Dataset],
    cache: Path,
    *,
    part: str,
    per_class: int,
    device: torch.device,
    accept_changed: bool,
    say: Callable[[str], None],
) -> Embedding:
    """Features of at most ``per_class`` images of each class of ``part``, before and after a run.

    The images are those that the run predicted; they are looked up in the data set by their ids,
    and read from the store in ``cache``, or from a small one made for them. Raises UserError for
    images that are not there, and for a run without its model.
    """
    from lmdbench.data.store.store import open_images
    from lmdbench.runs.prediction import load_run

    trained = load_run(directory, device, accept_changed=accept_changed)
    run = Run(directory, trained.record)
    predictions = saved_predictions(directory, trained.record, [part])[part]
    order = order_of(np.asarray(trained.record.class_counts["train"]))
    counts = np.bincount(predictions.labels, minlength=len(order))
    if len(order) > MOST_CLASSES:
        per_class = max(1, min(per_class, MOST_IMAGES // len(order)))
    chosen = [
        place
        for c in order
        for place in _chosen(predictions.ids, np.flatnonzero(predictions.labels == c), per_class)
    ]
    dataset = open_dataset(trained.spec.dataset)
    refuse_vectors(dataset.vectors, "plot embedding", "draw the file's features yourself")
    dataset.materialise(say)
    ids = [str(image) for image in predictions.ids[chosen]]
    store = open_images(
        str(trained.record.results_name),
        _files(dataset, ids),
        trained.image_size,
        cache,
        asked=trained.scale,
    )
    pixels = store.pixels[store.rows(ids)]

    members = trained.record.groups
    group_of = {label: group for group, labels in members.items() for label in labels}
    name = f"{trained.spec.method}, seed {trained.spec.seed}"
    after = trained.features(pixels)
    features, notes = {f"after: {name}": after}, []
    above = ancestor_of(run)
    if above is not None:
        before = load_run(above.directory, device, accept_changed=accept_changed).features(pixels)
        if before.shape == after.shape and np.allclose(before, after, atol=ALIKE * after.std()):
            features = {f"{name} (and {above.method}, which it started from)": after}
            notes.append(f"{trained.spec.method} leaves the encoder as {above.method} trained it.")
        else:
            features = {f"before: {above.method}, seed {above.seed}": before, **features}
    elif trained.record.ancestor:
        notes.append(
            "The run it started from is gone, or was trained anew: no features from before."
        )
    else:
        features = {name: after}
        notes.append(f"{trained.spec.method} starts from no other run.")
    return Embedding(
        title=_title(trained.record, part),
        part=part,
        classes=[trained.classes[c] for c in order],
        labels=np.argsort(order)[predictions.labels[chosen]],
        counts=counts[order],
        features=features,
        per_class=per_class,
        notes=notes,
        groups=[group_of.get(trained.classes[c], "") for c in order],
    )


def _chosen(ids: np.ndarray, places: np.ndarray, most: int) -> list[int]:
    """At most so many of the places, always the same ones for the same images."""
    return shuffled(places, ids, "embedding")[:most]


def _files(dataset: Dataset, ids: Sequence[str]) -> dict[str, Path]:
    known = locate(dataset, record_files(dataset)).files
    files = {image: known[image] for image in ids if image in known}
    lacking = [image for image in ids if image not in files] or list(missing_images(files))
    if lacking:
        raise UserError(
            f"data set {dataset.name}: {len(lacking):,} of {len(ids):,} images that the run "
            f"predicted are not there, for example {lacking[0]}; is this the right --data-root?"
        )
    return files


def _title(record: RunRecord, part: str) -> str:
    words = [record.results_name, record.split_label, f"{part} images"]
    words += ["PARTIAL DATA"] * bool(record.partial)
    words += ["SYNTHETIC DATA"] * bool(record.synthetic)
    return " · ".join(words)
