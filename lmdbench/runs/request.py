"""What a user asks for, as plain data, and the experiment it comes to.

A command reads it from its options, a sweep from its file; a worker elsewhere gets it as JSON and
plans the same runs from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Dataset, Prepared, open_dataset
from lmdbench.data.splits.availability import prepare_files
from lmdbench.data.splits.spec import SplitChoice, make_split
from lmdbench.models.backbones import get_backbone, resolve_weights
from lmdbench.runs.plan import Experiment, PlannedRun, Precision, Selection, plan
from lmdbench.runs.start_check import check_start
from lmdbench.training.method import is_built_in


@dataclass(frozen=True)
class Setup:
    """A data set, its split, and what all runs on it have in common; None: the data set's own."""

    dataset: str
    data_root: Path | None = None
    split: SplitChoice = field(default_factory=SplitChoice)
    allow_missing: bool = False
    backbone: str | None = None
    weights: str | None = None
    image_size: int | None = None
    selection: Selection = "last"
    precision: Precision = "mixed"


@dataclass(frozen=True)
class Request:
    """One run: a method with its settings as text (see ``run.plan``) in a set-up, with a seed."""

    setup: Setup
    method: str
    seed: int
    overrides: Mapping[str, str] = field(default_factory=dict)
    starts_from: str | None = None

    def plan(self, experiment: Experiment) -> PlannedRun:
        """The run and what it starts from, in the experiment of its set-up.

        Raises UserError where it can't start from what it is to start from.
        """
        run = plan(experiment, self.method, self.seed, self.overrides, self.starts_from)
        for link in run.chain[1:]:  # the first one starts from nothing
            chosen = link is run and self.starts_from is not None
            known_to_fit = is_built_in(link.method) or link.state == "finished"
            if chosen or not known_to_fit:
                check_start(link)
        return run

    def to_json(self) -> dict[str, Any]:
        content = asdict(self)
        root = self.setup.data_root
        content["setup"]["data_root"] = root and str(root)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Request:
        setup = dict(content["setup"])
        root = setup["data_root"]
        setup |= {"data_root": root and Path(root), "split": SplitChoice(**setup["split"])}
        return cls(**{**content, "setup": Setup(**setup)})


class Experiments:
    """The experiments of set-ups; tables are read once for all that share a data set.

    ``files``: whether the images must be there and are looked for, as a run needs; a plan does not,
    unless missing ones are allowed, when it depends on them. Raises UserError for a name that there
    is not, a data set that lacks its files, and a split it cannot have.
    """

    def __init__(
        self,
        results: Path,
        cache: Path,
        *,
        files: bool,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.results = results
        self.cache = cache
        self.files = files
        self.say = say
        self._datasets: dict[tuple[str, Path | None], Dataset] = {}
        self._made: dict[Setup, Experiment] = {}

    def of(self, setup: Setup) -> Experiment:
        if setup not in self._made:
            self._made[setup] = self._make(setup)
        return self._made[setup]

    def dataset(self, setup: Setup) -> Dataset:
        key = setup.dataset, setup.data_root
        if key not in self._datasets:
            self._datasets[key] = open_dataset(setup.dataset, setup.data_root, self.cache)
        return self._datasets[key]

    def _make(self, setup: Setup) -> Experiment:
        data = self.dataset(setup)
        # Names are checked before anything is read: a typing mistake should not cost a minute.
        try:
            backbone = get_backbone(setup.backbone or data.backbone)
        except UserError as error:
            whose = "" if setup.backbone else f"data set {data.name!r}: "
            raise UserError(f"{whose}{error}") from None
        weights = resolve_weights(backbone, setup.weights, data.weights)
        split = make_split(data, setup.split)
        if self.files or setup.allow_missing:
            prepared = prepare_files(data, split, setup.allow_missing, self.say)
        else:
            prepared = Prepared(data, split, {})
        return Experiment(
            prepared=prepared,
            backbone=backbone,
            weights=weights,
            image_size=setup.image_size or data.image_size,
            precision=setup.precision,
            selection=setup.selection,
            results=self.results,
        )
