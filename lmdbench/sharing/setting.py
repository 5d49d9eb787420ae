"""Where predictions of other code belong: the split they are of, and the table they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Part
from lmdbench.data.reading import read_records
from lmdbench.runs.record import RunRecord, RunSpec
from lmdbench.sharing.check import check_run
from lmdbench.version import __version__

if TYPE_CHECKING:
    from lmdbench.runs.plan import ResolvedContext

# What of a record follows from data set and split.
OF_A_SPLIT = (
    *("results_name", "split_label", "classes", "class_counts", "groups", "group_rule"),
    *("ordered_classes", "costs", "split_notes", "data_notes", "partial", "synthetic"),
)
# What a specification has of a method, where it has none yet
NO_METHOD: dict[str, Any] = {
    "method": "",
    "method_version": 1,
    "settings": {},
    "ancestor": None,
    "seed": 0,
}


@dataclass(frozen=True)
class SharedContext:
    """All that a run of this split has in common with the others of its table.

    ``record``: that of a run with ``NO_METHOD``. ``parts``: the images, training images only where
    they are known. ``units``: image → lesion or patient.
    """

    record: RunRecord
    parts: Mapping[str, Part]
    units: Mapping[str, str] = field(repr=False)

    @property
    def classes(self) -> list[str]:
        return self.record.classes

    @property
    def title(self) -> str:
        return f"{self.record.results_name} {self.record.split_label}"

    def units_of(self, part: str) -> np.ndarray | None:
        """(N,) str of a part's images, "" where unknown; None if none is known."""
        units = np.array([self.units.get(str(image), "") for image in self.parts[part].ids], str)
        return units if (units != "").any() else None

    def record_of(self, method: str, seed: int, settings: Mapping[str, Any]) -> RunRecord:
        """The record of predictions that are put under a method's name, which alone labels them."""
        spec = replace(self.record.spec, method=method, seed=seed, settings=dict(settings))
        return replace(self.record, id=spec.id, spec=spec, versions={"lmdbench": __version__})


def setting_like(directory: Path, changes: Mapping[str, Any]) -> SharedContext:
    """The setting of a finished run, with parts of its specification changed.

    Raises UserError for a directory that is no sound finished run.
    """
    if not (directory / "done").is_file():
        raise UserError(f"--like {directory}: no finished run; give the directory of one")
    run = check_run(directory)
    parts: dict[str, Part] = {}
    units: dict[str, str] = {}
    for part, predictions in run.parts.items():
        parts[part] = Part(predictions.ids, predictions.labels)
        if predictions.units is not None:
            units |= dict(zip(predictions.ids.tolist(), predictions.units.tolist(), strict=True))
    spec = replace(run.record.spec, **{**NO_METHOD, **changes})
    facts = {key: getattr(run.record, key) for key in OF_A_SPLIT}
    digests = {"method": None, "store": run.record.digests.get("store")}
    return SharedContext(RunRecord(id=spec.id, spec=spec, digests=digests, **facts), parts, units)


def setting_of(context: ResolvedContext, changes: Mapping[str, Any]) -> SharedContext:
    """The setting of a context's runs, with parts of their specification changed."""
    from lmdbench.runs.plan import PlannedRun

    split, dataset = context.prepared.split, context.prepared.dataset
    spec: dict[str, Any] = {
        **NO_METHOD,
        "selection": context.selection,
        "dataset": dataset.name,
        "results_name": dataset.results_name,
        "split": context.split_identity,
        "backbone": context.backbone.name,
        "weights": context.weights.identity,
        "image_size": context.image_size,
        "precision": context.precision,
        "tuning": context.tuning,
        **changes,
    }
    # Of a run that is never carried out; its record says what follows from data set and split.
    record = PlannedRun(RunSpec(**spec), context, context.folder).describe()
    units = read_records(dataset)["group"]
    return SharedContext(
        replace(record, digests={"method": None, "store": None}),
        split.parts,
        {str(image): str(unit) for image, unit in units.items()},
    )
