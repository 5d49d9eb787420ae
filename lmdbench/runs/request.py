"""What a user asks for, as plain data, and what it comes to.

A command reads it from its options, a sweep from its file; a worker elsewhere gets it as JSON and
plans the same runs from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.data.dataset import Dataset, Prepared, open_dataset
from lmdbench.data.folder.description import LARGEST, SMALLEST
from lmdbench.data.splits.availability import prepare_files
from lmdbench.data.splits.spec import SplitSpec, make_split
from lmdbench.data.vectors import Vectors, refuse_vectors
from lmdbench.models.backbone import FEATURES, MOST_VIEWS
from lmdbench.models.backbones import (
    Backbone,
    Weights,
    frozen,
    get_backbone,
    is_of_features,
    resolve_weights,
    suits_every_method,
    with_drawn_views,
)
from lmdbench.models.tuning import Tuning, parse_tuning
from lmdbench.runs.damaged import skip_damaged
from lmdbench.runs.plan import PlannedRun, Precision, ResolvedContext, Selection, plan
from lmdbench.runs.start_check import (
    check_backbone,
    check_optimizers,
    check_settings,
    check_start,
)
from lmdbench.training.method import is_built_in
from lmdbench.training.optimisation import TRIED


@dataclass(frozen=True)
class RunContext:
    """A data set, its split, and what all runs on it have in common; None: the data set's own."""

    dataset: str
    data_root: Path | None = None
    split: SplitSpec = field(default_factory=SplitSpec)
    allow_missing: bool = False
    backbone: str | None = None
    weights: str | None = None
    image_size: int | None = None
    selection: Selection = "last"
    precision: Precision = "mixed"
    skip_damaged: bool = False
    weights_partial: bool = False  # tensors that a file of weights lacks stay random
    tuning: str | None = None
    feature_views: int = 0  # of a frozen backbone: drawn views of each image that are encoded

    def __post_init__(self) -> None:
        for name, choices in (("selection", Selection), ("precision", Precision)):
            if getattr(self, name) not in get_args(choices):
                raise unknown(name, str(getattr(self, name)), list(get_args(choices)))
        views = self.feature_views
        if not (type(views) is int and 0 <= views <= MOST_VIEWS):
            raise UserError(
                f"feature_views: give a whole number from 0 to {MOST_VIEWS}, not {views!r}"
            )
        size = self.image_size
        if size is not None and not (type(size) is int and SMALLEST <= size <= LARGEST):
            raise UserError(
                f"image_size: give a whole number of pixels from {SMALLEST} to {LARGEST}, "
                f"not {size!r}"
            )
        if self.tuning is not None:
            parse_tuning(self.tuning)


@dataclass(frozen=True)
class RunRequest:
    """One run: a method with its settings as text (see ``run.plan``) in a context, with a seed."""

    context: RunContext
    method: str
    seed: int
    overrides: Mapping[str, str] = field(default_factory=dict)
    starts_from: str | None = None

    def plan(self, context: ResolvedContext) -> PlannedRun:
        """The run and what it starts from, in its own context, resolved.

        Raises UserError where it can't start from what it is to start from.
        """
        run = plan(context, self.method, self.seed, self.overrides, self.starts_from)
        if not suits_every_method(context.backbone):
            for link in run.chain:
                if link.state != "finished":
                    check_backbone(link)
        for link in run.chain:
            if link.state == "finished":
                continue
            if not is_built_in(link.method):
                check_optimizers(link)
            if link.spec.settings.keys() & TRIED or link.spec.tuning != str(Tuning()):
                check_settings(link)
        for link in run.chain[1:]:  # the first one starts from nothing
            chosen = link is run and self.starts_from is not None
            known_to_fit = is_built_in(link.method) or link.state == "finished"
            if chosen or not known_to_fit:
                check_start(link)
        return run

    def to_json(self) -> dict[str, Any]:
        content = asdict(self)
        root = self.context.data_root
        content["context"]["data_root"] = root and str(root)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunRequest:
        context = dict(content["context"])
        root = context["data_root"]
        context |= {"data_root": root and Path(root), "split": SplitSpec(**context["split"])}
        return cls(**{**content, "context": RunContext(**context)})


