"""Where predictions of other code belong: the split they are of, and the table they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Part
from lmdbench.data.reading import read_records
from lmdbench.runs.record import spec_id
from lmdbench.sharing.check import check_run
from lmdbench.version import __version__

if TYPE_CHECKING:
    from lmdbench.runs.plan import ResolvedContext

# What of run.json follows from data set and split.
OF_A_SPLIT = (
    *("format", "results_name", "split_label", "classes", "class_counts", "groups", "group_rule"),
    *("split_notes", "partial", "synthetic"),
)
OF_A_METHOD = ("method", "method_version", "settings", "ancestor", "seed")  # in a specification


@dataclass(frozen=True)
class Setting:
    """All that a run of this split has in common with the others of its table.

    ``spec``: a specification without ``OF_A_METHOD``. ``facts``: ``OF_A_SPLIT`` of a record.
    ``parts``: the images, training images only where they are known. ``units``: image → lesion or
    patient. ``store``: digest of the images' content, None if not known.
    """

    spec: Mapping[str, Any]
    facts: Mapping[str, Any]
    parts: Mapping[str, Part]
    units: Mapping[str, str] = field(repr=False)
    store: str | None = None

    @property
    def classes(self) -> list[str]:
        return list(self.facts["classes"])

    @property
    def title(self) -> str:
        return f"{self.facts['results_name']} {self.facts['split_label']}"

    def units_of(self, part: str) -> np.ndarray | None:
        """(N,) str of a part's images, "" where unknown; None if none is known."""
        units = np.array([self.units.get(str(image), "") for image in self.parts[part].ids], str)
        return units if (units != "").any() else None

    def record(
        self, method: str, seed: int, settings: Mapping[str, Any], more: Mapping[str, Any]
    ) -> dict[str, Any]:
        """``run.json`` of predictions that are put under a method's name."""
        spec = {
            "method": method,
            "method_version": 1,
            "settings": dict(settings),
            "ancestor": None,
            "seed": seed,
            **self.spec,
        }
        return {
            "id": spec_id(spec),
            "spec": spec,
            **self.facts,
            "ancestor": None,
            "changed_settings": {},  # the name alone labels the row
            "digests": {"method": None, "store": self.store},
            "versions": {"lmdbench": __version__},
            **more,
        }


def setting_like(directory: Path, changes: Mapping[str, Any]) -> Setting:
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
    common = {key: value for key, value in run.record["spec"].items() if key not in OF_A_METHOD}
    return Setting(
        {**common, **changes},
        {key: run.record[key] for key in OF_A_SPLIT if key in run.record},
        parts,
        units,
        (run.record.get("digests") or {}).get("store"),
    )


def setting_of(context: ResolvedContext, changes: Mapping[str, Any]) -> Setting:
    """The setting of a context's runs, with parts of their specification changed."""
    from lmdbench.runs.plan import PlannedRun, RunSpec

    split, dataset = context.prepared.split, context.prepared.dataset
    common = {
        "selection": context.selection,
        "dataset": dataset.name,
        "results_name": dataset.results_name,
        "split": context.split_identity,
        "backbone": context.backbone.name,
        "weights": context.weights.identity,
        "image_size": context.image_size,
        "precision": context.precision,
        **changes,
    }
    # Of a run that is never carried out; its record says what follows from data set and split.
    spec = RunSpec(method="", method_version=1, settings={}, ancestor=None, seed=0, **common)
    record = PlannedRun(spec, context, context.folder).describe()
    groups = read_records(dataset)["group"]
    return Setting(
        common,
        {key: record[key] for key in OF_A_SPLIT},
        split.parts,
        {str(image): str(unit) for image, unit in groups.items()},
    )
