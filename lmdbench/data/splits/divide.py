"""Recipes that divide a table of images into parts. Pure functions; none needs the images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, listed
from lmdbench.data.dataset import Part
from lmdbench.data.splits.assign import allot, shuffled
from lmdbench.data.tables import Table

ISIC_SMALLEST_CLASS = 4  # fewer images cannot be divided 70/10/20 by two calls of scikit-learn
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
NEEDED = ("train", "test")  # the parts that must hold every class
# How people call a part, in a split column or as a folder → the part.
PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def named_parts(table: Table, column: str) -> list[str]:
    """The part of each row, by a column of ``PART_NAMES`` in any case. Raises UserError, naming the
    line, for another word."""
    parts = []
    for row, word in enumerate(table[column]):
        if word.lower() not in PART_NAMES:
            raise UserError(f"{table.line(row)}: split {word!r} is none of {', '.join(PART_NAMES)}")
        parts.append(PART_NAMES[word.lower()])
    return parts


def check_seed(seed: int) -> int:
    """The seed, if numpy and scikit-learn take it. Raises UserError otherwise."""
    if not 0 <= seed < 2**32:
        raise UserError(f"split seed {seed} is out of range; give one from 0 to {2**32 - 1}")
    return seed


def long_tail_counts(
    counts: Sequence[int] | np.ndarray, imbalance_factor: float, smallest: int = 1
) -> np.ndarray:
    """Images to keep of each class so that they fall exponentially to largest / imbalance factor.

    Classes sorted by size keep ceil(n_i μ^i) with μ = (n_0 / (n_last · r))^(1/(C−1)), in floating
    point as the ISIC-2019-LT release computes it. ``counts`` (C,) may come in any order and the
    result (C,) int64 keeps it.

    Raises UserError, naming the possible range, for a factor below the data's own imbalance
    (cutting cannot reach it) and for one that leaves fewer than ``smallest`` images in a class.
    """
    counts = np.asarray(counts, dtype=np.int64)
    most, fewest = int(counts.max()), int(counts.min())
    if len(counts) < 2 or fewest < smallest:
        raise UserError(
            f"a long-tail cut needs two classes or more with at least {smallest} images each; "
            f"here are {len(counts)}, the smallest with {fewest}"
        )
    own = most / fewest
    possible = f"possible here: {_range_of_factors(most, own, smallest)}"
    if not math.isfinite(imbalance_factor) or imbalance_factor < 1:
        raise UserError(f"imbalance factor {imbalance_factor:g} is impossible; {possible}")
    if imbalance_factor < own * (1 - 1e-12):
        raise UserError(
            f"imbalance factor {imbalance_factor:g} cannot be reached by leaving images out: "
            f"the data's own is {own:.6g}; {possible}"
        )
    order = np.argsort(-counts, kind="stable")
    mu = (most / (fewest * imbalance_factor)) ** (1 / (len(counts) - 1))
    kept = np.empty_like(counts)
    for rank, c in enumerate(order):
        kept[c] = min(math.ceil(int(counts[c]) * mu**rank), counts[c])
    if imbalance_factor > most or kept.min() < smallest:
        raise UserError(
            f"imbalance factor {imbalance_factor:g} is too large: the smallest class would be left "
            f"with fewer than the {smallest} images it needs; {possible}"
        )
    return kept


def cut_long_tail(
    ids: Sequence[str], labels: Sequence[str], imbalance_factor: float, smallest: int, seed: int
) -> np.ndarray:
    """Positions to keep, ascending, for the counts of ``long_tail_counts``; which images of a class
    stay depends on the seed and the ids alone. Raises UserError as ``long_tail_counts``."""
    members = _members(labels)
    counts = long_tail_counts([len(m) for m in members.values()], imbalance_factor, smallest)
    kept = [
        shuffled(positions, ids, f"{seed}/cut")[:n]
        for positions, n in zip(members.values(), counts, strict=True)
    ]
    return np.sort(np.concatenate(kept))


def isic_released_split(
    ids: Sequence[str], labels: Sequence[str], classes: Sequence[str], factor: float, seed: int
) -> dict[str, Part]:
    """The long-tailed 70/10/20 split that the authors of LMD released for ISIC 2019.

    Class by class, largest first: rows in file order, a random sample of the long-tailed size, 30 %
    off for test and validation, a third of those for validation; then each part is shuffled. With
    seed 42 and factor 100 it is the released one, in row order.

    Raises UserError for an impossible factor or seed.
    """
    check_seed(seed)
    codes = _codes(labels, classes)
    counts = np.bincount(codes, minlength=len(classes))
    kept = long_tail_counts(counts, factor, ISIC_SMALLEST_CLASS)
    parts: dict[str, list[pd.Series]] = {"train": [], "validation": [], "test": []}
    for c in np.argsort(-counts, kind="stable"):
        rows = pd.Series(np.flatnonzero(codes == c)).sample(n=int(kept[c]), random_state=seed)
        train, rest = split_off(rows, 0.3, seed)
        test, validation = split_off(rest, 1 / 3, seed)
        for name, piece in (("train", train), ("validation", validation), ("test", test)):
            parts[name].append(piece)
    return {
        name: _part(ids, codes, pd.concat(pieces).sample(frac=1, random_state=seed).to_numpy())
        for name, pieces in parts.items()
    }


def split_off(rows: pd.Series, share: float, seed: int) -> tuple[pd.Series, pd.Series]:
    """What stays and what is split off, as scikit-learn's train_test_split draws them, whose import
    takes a second of every start."""
    order = np.random.RandomState(seed).permutation(len(rows))
    off = math.ceil(share * len(rows))
    return rows.iloc[order[off:]], rows.iloc[order[:off]]


def kvasir_released_split(
    ids: Sequence[str], labels: Sequence[str], classes: Sequence[str], seed: int
) -> dict[str, Part]:
    """The stratified 80/10/10 split that the authors of LMD released for Hyper-Kvasir.

    Rows in file order are shuffled, a tenth goes to test, a ninth of the rest to validation. With
    seed 42 it is the released one, in row order. Raises UserError for an impossible seed or a table
    too small for the recipe.
    """
    from sklearn.model_selection import train_test_split

    check_seed(seed)
    codes = _codes(labels, classes)
    rows = pd.Series(np.arange(len(codes))).sample(frac=1, random_state=seed)
    try:
        rest, test = train_test_split(rows, test_size=0.1, random_state=seed, stratify=codes[rows])
        train, validation = train_test_split(
            rest, test_size=1 / 9, random_state=seed, stratify=codes[rest]
        )
    except ValueError as error:
        raise UserError(f"the released recipe cannot divide this table: {error}") from error
    pieces = {"train": train, "validation": validation, "test": test}
    return {name: _part(ids, codes, piece.to_numpy()) for name, piece in pieces.items()}


def divide(
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str] | None,
    seed: int,
    shares: Mapping[str, float] = SHARES,
    needed: Sequence[str] = NEEDED,
) -> dict[str, np.ndarray]:
    """Divide images into parts of the given shares, class by class: part → positions, ascending.

    Images of one group (a lesion, a patient; empty: the image is on its own) stay together. Every
    class has an image in each ``needed`` part; the first part takes what rounding leaves. The
    result depends on seed, ids, labels and groups, not on the order of the rows.

    Raises UserError, naming the class, where a class has too few images or groups for that.
    """
    check_seed(seed)
    require_images(labels, needed, "the split")
    if groups is None or not any(groups):
        return _divide_images(ids, labels, seed, shares, needed)
    return _divide_groups(ids, labels, groups, seed, shares, needed)


def require_every_class(classes: Sequence[str], parts: Mapping[str, Part], where: str) -> None:
    """Raises UserError, saying which lack what, unless every class has training and test images."""
    lacking = []
    for name in NEEDED:
        counts = np.bincount(parts[name].labels, minlength=len(classes))
        empty = [label for label, n in zip(classes, counts, strict=True) if n == 0]
        if empty:
            lacking.append(f"no {name} image of {listed(empty)}")
    if lacking:
        raise UserError(f"{where}: {' and '.join(lacking)}; every class needs at least one of each")


def require_images(labels: Sequence[str], needed: Sequence[str], where: str) -> None:
    """Raises UserError, naming the class, unless each has an image for every ``needed`` part."""
    for label, positions in _members(labels).items():
        if len(positions) < len(needed):
            raise UserError(
                f"{where}: class {label!r} has {count(len(positions), 'image')}; it takes at least "
                f"{len(needed)} to have one each for {' and '.join(needed)}"
            )


def _range_of_factors(most: int, own: float, smallest: int) -> str:
    """The factors that ``long_tail_counts`` accepts, rounded inwards to one decimal."""
    low = math.ceil(own * 10) / 10
    # ceil(most / factor) reaches ``smallest`` strictly below most / (smallest - 1).
    high = (math.ceil(most / (smallest - 1) * 10) - 1) / 10 if smallest > 1 else float(most)
    return " to ".join(f"{x:.1f}".removesuffix(".0") for x in (low, high))


def _divide_images(
    ids: Sequence[str],
    labels: Sequence[str],
    seed: int,
    shares: Mapping[str, float],
    needed: Sequence[str],
) -> dict[str, np.ndarray]:
    first, *others = shares
    members = _members(labels)
    sizes = _sizes(np.array([len(m) for m in members.values()]), shares, needed)
    chosen: dict[str, list[int]] = {name: [] for name in shares}
    for c, positions in enumerate(members.values()):
        left = shuffled(positions, ids, f"{seed}/divide")
        for p, name in enumerate(others, start=1):
            chosen[name] += left[: sizes[p, c]]
            left = left[sizes[p, c] :]
        chosen[first] += left
    return {name: np.array(sorted(members), dtype=np.int64) for name, members in chosen.items()}


def _divide_groups(
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    seed: int,
    shares: Mapping[str, float],
    needed: Sequence[str],
) -> dict[str, np.ndarray]:
    classes, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    # A name of its own for an image without group cannot meet a real group's.
    names = [("group", g) if g else ("image", i) for g, i in zip(groups, ids, strict=True)]
    for c, label in enumerate(classes.tolist()):
        inside = {name for name, code in zip(names, codes, strict=True) if code == c}
        if len(inside) < len(needed):
            raise UserError(
                f"class {label!r}: its {count(int((codes == c).sum()), 'image')} belong to "
                f"{count(len(inside), 'group')}, which must stay together; it takes at least "
                f"{len(needed)} groups to have one each for {' and '.join(needed)}"
            )
    sizes = _sizes(np.bincount(codes), shares, needed)
    rows = [p for p, name in enumerate(shares) if name in needed]
    home = allot(ids, codes, groups, sizes, f"{seed}", rows)
    got = {
        name: np.bincount(codes[home == p], minlength=len(classes)) for p, name in enumerate(shares)
    }
    short = sorted({str(classes[c]) for name in needed for c in np.flatnonzero(got[name] == 0)})
    if short:
        raise UserError(
            "no division found that keeps groups together and has every class in "
            f"{' and '.join(needed)}; short of it: {', '.join(short)}. Give a split column, or "
            "another seed"
        )
    return {name: np.flatnonzero(home == p) for p, name in enumerate(shares)}


def _sizes(counts: np.ndarray, shares: Mapping[str, float], needed: Sequence[str]) -> np.ndarray:
    """Images of each class in each part, (P, C) int64; the first part takes what rounding leaves,
    and a needed part at least one."""
    rest = []
    for name in list(shares)[1:]:
        size = np.floor(shares[name] * counts + 0.5).astype(np.int64)
        rest.append(np.maximum(size, 1) if name in needed else size)
    return np.stack([counts - sum(rest), *rest])


def _members(labels: Sequence[str]) -> dict[str, list[int]]:
    """Class → positions, classes sorted by name."""
    members: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        members.setdefault(label, []).append(position)
    return dict(sorted(members.items()))


def _codes(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    code = {name: c for c, name in enumerate(classes)}
    return np.array([code[label] for label in labels], dtype=np.int64)


def _part(ids: Sequence[str], codes: np.ndarray, positions: np.ndarray) -> Part:
    return Part(ids=np.asarray(ids, dtype=str)[positions], labels=codes[positions])
