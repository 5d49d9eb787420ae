"""How many of the images that a run predicts look unlike those it was trained on."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from lmdbench.core.errors import UserError
from lmdbench.core.files import atomic
from lmdbench.data.store.files import StoreFiles, read_finished, store_name
from lmdbench.evaluation.metrics import softmax, unusable
from lmdbench.runs.prediction import PredictedLogits, TrainedRun, load_run
from lmdbench.runs.record import CODE_PARTS, read_record
from lmdbench.runs.state import runs_with_id
from lmdbench.runs.whole import saved_predictions, validation_predictions

SHARE = 0.05  # of the run's own validation images that would count as unlike, too
FEWEST = 20  # validation images; with fewer their 5th percentile is one image or none
FILE = "likeness.npz"  # in the run's directory: what its images are held against
NEIGHBOUR = 5  # the one whose distance counts
MOST = 2000  # training images that are held against, drawn once
BATCH = 64  # images encoded at a time


@dataclass(frozen=True)
class Likeness:
    """``unlike`` (N,) bool, False where an image could not be read: those that score below
    ``threshold``, the 5th percentile of the run's validation images.

    ``by_features``: the score is the cosine between an image's features and those of its 5th
    nearest training image (Sun et al., ICML 2022); else it is the largest probability (Hendrycks &
    Gimpel, ICLR 2017).
    """

    unlike: np.ndarray
    readable: int
    threshold: float | None  # None: each of several runs has its own
    by_features: bool

    @property
    def images(self) -> int:
        return int(self.unlike.sum())

    def of(self, rows: Sequence[int]) -> int:
        """How many of these images."""
        return int(self.unlike[list(rows)].sum())


@dataclass(frozen=True)
class Reference:
    """``train`` (n, D) float32: features of a run's training images, of length 1. ``threshold``:
    the 5th percentile of its validation images' scores; of a refit, see ``carried_over``."""

    train: np.ndarray
    threshold: float

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Of features (N, D) the cosine with the 5th nearest of the training images, (N,)."""
        return nearness(self.train, features)


def likeness(
    run: TrainedRun, predicted: PredictedLogits, reference: Reference | None
) -> Likeness | None:
    """Of predicted images, by their scores where the run has a reference, else by their largest
    probability. None where it keeps too few validation images to tell."""
    if reference is not None and predicted.scores is not None:
        return _likeness(predicted.scores, reference.threshold, by_features=True)
    try:
        own = saved_predictions(run.directory, run.record, ["validation"])["validation"]
    except UserError:
        return None
    if len(own) < FEWEST or unusable(own.logits):
        return None
    threshold = float(np.quantile(softmax(own.logits).max(axis=1), SHARE))
    readable = np.isfinite(predicted.logits).all(axis=1)
    largest = np.full(len(readable), np.nan)
    largest[readable] = softmax(predicted.logits[readable]).max(axis=1)
    return _likeness(largest, threshold, by_features=False)


def _likeness(scores: np.ndarray, threshold: float, *, by_features: bool) -> Likeness:
    return Likeness(scores < threshold, int(np.isfinite(scores).sum()), threshold, by_features)


def together(found: Sequence[Likeness | None]) -> Likeness | None:
    """Of several runs: unlike is what looks so to more than half of those that can tell; None where
    none can. ``by_features`` if that goes for all of them."""
    told = [one for one in found if one is not None]
    if len(told) < 2:
        return told[0] if told else None
    unlike = np.mean([one.unlike for one in told], axis=0) > 0.5
    readable = min(one.readable for one in told)
    return Likeness(unlike, readable, None, all(one.by_features for one in told))


def reference_of(
    run: TrainedRun, cache: Path, say: Callable[[str], None] = lambda _: None
) -> Reference | None:
    """What the run's images are held against: from its directory, else from the prepared images it
    was trained on, where they are in ``cache``, and then kept in its directory if that can be
    written. None where neither is there, and for a run of few images or without features."""
    path = run.directory / FILE
    with suppress(OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error):
        kept = np.load(path, allow_pickle=False)
        if str(kept["model"]) == run.record.digests.get("model"):
            return Reference(kept["train"].astype(np.float32), float(kept["threshold"]))
    found = _made(run, cache, say)
    if found is not None:
        with suppress(UserError), atomic(path) as temporary, temporary.open("wb") as file:
            model = np.array(run.record.digests.get("model"))
            train = found.train.astype(np.float16)
            np.savez(file, model=model, train=train, threshold=np.array(found.threshold))
    return found


def why_not(run: TrainedRun) -> str:
    """Why nothing is told of what looks unlike a run's images, behind "not told, as"."""
    refit = run.spec.refit
    if refit is not None:
        with suppress(UserError):
            if len(validation_predictions(run.directory, run.record)) >= FEWEST:
                return (
                    f"a refit goes by the run that it repeats, and {str(refit['run'])[:8]} with "
                    "its weights, or its prepared images, are not here"
                )
    return f"it keeps no {FEWEST} validation images"


