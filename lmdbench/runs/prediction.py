"""A finished run, loaded from its directory alone, what it says of other images, and how good that
is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes
from lmdbench.core.randomness import Streams
from lmdbench.core.words import count
from lmdbench.data.store.decoding import decode, reason, resized, to_rgb, whole_images
from lmdbench.data.store.hashing import Progress, default_workers, in_parallel
from lmdbench.data.store.looking import KnownLooks, look_at
from lmdbench.data.store.scale import USUAL, Scale, common_scale, number, parse_scale
from lmdbench.data.store.survey import Survey, values_of
from lmdbench.data.vectors import Vectors
from lmdbench.evaluation.inference import Estimate, independent, no_interval, unit_codes
from lmdbench.evaluation.metrics import Metric, Scorer, parse, summary
from lmdbench.evaluation.predictions import Predictions
from lmdbench.evaluation.recalibration import Calibration, Calibrator
from lmdbench.models.attribution import Kind, class_maps
from lmdbench.models.backbone import FEATURES
from lmdbench.models.backbones import features_width, get_backbone
from lmdbench.runs.code_digest import changed_part, code_digests
from lmdbench.runs.model import load_finished, logits_of, resolved_precision
from lmdbench.runs.plan import RunSpec, code_in_words
from lmdbench.runs.record import RunRecord
from lmdbench.runs.state import check_model
from lmdbench.runs.whole import saved_predictions, validation_predictions
from lmdbench.training.method import METHODS, Method
from lmdbench.training.task import Images, Task

OF_RUN = "as those of the run were"  # why a scale is what it is
WAY = "rescale them to the run's, or save them in 8 bits as they should look"


@dataclass(frozen=True)
class TrainedRun:
    """A method with its trained weights, in evaluation mode, and what its run recorded."""

    directory: Path
    record: RunRecord
    spec: RunSpec
    classes: tuple[str, ...]
    method: Method
    task: Task  # without images: it has the class counts alone

    @property
    def image_size(self) -> int:
        return self.spec.image_size

    @property
    def width(self) -> int | None:
        """Numbers an image, of a run on features; None: it was trained on images."""
        return features_width(self.spec.backbone)

    @property
    def scale(self) -> Scale:
        """Of the pictures of more than 8 bits that it was trained on."""
        text = self.record.intensity_scale
        return USUAL if text is None else parse_scale(text)

    @property
    def groups(self) -> dict[str, list[int]]:
        """Head, medium and tail as the run recorded them: name → class indices."""
        groups: Mapping[str, list[str]] = self.record.groups
        return {name: [self.classes.index(c) for c in members] for name, members in groups.items()}

    def logits(self, pixels: Tensor) -> np.ndarray:
        """Logits (B, C) float32 of images (B, 3, S, S) uint8 as the store decodes them, or of
        features (B, D) float32."""
        return logits_of(self.method, self.task, self._images(pixels), batch_size=len(pixels))

    def features(self, pixels: Tensor) -> np.ndarray:
        """The encoder's features (B, D) float32 of images (B, 3, S, S) uint8."""
        return self.method.features(self._images(pixels)).cpu().numpy()

    def maps(self, pixels: Tensor, classes: Tensor) -> tuple[np.ndarray, Kind]:
        """``class_maps`` (B, S, S) of images (B, 3, S, S) uint8 for classes (B,) int64. Raises
        UserError for a method without one encoder, or without a gradient."""
        (batch,) = self.task.in_order(self._images(pixels), len(pixels))
        try:
            encoder = self.method.model.encoder
        except AttributeError:
            raise UserError(
                f"--maps: {self.spec.method} has no one encoder, of which a map could be"
            ) from None
        found, kind = class_maps(
            self.method.predict, encoder, batch.images, classes.to(batch.images.device)
        )
        return found.cpu().numpy(), kind

    def _images(self, pixels: Tensor) -> Images:
        rows = torch.arange(len(pixels))
        return Images(pixels, rows, torch.zeros(len(pixels), dtype=torch.int64), self.task.device)


