"""How stable the ranking within one table is: its methods ranked anew on bootstrap samples of their
seeds and of the test images (challengeR: Wiesenfarth et al. 2021)."""

from __future__ import annotations

import numpy as np

from lmdbench.comparison.outcomes import Outcomes, outcomes
from lmdbench.comparison.types import MethodResult, RankSpread, RankStability, ResultTable
from lmdbench.core.errors import UserError
from lmdbench.evaluation import inference, metrics, ranks
from lmdbench.evaluation.influence import centred
from lmdbench.evaluation.metrics import Metric, Scorer

ROUNDS = 1000  # bootstrap samples
SEED = 0  # of their generator


def rank_stability(table: ResultTable) -> RankStability:
    """Of a table's rows by its primary metric.

    Sampled are lesions or patients where they are known, within classes, the same for all rows;
    and the seeds of each row for itself. Rows that can't be ranked so are named in the notes.

    Raises UserError where fewer than two rows can.
    """
    run = table.rows[0].runs[0]
    metric = metrics.parse(table.primary, run.classes, run.groups)
    units = _units(table)
    generator = np.random.default_rng(SEED)
    draws: ranks.Draws | None = None
    samples: dict[str, np.ndarray] = {}
    for row in table.rows:
        if row.cells[metric.name].mean is None:
            continue
        found = outcomes(table, row)
        if draws is None:
            draws = ranks.Draws.of(found.labels, generator, ROUNDS, units)
        of_row = _samples(row, found, metric, draws, units)
        if not np.isnan(of_row).any():
            samples[row.label] = ranks.over_seeds(of_row, generator)
    if len(samples) < 2 or draws is None:
        raise UserError(
            f"{table.title}: {len(samples)} of its rows can be ranked by {metric.name}; "
            "a ranking is of two or more"
        )
    return _told(table, metric, samples, draws)


def _units(table: ResultTable) -> np.ndarray | None:
    """Codes (N,) of the images' lesions or patients, of the first row that knows them."""
    if not table.grouped:
        return None
    known = (outcomes(table, row).units for row in table.rows)
    units = next((one for one in known if one is not None), None)
    return None if units is None else inference.unit_codes(units)


def _samples(
    row: MethodResult,
    found: Outcomes,
    metric: Metric,
    draws: ranks.Draws,
    units: np.ndarray | None,
) -> np.ndarray:
    """The metric of each seed on the samples (S, B); NaN of a seed where it can't be told."""
    scorers = [Scorer(found.labels, logits) for logits in found.logits]
    if metric.resampled:
        return np.stack([scorer.resamples(metric, units) for scorer in scorers])
    values = np.array(row.cells[metric.name].values, float)
    return draws.values(values, np.stack([_influences(one, metric) for one in scorers]))


def _influences(scorer: Scorer, metric: Metric) -> np.ndarray:
    """(N,), centred within classes."""
    if metric.weights is None:
        return scorer.influence(metric)
    each = metric.weights(scorer.counts) / np.maximum(scorer.counts, 1)
    return centred(each[scorer.labels] * scorer.correct, scorer.labels)


def _told(
    table: ResultTable, metric: Metric, samples: dict[str, np.ndarray], draws: ranks.Draws
) -> RankStability:
    labels = list(samples)
    sign = -1 if metric.lower_is_better else 1
    means = {row.label: row.cells[metric.name].mean for row in table.rows}
    values = np.array([means[label] for label in labels], float)
    drawn = np.stack(list(samples.values()))
    found = ranks.stability(sign * values, sign * drawn)
    rows = [
        RankSpread(
            labels[k],
            float(found.ranks[k]),
            float(found.median[k]),
            float(found.low[k]),
            float(found.high[k]),
            tuple(float(share) for share in found.shares[k]),
        )
        for k in np.argsort(found.ranks, kind="stable")
    ]
    low, middle, high = np.quantile(found.tau, [0.025, 0.5, 0.975])
    return RankStability(
        metric.name,
        tuple(rows),
        float(middle),
        float(low),
        float(high),
        drawn.shape[1],
        tuple(_notes(table, labels, draws)),
    )


def _notes(table: ResultTable, labels: list[str], draws: ranks.Draws) -> list[str]:
    """What makes the ranking look more stable than it is, and who is not in it."""
    notes = []
    ranked = [row for row in table.rows if row.label in labels]
    single = [row.label for row in ranked if len(row.seeds) == 1]
    if single:
        whose = "" if len(single) == len(ranked) else f" of {', '.join(single)}"
        notes.append(f"One seed{whose}: only the test images vary; other seeds may rank otherwise.")
    always = int((draws.times == 1).all(axis=0).sum())
    if always:
        images = "image is" if always == 1 else "images are"
        notes.append(
            f"{always:,} test {images} in every sample, the only ones (or of the only lesion) of "
            "their class: the ranking looks more stable than it is."
        )
    if out := [row.label for row in table.rows if row.label not in labels]:
        notes.append(f"Without a value that can be resampled, so not ranked: {', '.join(out)}.")
    return notes
