"""The predictions behind a row of a table, in arrays: seeds × images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lmdbench.comparison.results import Run
from lmdbench.comparison.scoring import predictions_of
from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.core.errors import UserError
from lmdbench.evaluation import metrics


@dataclass(frozen=True)
class Outcomes:
    """Of one row: ``ids`` (N,) sorted, ``labels`` (N,), ``logits`` (S, N, C) by ``seeds``, classes
    in the order of the table's; ``units`` (N,) the lesions or patients, where they are known."""

    seeds: tuple[int, ...]
    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    units: np.ndarray | None

    @property
    def correct(self) -> np.ndarray:
        """(S, N) float, NaN throughout a seed whose logits are not finite."""
        right = (self.logits.argmax(axis=2) == self.labels).astype(float)
        right[[metrics.unusable(one) > 0 for one in self.logits]] = np.nan
        return right

    def of_seeds(self, seeds: list[int]) -> Outcomes:
        places = [self.seeds.index(seed) for seed in seeds]
        return replace(self, seeds=tuple(seeds), logits=self.logits[places])


def outcomes(table: ResultTable, scored: MethodResult) -> Outcomes:
    """The predictions of a row's runs on the images of its table.

    Raises UserError where a run has other images, or images that leak were to be left out.
    """
    if table.dropped:
        raise UserError(
            f"{table.title}: this plot shows all images; leave --drop-leaked out, or plot groups "
            "or forest"
        )
    read = [_read(run, table) for run in scored.runs]
    ids, labels, _, units = read[0]
    for run, (other_ids, other_labels, _, _) in zip(scored.runs, read, strict=True):
        if not (np.array_equal(ids, other_ids) and np.array_equal(labels, other_labels)):
            raise UserError(
                f"{run.directory}: its {table.part} images are not those of the other seeds; "
                "do the run again with --force"
            )
    return Outcomes(
        tuple(scored.seeds), ids, labels, np.stack([logits for _, _, logits, _ in read]), units
    )


def paired(a: Outcomes, b: Outcomes) -> tuple[Outcomes, Outcomes] | None:
    """Both on their common seeds; None where they have none. Raises UserError for other images."""
    if not (np.array_equal(a.ids, b.ids) and np.array_equal(a.labels, b.labels)):
        raise UserError("two methods of one table were scored on other images; see `compare`")
    seeds = [seed for seed in a.seeds if seed in b.seeds]
    return (a.of_seeds(seeds), b.of_seeds(seeds)) if seeds else None


def _read(
    run: Run, table: ResultTable
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Ids, labels, logits and units of a run, by id; of all its folds."""
    found = predictions_of(run, table.part)
    order = np.argsort(found.ids, kind="stable")
    places = [run.classes.index(name) for name in table.record["classes"]]
    labels = np.argsort(places)[found.labels]
    units = None if found.units is None else found.units[order]
    return found.ids[order], labels[order], found.logits[order][:, places], units