def load_run(directory: Path, device: torch.device, *, accept_changed: bool = False) -> TrainedRun:
    """The method of a finished run, from ``run.json`` and ``model.safetensors`` alone.

    Raises UserError where it is not finished, was imported without its model, is of a method that
    is not known here, or was made by other code (unless ``accept_changed``);
    Damaged where its weights are not those that it saved.
    """
    record = check_model(directory)
    spec = record.spec
    _refuse_other_code(directory, record, spec, accept_changed)
    classes = tuple(record.classes)
    task = _task_without_images(classes, record.class_counts["train"], spec, device)
    try:
        method = load_finished(directory, spec, task)
    except (TypeError, RuntimeError) as error:  # other settings, other shapes
        first_line = str(error).strip().split("\n")[0]
        raise UserError(
            f"{directory} does not fit the code of {spec.method} as it is now: {first_line}"
        ) from error
    return TrainedRun(directory, record, spec, classes, method, task)


def _refuse_other_code(
    directory: Path, record: RunRecord, spec: RunSpec, accept_changed: bool
) -> None:
    if spec.method not in METHODS.names():
        raise UserError(
            f"{directory}: its method {spec.method!r} is not known here; name the file that "
            "registers it by --plugin FILE.py, or install its package"
        )
    method = METHODS.get(spec.method)
    if spec.method_version != method.version:
        raise UserError(
            f"{directory} was made by version {spec.method_version} of {spec.method}; "
            f"here is version {method.version}"
        )
    now = code_digests(method, get_backbone(spec.backbone, spec.image_size))
    changed = changed_part(record.digests, now)
    if changed is not None and not accept_changed:
        raise UserError(
            f"{directory}: the code of {code_in_words(changed, spec)} has changed since this run; "
            "--accept-changed predicts nevertheless, by the code as it is now"
        )


def _task_without_images(
    classes: tuple[str, ...], counts: list[int], spec: RunSpec, device: torch.device
) -> Task:
    """What a method is built from: class counts, and no image to look at."""
    size = spec.image_size
    nothing = torch.zeros((1, 3, size, size), dtype=torch.uint8), torch.arange(0)
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))
    return Task(
        classes=classes,
        train=Images(*nothing, labels, device),
        validation=Images(*nothing, torch.arange(0), device),
        streams=Streams(spec.seed, device),
        device=device,
        precision=resolved_precision(spec, device),
    )


def check_kind(run: TrainedRun, vectors: Vectors | None) -> None:
    """Raise UserError where a run can't read what it is to predict: features where it was trained
    on images, images or other features where it was trained on features."""
    if run.width is None and vectors is not None:
        raise UserError(
            f"{run.directory} was trained on images, and these are features by {vectors.name}; "
            "give images"
        )
    if run.width is not None and (vectors is None or vectors.width != run.width):
        there = "images" if vectors is None else f"features of {vectors.width:,}"
        raise UserError(
            f"{run.directory} was trained on features of {run.width:,} numbers an image, and these "
            f"are {there}; give a feature file by {run.spec.backbone.partition('@')[0]}"
        )


def vectors_of(run: TrainedRun, images: Sequence[Any]) -> list[np.ndarray]:
    """What a run on features is given, one (D,) float32 an image. Raises UserError for what is no
    such vector, and for numbers that are not finite."""
    vectors = []
    for place, image in enumerate(images):
        vector = np.asarray(image)
        if vector.dtype.kind != "f" or vector.shape != (run.width,):
            raise UserError(
                f"image {place} is {vector.shape} {vector.dtype}, and the run was trained on "
                f"features: give {run.width:,} floats an image"
            )
        if not np.isfinite(vector).all():
            raise UserError(f"image {place}: its features are not finite; mend or leave it out")
        vectors.append(vector.astype(np.float32))
    return vectors


def other_encoder(run: TrainedRun, vectors: Vectors) -> str:
    """That features are said to be by another encoder than the run's; empty where they are not."""
    own = run.spec.backbone.removeprefix(FEATURES).partition("@")[0]
    if vectors.name == own:
        return ""
    return f"features by {vectors.name} are taken for such by {own}: only you can tell"


