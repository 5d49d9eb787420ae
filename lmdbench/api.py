"""What the commands do, to be called from Python. See docs/python.md."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache, default_results, expanded
from lmdbench.core.registry import unknown

if TYPE_CHECKING:
    import pandas as pd

    from lmdbench.comparison.compare import Comparison
    from lmdbench.comparison.results import Run, RunGroup
    from lmdbench.comparison.study import StudyImages
    from lmdbench.data.dataset import Dataset
    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.evaluation.planning import StudyPlan
    from lmdbench.evaluation.simulation import TableLaw
    from lmdbench.runs.options import RunOptions
    from lmdbench.training.method import Method

SMALL = 64  # pixels of a side up to which arrays are trained at their own size
ARRAYS = "arrays"  # in the cache: where the images of arrays lie


@dataclass(frozen=True, repr=False)
class Runs(Sequence["Run"]):
    """Finished runs, each with its ``directory``, ``record``, ``method``, ``seed`` …"""

    results: Path
    runs: tuple[Run, ...]

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        return (
            replace(self, runs=self.runs[index]) if isinstance(index, slice) else self.runs[index]
        )

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __repr__(self) -> str:
        named = [f"{run.method} seed {run.seed}" for run in self.runs]
        return f"Runs([{', '.join(named[:8])}{', …' if len(named) > 8 else ''}])"

    def frame(self, *, part: str = "test", metrics: Iterable[str] = ()) -> pd.DataFrame:
        """A row a run: data set, split, method, seed, id, directory, its metrics on the images of
        a part (fractions; NaN where one has no value), and the settings that were changed.

        ``metrics``: as ``lmdbench compare --metric`` takes them; by default the usual ones and the
        recall of each group. Raises UserError for a metric that there is not."""
        from lmdbench.comparison.frames import run_scores

        return run_scores(self.runs, part, _names("metrics", metrics))

    def images(self, *, part: str = "test") -> pd.DataFrame:
        """A row an image of a part and run: image, unit (lesion or patient), truth, predicted, and
        ``p:CLASS``, the probability of each class."""
        from lmdbench.comparison.frames import run_images

        return run_images(self.runs, part)


def run(
    method: str | type[Method],
    dataset: str | type[Dataset],
    *,
    seeds: int | Iterable[int] = 0,
    settings: Mapping[str, Any] | None = None,
    starts_from: str | Path | None = None,
    split: str | SplitSpec | None = None,
    imbalance_factor: float | None = None,
    groups: str | None = None,
    data_root: str | Path | None = None,
    allow_missing: bool = False,
    skip_damaged: bool = False,
    backbone: str | None = None,
    weights: str | Path | None = None,
    weights_partial: bool = False,
    tuning: str | None = None,
    feature_views: int = 0,
    image_size: int | None = None,
    selection: str = "last",
    precision: str = "mixed",
    device: str = "auto",
    results: str | Path | None = None,
    options: RunOptions | None = None,
    quiet: bool = False,
) -> Runs:
    """Train a method on a data set, with everything it starts from, as ``lmdbench run`` does.

    Runs that exist are not trained again; one that was interrupted goes on where it stopped. The
    parameters are the command's options. ``settings``: of the method, ``{"epochs": 20}``, or of
    what it starts from, ``{"rrl.epochs": 3}``. ``split``: a name or a CSV, or a ``SplitSpec``
    for one with its seed or fold. ``results``: by default $LMDBENCH_RESULTS, else ``results``.
    ``options``: what does not change results, such as ``RunOptions(force=True)``, a logger, or
    ``validate_every`` or ``checkpoint_every``.

    Returns the runs, one a seed, in the order of the seeds. Raises UserError for what can't be
    asked for, RunFailed where a run breaks (those before it are kept).
    """
    from lmdbench.comparison.results import Run
    from lmdbench.core.environment import choose_device
    from lmdbench.core.progress import watcher
    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.runs.options import RunOptions
    from lmdbench.runs.record import read_record
    from lmdbench.runs.request import Contexts, RunContext
    from lmdbench.runs.session import announce_all, check_weights, plan_runs, train_runs

    choice = split if isinstance(split, SplitSpec) else SplitSpec(split and str(split))
    if imbalance_factor is not None:
        _number("imbalance_factor", imbalance_factor)
        choice = replace(choice, imbalance_factor=imbalance_factor)
    context = RunContext(
        dataset=_name("dataset", dataset),
        data_root=None if data_root is None else _folder("data_root", data_root),
        split=replace(choice, groups=choice.groups if groups is None else groups),
        allow_missing=allow_missing,
        skip_damaged=skip_damaged,
        backbone=backbone,
        weights=None if weights is None else str(weights),
        weights_partial=weights_partial,
        feature_views=feature_views,
        image_size=image_size,
        selection=selection,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        tuning=tuning,
    )
    folder = _results(results)
    progress, cache, options = watcher(quiet), default_cache(), options or RunOptions()
    (planned,) = plan_runs(
        [context],
        _name("method", method),
        _seeds(seeds),
        _texts(settings or {}),
        None if starts_from is None else str(starts_from),
        Contexts(folder, cache, files=True, say=progress.say, progress=progress.prepare),
        options,
    )
    check_weights(planned, progress.say)
    announce_all([planned], progress)
    for error in train_runs(planned, choose_device(device), cache, progress, options).values():
        raise error
    found = tuple(Run(one.directory, read_record(one.directory)) for one in planned)
    return Runs(folder, found)


def fit(
    method: str | type[Method],
    images: Any,
    labels: Any,
    *,
    validation: tuple[Any, ...] | None = None,
    test: tuple[Any, ...] | None = None,
    lesions: Any = None,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    backbone: str | None = "small",
    weights: str | Path | None = "none",
    image_size: int | None = None,
    **more: Any,
) -> Runs:
    """Train a method on arrays: ``run`` on a data set ``folder-NAME`` made of them.

    ``images``: (N, H, W), (N, H, W, 3) or (N, 3, H, W) uint8, or a sequence of such images of any
    size. ``labels`` (N,): class indices, or names. ``lesions`` (N,): the lesion or patient of each,
    so that none is divided. ``validation`` and ``test``: (images, labels), and lesions if you like.
    With neither, the images are divided 70/10/20 class by class; with ``test`` alone, an eighth of
    the training images becomes validation. ``classes``: in the order of the indices. ``backbone``
    and ``weights``: by default what needs no download. ``image_size``: by default the images' own
    side (16 at least) where they are squares of 64 pixels at most, else 224. ``more``: as ``run``
    takes it.

    The images are written losslessly below the cache, once. Raises UserError for what are no images
    or labels, and as ``run``.
    """
    from lmdbench.data.folder.arrays import side_of, write_arrays
    from lmdbench.data.folder.description import SMALLEST

    first = (images, labels) if lesions is None else (images, labels, lesions)
    parts = {"train": first, "validation": validation, "test": test}
    given = {part: content for part, content in parts.items() if content is not None}
    if list(given) == ["train", "validation"]:
        raise UserError("validation is given without test; give test images, too, or neither")
    root = write_arrays(given, default_cache() / ARRAYS, name, classes)
    side = side_of(images)
    if image_size is None and side is not None and side <= SMALL:
        image_size = max(side, SMALLEST)
    for word in more:
        known = inspect.signature(run).parameters
        if word not in known or word in ("dataset", "data_root"):
            raise unknown("parameter of fit", word, [*inspect.signature(fit).parameters, *known])
    more["data_root"] = root
    return run(method, "folder", backbone=backbone, weights=weights, image_size=image_size, **more)


def load_runs(
    results: str | Path | None = None,
    *,
    datasets: Iterable[str] = (),
    methods: Iterable[str] = (),
    splits: Iterable[str] = (),
) -> Runs:
    """The finished runs under a results folder, by default $LMDBENCH_RESULTS, else ``results``.

    ``datasets``, ``methods``, ``splits``: only those of these names. Needs no torch. Raises
    UserError where there are none, with near matches for a name that no result has.
    """
    from lmdbench.comparison.compare import nothing, select_runs
    from lmdbench.comparison.results import read_results

    found = read_results(_results(results))
    if not found.runs:
        raise UserError(nothing(found))
    chosen = select_runs(
        found, _names("datasets", datasets), _names("methods", methods), _names("splits", splits)
    )
    return Runs(found.folder, tuple(chosen))


def compare(
    results: str | Path | Iterable[Run] | None = None,
    *,
    datasets: Iterable[str] = (),
    methods: Iterable[str] = (),
    splits: Iterable[str] = (),
    metrics: Iterable[str] = (),
    part: str = "test",
    reference: str = "lmd",
    groups: str | None = None,
    sweeps: Iterable[str | Path] = (),
    pool_folds: bool = True,
    drop_leaked: bool = False,
    data_root: str | Path | None = None,
    per_class: str | bool = "",
    pairwise: bool = False,
    stability: bool = False,
    permutation: bool = False,
    published: bool = False,
    margin: float = 1.0,
    unit: str = "",
    by: Iterable[str] = (),
    bands: Iterable[float] = (),
    simultaneous: bool = False,
    calibrate: str | None = None,
    prior: str | Sequence[float] | Mapping[str, float] | None = None,
    say: Callable[[str], None] | None = None,
    check: Callable[[Sequence[RunGroup]], None] | None = None,
) -> Comparison:
    """Score finished runs, sort them into tables, and test each method against ``reference``.

    ``results``: the folder, or runs of one. ``metrics``: the first is tested; by default the usual
    ones and the recall of each group. ``stability``: ``--ranks``, how stable each table's ranking
    is. ``unit``: "lesion" or "patient", scored beside the images. ``by``: columns of the data set's
    table, such as "sex", for scores of subgroups; ``bands``: where bands of a column of numbers
    begin, such as (40, 60). ``calibrate``: "temperature". ``prior``: "test", "uniform", shares in
    the order of the classes, or class → share. The other parameters are the options of
    ``lmdbench compare``. ``say``: told of runs and tables that are left out; by default a warning.
    ``check``: given what would be scored, before it is; may raise UserError.

    Returns a ``Comparison``: its ``.frame()`` has a row a cell, ``.images()`` a row an image, and
    ``.tables`` everything. Needs no torch. Raises UserError where nothing is left to compare, with
    near matches for a name that there is not.
    """
    from lmdbench.comparison import compare as comparing
    from lmdbench.comparison.columns import Tables
    from lmdbench.comparison.divided import Further
    from lmdbench.comparison.leaks import leaks_of
    from lmdbench.comparison.results import read_results
    from lmdbench.evaluation.recalibration import parse_calibration

    _number("margin", margin)
    calibration = parse_calibration(calibrate, prior)
    tell = say or _warn
    runs: tuple[Run, ...] | None = None
    if results is None or isinstance(results, str | Path):
        folder = _results(results)
    else:
        runs = _runs(results)
        folder = runs[0].directory.parents[3]
    root = None if data_root is None else _folder("data_root", data_root)
    further = Further(
        Tables(root, default_cache()), unit, tuple(dict.fromkeys(_names("by", by))), _borders(bands)
    )
    found = read_results(folder)
    for problem in found.unreadable:
        tell(f"left out: {problem}")
    if runs is not None:
        found = replace(found, runs=runs)
    comparison = comparing.compare(
        found,
        datasets=_names("datasets", datasets),
        methods=_names("methods", methods),
        splits=_names("splits", splits),
        names=_names("metrics", metrics),
        part=part,
        pooled=pool_folds,
        leaked=leaks_of(folder, root, default_cache()) if drop_leaked else None,
        groups=groups,
        sweep=asked_by(sweeps, folder, root),
        reference=_name("reference", reference),
        per_class=per_class,
        pairwise=pairwise,
        stability=stability,
        published=published,
        permutation=permutation,
        margin=margin,
        further=further if unit or further.by or further.bands else None,
        simultaneous=simultaneous,
        calibration=calibration,
        check=check,
    )
    for problem in comparison.not_dropped:
        tell(f"not without leaked images: {problem}")
    for problem in comparison.not_divided:
        tell(f"not for every table: {problem}")
    return comparison


def predict(
    run: str | Path | Run,
    images: Any,
    *,
    logits: bool = False,
    calibrate: str | None = None,
    prior: str | Sequence[float] | Mapping[str, float] | None = None,
    device: str = "auto",
    batch_size: int = 256,
    results: str | Path | None = None,
    accept_changed: bool = False,
) -> pd.DataFrame:
    """What a finished run says of other images: a row an image, in their order.

    ``run``: one of ``Runs``, a run directory, or 8 digits or more of an id. ``images``: paths of
    image files, or an array or a sequence of images as ``fit`` takes them. Columns: ``predicted``
    (a class), ``probability``, and one a class with its probability, or its logit where ``logits``;
    the index is the path, or the number of the image. ``calibrate`` and ``prior`` as ``compare``
    takes them; the prior "test" is of the run's own test images. Warns of files of another depth
    than the run's, as their predictions are then of pictures too dark.

    Raises UserError for a run that has no model or was made by other code (unless
    ``accept_changed``), and for what can't be read as an image.
    """
    import numpy as np
    import pandas as pd

    from lmdbench.core.environment import choose_device
    from lmdbench.data.folder.arrays import image_array
    from lmdbench.evaluation.metrics import softmax
    from lmdbench.evaluation.recalibration import parse_calibration
    from lmdbench.runs import prediction
    from lmdbench.runs.state import find_run

    calibration = parse_calibration(calibrate, prior)
    directory = getattr(run, "directory", None) or find_run(str(run), _results(results))
    if images is None:
        raise UserError("images: none is given; give paths, an array, or a sequence of images")
    images = [images] if isinstance(images, str | Path) else list(images)
    trained = prediction.load_run(directory, choose_device(device), accept_changed=accept_changed)
    inputs: Any
    index: list[Any]
    if trained.width is not None:
        inputs, index = prediction.vectors_of(trained, images), list(range(len(images)))
    elif all(isinstance(image, str | Path) for image in images):
        inputs, index = [expanded(image) for image in images], [*map(str, images)]
    else:
        inputs = [image_array(image, f"image {number}") for number, image in enumerate(images)]
        index = list(range(len(inputs)))
    calibrator = None
    if calibration is not None:
        calibrator = prediction.calibrator_of(trained, calibration)
    if inputs and isinstance(inputs[0], Path):
        for line in prediction.other_scale(trained, inputs):
            _warn(line)
    predicted = prediction.predict(trained, inputs, batch_size)
    for number, why in predicted.unreadable.items():
        raise UserError(f"image {index[number]} can't be read: {why}")
    values = predicted.logits if calibrator is None else calibrator(predicted.logits)
    probabilities = softmax(values)
    best = values.argmax(axis=1)
    shown = (values if logits else probabilities).astype(np.float32)
    columns: dict[str, Any] = {
        "predicted": [trained.classes[k] for k in best],
        "probability": probabilities[np.arange(len(best)), best],
    }
    for k, name in enumerate(trained.classes):
        columns[name if name not in columns else f"class {name}"] = shown[:, k]
    return pd.DataFrame(columns, index=pd.Index(index, name="image"))


def plan_power(
    images: Sequence[int] | Mapping[str, int] | None = None,
    *,
    dataset: str | None = None,
    split: str | SplitSpec | Sequence[SplitSpec] | None = None,
    data_root: str | Path | None = None,
    results: str | Path | None = None,
    methods: int | Iterable[int] | None = None,
    seeds: int | Iterable[int] = (),
    difference: float | None = None,
    power: float | None = None,
    seed_sd: float | None = None,
    recalls: float | Sequence[float] | None = None,
    persistence: float | None = None,
    shared: float | None = None,
    tables: int = 400,
    told: Callable[[int, int], None] | None = None,
) -> StudyPlan:
    """What a table of so many ``methods``, ``seeds`` and test images would find, before anything is
    trained.

    The test images of each class are ``images``, or those of the ``split`` of a ``dataset``, by its
    tables, or of the table below ``results``, which tells all else, too. With ``seeds`` and
    ``difference`` (points of balanced accuracy): in which share of tables it is found after Holm's
    correction. With ``seeds`` alone: the smallest difference that a share ``power`` (80 %) of
    tables finds. With ``difference`` alone: how many seeds find it, or how many images would.

    ``seed_sd``: points that balanced accuracy varies by from seed to seed, SD (1). ``recalls``: of
    all classes or of each; falling from .93 to .3 if not said. ``persistence``: share of the images
    that are right or wrong in every seed alike (.5); ``shared``: share of those that are so for all
    methods (.5). ``told``: how many of how many tables are simulated.

    Raises UserError for what can't be planned. Needs no torch.
    """
    from lmdbench.evaluation.planning import StudyPlan, falling, plan_tables
    from lmdbench.evaluation.simulation import TableLaw

    shares = {"seed_sd": seed_sd, "persistence": persistence, "shared": shared}
    for what, value in {"difference": difference, "power": power, **shares}.items():
        if value is not None:
            _number(what, value)
    if results is not None:
        there, law = _law_of_results(_folder("results", results), dataset, split)
    else:
        there = _planned_images(images, dataset, split, data_root)
        law = TableLaw(there.counts, falling(there.sizes), 2, 2, 0.01)
    if seed_sd is not None:
        law = replace(law, noise=seed_sd / 100)
    if recalls is not None:
        given = [recalls] * len(there.counts) if isinstance(recalls, int | float) else recalls
        law = replace(law, recalls=tuple(given))
    if persistence is not None:
        law = replace(law, persistence=persistence)
    if shared is not None:
        law = replace(law, own=1 - shared)
    rows = law.methods if methods is None and results is not None else methods
    if rows is None:
        raise UserError("--methods: say how many the table will have, the reference among them")
    planned = plan_tables(
        law,
        _whole_numbers("methods", rows),
        _whole_numbers("seeds", seeds),
        None if difference is None else difference / 100,
        power,
        tables,
        told=told,
    )
    return StudyPlan(there.classes, there.images, law, tuple(planned))


def _planned_images(
    images: Sequence[int] | Mapping[str, int] | None,
    dataset: str | None,
    split: str | SplitSpec | Sequence[SplitSpec] | None,
    data_root: str | Path | None,
) -> StudyImages:
    from lmdbench.comparison.study import StudyImages, images_of_split
    from lmdbench.data.dataset import open_dataset
    from lmdbench.data.splits.spec import SplitSpec

    if (images is None) == (dataset is None):
        raise UserError("give the test images of each class with --images, or a --dataset")
    if dataset is not None:
        root = None if data_root is None else _folder("data_root", data_root)
        choices = SplitSpec(split) if split is None or isinstance(split, str) else split
        listed = [choices] if isinstance(choices, SplitSpec) else list(choices)
        return images_of_split(open_dataset(dataset, root, default_cache()), listed)
    given = images if isinstance(images, Mapping) else dict(enumerate(images or (), 1))
    counts = tuple(_whole_numbers("images", given.values()))
    return StudyImages(tuple(map(str, given)), counts, counts, counts)


def _law_of_results(folder: Path, dataset: str | None, split: Any) -> tuple[StudyImages, TableLaw]:
    """Of the one table that there is, or that data set and split leave."""
    from lmdbench.comparison.study import law_of_table
    from lmdbench.core.words import listed

    found = compare(
        folder,
        datasets=_names("dataset", dataset),
        splits=_names("split", split),
        metrics=["balanced_accuracy"],
    )
    if len(found.tables) > 1:
        raise UserError(
            f"{folder} has {len(found.tables)} tables: {listed([t.title for t in found.tables])}; "
            "say which is meant with --dataset and --split"
        )
    return law_of_table(found.tables[0])


def _whole_numbers(what: str, values: Any) -> list[int]:
    found = [*values] if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    for value in found:
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"{what}: give whole numbers, not {value!r}")
    return found


def _name(what: str, thing: Any) -> str:
    """Of a registered class, or itself."""
    name = thing if isinstance(thing, str) else getattr(thing, "name", None)
    if not isinstance(name, str):
        raise UserError(f"{what}: give a name or a registered class, not {thing!r}")
    return name


def _names(what: str, value: Iterable[str] | str | None) -> list[str]:
    """One name, or several."""
    if value is None or isinstance(value, str):
        return [] if value is None else [value]
    try:
        names: list[Any] = list(value)
    except TypeError:
        names = [value]
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"{what}: give names, not {name!r}")
    return names


def _runs(runs: Iterable[Any]) -> tuple[Run, ...]:
    """Runs of one results folder."""
    from lmdbench.comparison.results import Run

    given = (runs,) if isinstance(runs, Run) else tuple(runs) if isinstance(runs, Iterable) else ()
    if not given or not all(isinstance(run, Run) for run in given):
        raise UserError(f"results: give a folder, or runs as load_runs returns them, not {runs!r}")
    if len({run.directory.parents[3] for run in given}) > 1:
        raise UserError("results: these runs lie in several folders; compare those of one")
    return given


def _seeds(seeds: Any) -> list[int]:
    """Whole numbers from 0 on, each once, in their order."""
    import numpy as np

    values = [seeds] if isinstance(seeds, str) or not isinstance(seeds, Iterable) else list(seeds)
    for seed in values:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise UserError(f"seeds: give whole numbers from 0 on, as 0 or range(5), not {seed!r}")
    if not values:
        raise UserError("seeds: none is given; give one, as 0, or several, as range(5)")
    return list(dict.fromkeys(map(int, values)))


def _texts(settings: Any) -> dict[str, str]:
    """Settings as the command takes them."""
    if not isinstance(settings, Mapping):
        raise UserError(f'settings: give a dict, as {{"epochs": 20}}, not {settings!r}')
    return {str(key): str(value) for key, value in settings.items()}


def _number(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{what}: give a number, not {value!r}")


def _borders(bands: Any) -> tuple[float, ...]:
    """Numbers at which bands begin."""
    borders = tuple(bands) if isinstance(bands, Iterable) else (bands,)
    for border in borders:
        _number("bands", border)
    return borders


def _folder(what: str, value: Any) -> Path:
    if not isinstance(value, str | Path):
        raise UserError(f"{what}: give a path, not {value!r}")
    if not str(value):
        raise UserError(f"{what} is empty; give a folder, or leave it out")
    return expanded(value)


def _results(results: str | Path | None) -> Path:
    return default_results() if results is None else _folder("results", results)


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, stacklevel=3)


def asked_by(
    sweeps: Iterable[str | Path] | str | Path, folder: Path, root: Path | None
) -> dict[str, str] | None:
    """The directories, below the results, of what sweeps ask for, not of what is only started from,
    with the names that these have there; None without sweeps. A sweep that was imported needs no
    data set's tables."""
    sources = [sweeps] if isinstance(sweeps, str | Path) else list(sweeps)
    if not sources:
        return None
    from lmdbench.sharing.sweeps import read_shared, shared_folder
    from lmdbench.sweep.plan import load_plan

    found: dict[str, str] = {}
    for source in map(str, sources):
        if (shared := shared_folder(source)) is not None:
            found |= read_shared(shared).labels
        else:
            nodes = load_plan(source, folder, root).nodes
            found |= {key: node.label for key, node in nodes.items() if node.asked}
    return found