def _made(run: TrainedRun, cache: Path, say: Callable[[str], None]) -> Reference | None:
    store = _store(run, cache)
    if store is None:
        return None
    try:
        own = saved_predictions(run.directory, run.record)
    except UserError:
        return None
    before = _of_repeated(run, cache, say) if run.spec.refit is not None else None
    predicted = {str(image) for part in own.values() for image in part.ids}
    train = [image for image in store.hashes if image not in predicted]
    validation = [str(image) for image in own["validation"].ids]
    if len(train) != sum(run.record.class_counts["train"]):
        return None
    if before is None and len(validation) < FEWEST:
        return None
    if len(train) > MOST:
        chosen = np.random.default_rng(0).choice(len(train), MOST, replace=False)
        train = [train[place] for place in sorted(chosen)]
    say(f"features of {len(train):,} training images: computed once, and kept beside the run")
    try:
        known = unit(_features(run, store, train))
        if before is not None:
            threshold = carried_over(before, known)
        else:
            held = unit(_features(run, store, validation))
            threshold = float(np.quantile(nearness(known, held), SHARE))
    except AttributeError:  # a method without one encoder
        return None
    if not (np.isfinite(known).all() and np.isfinite(threshold)):
        return None
    return Reference(known, threshold)


def _of_repeated(run: TrainedRun, cache: Path, say: Callable[[str], None]) -> Reference | None:
    """What the images of the run that a refit repeats are held against, where that lies among the
    same results, with its weights and of code that may be trusted as much."""
    assert run.spec.refit is not None
    above = run.directory.resolve().parents
    results = above[3] if len(above) > 3 else above[-1]
    with suppress(UserError):
        for directory in runs_with_id(results, str(run.spec.refit["run"])):
            there, here = read_record(directory).digests, run.record.digests
            alike = all(there.get(part) == here.get(part) for part in CODE_PARTS)
            repeated = load_run(directory, run.task.device, accept_changed=alike)
            return reference_of(repeated, cache, say)
    return None


def carried_over(before: Reference, train: np.ndarray) -> float:
    """The threshold for a refit with features ``train`` (n, D) of its training images, at length 1.

    Of the run that it repeats, validation images of the 5th percentile lie by some factor farther
    from the training images than those of the 5th percentile among these do from each other. The
    refit has no images that it was not trained on, but the latter distance: times that factor.
    """
    apart, now = (1 - np.quantile(among(one), SHARE) for one in (before.train, train))
    return float(1 - (1 - before.threshold) / max(apart, 1e-6) * now)


def among(train: np.ndarray) -> np.ndarray:
    """The cosine of each of ``train`` (n, D), at length 1, with the 5th nearest of the others."""
    cosines = train @ train.T
    np.fill_diagonal(cosines, -1)
    place = min(NEIGHBOUR, len(train))
    return np.partition(cosines, -place, axis=1)[:, -place]


def _store(run: TrainedRun, cache: Path) -> StoreFiles | None:
    """The prepared images of the run's split and no others."""
    digest = str(run.record.digests.get("store"))
    name = f"{store_name(str(run.record.results_name))}-{run.image_size}px-{digest[:16]}"
    found = read_finished(cache / "stores" / name)
    return found if found is not None and found.digest == digest else None


def _features(run: TrainedRun, store: StoreFiles, ids: Sequence[str]) -> np.ndarray:
    row = {image: number for number, image in enumerate(store.hashes)}
    rows = [row[image] for image in ids]
    batches = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    return np.concatenate(
        [run.features(torch.from_numpy(store.pixels[batch])) for batch in batches]
    )


def unit(features: np.ndarray) -> np.ndarray:
    """Features (N, D) at length 1."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def nearness(train: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The cosine of each of ``features`` (N, D) with the 5th nearest of ``train`` (n, D), at length
    1; with the farthest where there are fewer."""
    place = min(NEIGHBOUR, len(train))
    return np.partition(unit(features) @ train.T, -place, axis=1)[:, -place]