@dataclass(frozen=True)
class PredictedLogits:
    """``logits`` (N, C) float32 in the order of the images, NaN for those that can't be read;
    ``unreadable``: position → why. ``scores`` (N,) of the features, NaN likewise; None: not asked
    for."""

    logits: np.ndarray
    unreadable: Mapping[int, str]
    scores: np.ndarray | None = None


def predict(
    run: TrainedRun,
    images: Sequence[Path] | Sequence[np.ndarray],
    batch_size: int = 256,
    progress: Progress = lambda *_: None,
    score: Callable[[np.ndarray], np.ndarray] | None = None,
) -> PredictedLogits:
    """Predict image files, decoded as the run's own were, or images (H, W) or (H, W, 3) uint8, or
    vectors (D,) float32 where the run was trained on such, batch by batch. ``score``: features
    (B, D) → (B,), to be told beside."""
    logits = np.full((len(images), len(run.classes)), np.nan, dtype=np.float32)
    scores = None if score is None else np.full(len(images), np.nan)
    unreadable: dict[int, str] = {}

    def pixels_of(position: int) -> np.ndarray | None:
        try:
            image = images[position]
            if isinstance(image, Path):
                return decode(read_bytes(image), run.image_size, run.scale)
            if image.ndim == 1:
                return image
            return resized(to_rgb(Image.fromarray(image)), run.image_size)
        except Exception as error:  # Pillow's plug-ins raise errors of every kind
            unreadable[position] = reason(error)
            return None

    with whole_images():
        for start in range(0, len(images), batch_size):
            positions = range(start, min(start + batch_size, len(images)))
            decoded = in_parallel(pixels_of, positions, default_workers())
            found = {p: decoded[p] for p in positions if decoded[p] is not None}
            if found:
                pixels = torch.from_numpy(np.stack(list(found.values())))  # type: ignore[arg-type]
                logits[list(found)] = run.logits(pixels)
                if scores is not None and score is not None:
                    scores[list(found)] = score(run.features(pixels))
            progress(positions.stop, len(images))
    return PredictedLogits(logits, dict(sorted(unreadable.items())), scores)


def calibrator_of(run: TrainedRun, calibration: Calibration) -> Calibrator:
    """What corrects the run's logits, fitted on the validation images in its predictions.

    Raises UserError where it keeps none, where their logits are not finite, and for a prior of
    other classes; Damaged for predictions that are not those that it saved.
    """
    own = validation_of(run, "--calibrate and --prior")
    found = calibration.fit(own.labels, own.logits)
    if np.isnan(found.gap):
        raise UserError(
            f"{run.directory}: its validation logits are not finite, and --calibrate and --prior "
            "go by them; leave them out"
        )
    counts = {
        "validation": np.bincount(own.labels, minlength=len(run.classes)).tolist(),
        "test": run.record.class_counts["test"],
    }
    return calibration.calibrator(found, run.classes, counts)


def validation_of(run: TrainedRun, options: str) -> Predictions:
    """What a run, or the run that it is a refit of, said of its validation images.

    Raises UserError where there are none, which ``options`` go by; Damaged for predictions that are
    not those that it saved.
    """
    if run.spec.refit is None and not sum(run.record.class_counts.get("validation", ())):
        raise UserError(
            f"{run.directory} has no predictions of validation images, which {options} go by; "
            "leave them out"
        )
    return validation_predictions(run.directory, run.record)


def told_of_pictures(run: TrainedRun, ids: Sequence[str], files: Sequence[Path]) -> list[str]:
    """What is particular about images to predict, a line each: all is read by the run's scale."""
    survey, floats = _survey(run, ids, files)
    lines = [*survey.lines, *_other_scale(survey)]
    if floats:
        lines.append(
            f"{count(floats, 'picture')} of floats can't be read, as the run was trained on none: "
            "save them in 8 bits as they should look"
        )
    return lines


def other_scale(run: TrainedRun, files: Sequence[Path]) -> list[str]:
    """That images to predict are of another scale than the run's; empty where they are not."""
    survey, _ = _survey(run, [*map(str, files)], files)
    return _other_scale(survey)


