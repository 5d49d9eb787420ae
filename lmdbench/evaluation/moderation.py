"""How far a metric varies from seed to seed, told by all rows of a table together.

Three seeds say little of a row's variance, so a test by them alone asks for differences that no
method makes. The rows of a table were trained alike: each row's variance is drawn towards what all
of them say, as by further degrees of freedom (moderated variances: Smyth 2004, Stat. Appl. Genet.
Mol. Biol. 3:3). Two things keep a row that varies more than the others from being taken for one of
them: few degrees of freedom are borrowed, and they are borrowed from a variance as much larger as
the row's recalls of single classes vary more, of which there are several to tell it by. The
reference takes part in every comparison, so all of them are wrong where it is taken for one of the
others and is not: it borrows the less the more of a comparison's variance seeds decide.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BORROWED_DF = 8.0  # the most that the other rows lend one
LEAST_BORROWED = 2.0  # by a reference, where there is as much to lend
WIDE = 1.5  # a row whose classes vary so many times more than the middle row's is one of its own
LARGEST_COMMON = 0.95  # share of a variance that seeds may have in common


@dataclass(frozen=True)
class RowSeeds:
    """A metric of one row. ``values`` (S,) by ``seeds``; ``spread``: Σ weights² · variance over
    seeds of each class's recall, NaN for one seed."""

    seeds: tuple[int, ...]
    values: np.ndarray
    spread: float


@dataclass(frozen=True)
class SeedVariance:
    """Variance of one run around the mean of all possible seeds, and its degrees of freedom: 0
    where it is not known, as of one seed."""

    variance: float
    df: float


def moderated(
    rows: Sequence[RowSeeds], reference: int | None = None, of_images: float = 0.0
) -> list[SeedVariance]:
    """The variance of each row of a table, in its order.

    What a seed does to all rows alike is taken out, as it takes no part in differences; to the
    ``reference`` too, the place of the row that the others are compared with. ``of_images``: what
    the test images leave open of the variance of a difference from it. Of two rows none can tell
    what is usual: each keeps its own variance.
    """
    several = [k for k, row in enumerate(rows) if len(row.seeds) > 1]
    found = [SeedVariance(math.nan, 0.0)] * len(rows)
    several = [k for k in several if not np.isnan(rows[k].values).any()]
    if not several:
        return found
    own_df = np.array([len(rows[k].seeds) - 1.0 for k in several])
    own = np.array([rows[k].values.var(ddof=1) for k in several])
    at = several.index(reference) if reference in several else None
    own *= 1 - common_share([rows[k] for k in several], at)
    usual = float(own_df @ own / own_df.sum())
    spread = np.array([rows[k].spread for k in several])
    middle = float(np.median(spread))
    wider = spread / middle if middle > 0 else np.ones(len(spread))
    prior = usual * np.where(wider > WIDE, wider, 1.0)
    most = np.full(len(several), BORROWED_DF)
    if at is not None:
        most[at] = lent_to_reference(of_images, usual, len(rows[several[at]].seeds))
    lent = np.clip(own_df.sum() - own_df - own_df.max(), 0, most)
    variances = (own_df * own + lent * prior) / (own_df + lent)
    for k, variance, df in zip(several, variances, own_df + lent, strict=True):
        found[k] = SeedVariance(float(variance), float(df))
    return found


def lent_to_reference(of_images: float, usual: float, seeds: int) -> float:
    """Degrees of freedom that a reference is lent at most: of all that a row is, the test images'
    share of the variance of a difference whose rows have the ``usual`` variance over so many
    ``seeds`` each."""
    whole = of_images + 2 * usual / seeds
    return max(LEAST_BORROWED, BORROWED_DF * of_images / whole if whole > 0 else 0.0)


def common_share(rows: Sequence[RowSeeds], reference: int | None = None) -> float:
    """The share of the variance over seeds that all rows have in common, seed by seed.

    By the rows with the seeds that most have: the mean covariance of two rows over the mean
    variance, less the standard error that it has where nothing is in common, at least 0; at most
    as much with the ``reference``, as rows may share what it does not. 0 for fewer than three rows,
    or if the reference has other seeds.
    """
    (seeds, many), *_ = Counter(row.seeds for row in rows).most_common(1)
    if many < 3 or (reference is not None and rows[reference].seeds != seeds):
        return 0.0
    values = np.stack([row.values for row in rows if row.seeds == seeds])
    variance = float(values.var(axis=1, ddof=1).mean())
    if variance == 0:
        return 0.0
    apart = values - values.mean(axis=1, keepdims=True)
    residuals = apart - apart.mean(axis=0)
    runs = len(seeds) - 1
    share = 1 - float((residuals**2).sum()) / ((many - 1) * runs) / variance
    share -= math.sqrt(2 / (many * (many - 1) * runs))
    if reference is not None:
        theirs = rows[reference].values - rows[reference].values.mean()
        with_it = (apart @ theirs).sum() - theirs @ theirs
        of_reference = float(with_it) / ((many - 1) * runs) / variance
        share = min(share, of_reference - 1 / math.sqrt(many * runs))
    return min(max(share, 0.0), LARGEST_COMMON)