class Contexts:
    """Contexts, resolved; tables are read once for all that share a data set.

    ``files``: whether the images must be there and are looked for, as a run needs; a plan does not,
    unless missing ones are allowed, when it depends on them, or damaged ones left out, when they
    are prepared to find these, which ``progress`` is told of. Raises UserError for a name that
    there is not, a data set that lacks its files, and a split it cannot have.
    """

    def __init__(
        self,
        results: Path,
        cache: Path,
        *,
        files: bool,
        say: Callable[[str], None] = lambda _: None,
        progress: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        self.results = results
        self.cache = cache
        self.files = files
        self.say = say
        self.progress = progress
        self._datasets: dict[tuple[str, Path | None], Dataset] = {}
        self._made: dict[RunContext, ResolvedContext] = {}

    def of(self, context: RunContext) -> ResolvedContext:
        if context not in self._made:
            self._made[context] = self._make(context)
        return self._made[context]

    def dataset(self, context: RunContext) -> Dataset:
        key = context.dataset, context.data_root
        if key not in self._datasets:
            self._datasets[key] = open_dataset(context.dataset, context.data_root, self.cache)
        return self._datasets[key]

    def _make(self, context: RunContext) -> ResolvedContext:
        data = self.dataset(context)
        if data.vectors is not None:
            return self._of_vectors(context, data, data.vectors)
        # Names are checked before anything is read: a typing mistake should not cost a minute.
        try:
            asked = data.backbone if context.backbone is None else context.backbone
            size = context.image_size or data.image_size
            backbone = get_backbone(asked, size)
        except UserError as error:
            whose = f"data set {data.name!r}: " if context.backbone is None else ""
            raise UserError(f"{whose}{error}") from None
        backbone, tuning = tuned(backbone, context.tuning)
        if context.feature_views:
            backbone = with_drawn_views(backbone, context.feature_views)
        weights = resolve_weights(backbone, context.weights, data.weights, context.weights_partial)
        split = make_split(data, context.split)
        if self.files or context.allow_missing or context.skip_damaged:
            prepared = prepare_files(data, split, context.allow_missing, self.say)
        else:
            prepared = Prepared(data, split, {})
        if context.skip_damaged:
            prepared = skip_damaged(prepared, size, self.cache, self.progress, self.say)
        return ResolvedContext(
            prepared=prepared,
            backbone=backbone,
            weights=weights,
            image_size=size,
            precision=context.precision,
            selection=context.selection,
            results=self.results,
            tuning=tuning,
        )

    def _of_vectors(self, context: RunContext, data: Dataset, vectors: Vectors) -> ResolvedContext:
        """Of a data set of vectors: an encoder that is not here made them, so nothing is prepared
        and no weights are read."""
        backbone = backbone_of(context, vectors)
        return ResolvedContext(
            prepared=Prepared(data, make_split(data, context.split), {}),
            backbone=backbone,
            weights=Weights("none", f"sha256:{vectors.digest}"),
            image_size=0,
            precision=context.precision,
            selection=context.selection,
            results=self.results,
        )


def backbone_of(context: RunContext, vectors: Vectors) -> Backbone:
    """The encoder that a data set's vectors are by: as they say, or as ``--backbone
    features/NAME`` does. Raises UserError for another, and for what is asked about images or about
    an encoder that is here."""
    options = {
        "--weights": context.weights is not None,
        "--weights-partial": context.weights_partial,
        "--image-size": context.image_size is not None,
        f"--tuning {context.tuning}": context.tuning not in (None, "head"),
        "--feature-views": context.feature_views,
        "--skip-damaged": context.skip_damaged,
        "--allow-missing": context.allow_missing,
    }
    for option in (option for option, given in options.items() if given):
        refuse_vectors(vectors, option)
    width = f"@{vectors.width}"
    if context.backbone is None:
        return get_backbone(f"{FEATURES}{vectors.name}{width}")
    if not is_of_features(context.backbone):
        raise UserError(
            f"--backbone {context.backbone}: the data set has features, not images; leave it out, "
            f"or name the encoder they are by, as in {FEATURES}{vectors.name}"
        )
    name = context.backbone
    backbone = get_backbone(name if "@" in name else name + width)
    if not backbone.name.endswith(width):
        raise UserError(
            f"--backbone {name}: the features have {vectors.width} numbers an image; leave out "
            "what is behind the @"
        )
    return backbone


def tuned(backbone: Backbone, tuning: str | None) -> tuple[Backbone, str]:
    """A backbone as a tuning has it, and the tuning as it identifies a run: a head on a frozen
    encoder is the run of the backbone ``frozen/NAME``. Raises UserError where the two contradict.
    """
    chosen = Tuning() if tuning is None else parse_tuning(tuning)
    if chosen.kind == "head":
        return (backbone if backbone.frozen else frozen(backbone)), str(Tuning())
    if backbone.frozen and tuning is not None:
        raise UserError(
            f"--tuning {tuning}: the encoder of --backbone {backbone.name} isn't trained; leave "
            "out frozen/, or --tuning"
        )
    return backbone, str(chosen)