def _survey(run: TrainedRun, ids: Sequence[str], files: Sequence[Path]) -> tuple[Survey, int]:
    """Of the images that the run's scale can read, and how many are of floats that it can't."""
    found = look_at(files, list(ids), KnownLooks(), default_workers())
    looks = dict(zip(ids, found, strict=True))
    if run.scale != USUAL:
        return Survey(looks, run.scale, OF_RUN), 0
    read = {image: one for image, one in looks.items() if not (one.values and one.values.floats)}
    return Survey(read, run.scale, OF_RUN), len(looks) - len(read)


def _other_scale(survey: Survey) -> list[str]:
    with suppress(UserError):
        own = common_scale(values_of(survey.looks))
        if survey.scale.clips or own.high == survey.scale.high or not values_of(survey.looks):
            return []
        if own.high < survey.scale.high:
            return [f"{own.words}, by their own values: read as the run's they are dark; {WAY}"]
        return [f"values beyond the run's {number(survey.scale.high, ',')} can't be read; {WAY}"]
    return []


def named_as_own(run: TrainedRun, ids: Sequence[str]) -> int:
    """How many images are named as validation or test images of the run are, without folders and
    endings. Names of digits alone don't count: any data set may have them."""
    try:
        parts = saved_predictions(run.directory, run.record)
    except UserError:
        return 0
    own = {_stem(str(image)) for part in parts.values() for image in part.ids}
    return sum(_stem(image) in own for image in ids if not _stem(image).isdigit())


def _stem(image: str) -> str:
    return PurePath(image).stem


@dataclass(frozen=True)
class Score:
    """A metric on the images that have a class. ``estimate``: None where the metric has no value;
    NaN for the ends of an interval that there is not. ``reason``: why, in both cases. ``own``: the
    same metric on the run's own test images of the same classes, None where undefined."""

    metric: Metric
    images: int
    estimate: Estimate | None
    reason: str
    own: float | None


def score(
    run: TrainedRun, labels: np.ndarray, logits: np.ndarray, units: np.ndarray | None
) -> list[Score]:
    """The metrics of ``lmdbench run`` and the recall of each class, with intervals that count the
    test images alone, as there is one seed, beside those of the run's own test images.

    ``labels`` (N,) int64, ``logits`` (N, C), ``units`` (N,) lesion or patient, empty where unknown.
    """
    return score_beside(run, labels, logits, units, own_test(run))


def score_beside(
    run: TrainedRun,
    labels: np.ndarray,
    logits: np.ndarray,
    units: np.ndarray | None,
    test: Predictions | None,
) -> list[Score]:
    """``score`` by the classes and groups of a run, beside these predictions of test images."""
    here, own = Scorer(labels, logits), _own_scorer(test, labels)
    names = [*summary(run.groups), *(f"recall:{name}" for name in run.classes)]
    if units is not None and not any(units):
        units = None
    return [_score(here, own, parse(name, run.classes, run.groups), units) for name in names]


def _score(here: Scorer, own: Scorer | None, metric: Metric, units: np.ndarray | None) -> Score:
    images = metric.images(here.counts)
    there = None if own is None or own.reason(metric) else own.value(metric)
    if why := here.reason(metric):
        return Score(metric, images, None, why, there)
    pieces = resamples = None
    if metric.resampled:
        pieces = resamples = here.resamples(metric, units)[None]
    elif metric.weights is None:
        pieces = here.influence(metric)[None]
    value = np.array([here.value(metric)])
    alone = independent(here.labels, None if units is None else unit_codes(units), here.classes)
    small = metric.too_small(alone, "images" if units is None else "lesions or patients")
    of_images = here.labels, here.counts, units
    estimate = metric.estimate(value, here.correct[None], pieces, *of_images, small)
    linear = metric.weights is not None
    reason = "" if linear else no_interval(small, estimate, resamples)
    return Score(metric, images, estimate, reason, there)


def own_test(run: TrainedRun) -> Predictions | None:
    """What a run said of its own test images; None where that is not there."""
    try:
        return saved_predictions(run.directory, run.record, ["test"])["test"]
    except UserError:
        return None


def _own_scorer(test: Predictions | None, labels: np.ndarray) -> Scorer | None:
    """Of the own test images of the classes in ``labels``, if they are there."""
    if test is None:
        return None
    same = np.isin(test.labels, labels)
    return Scorer(test.labels[same], test.logits[same])
