"""Which split of a data set: by name, from a file, with its seed, folds and groups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.folders import expanded
from lmdbench.core.registry import unknown
from lmdbench.core.words import count, listed
from lmdbench.data.dataset import PARTS, Dataset, Part, Split, sha256_lines
from lmdbench.data.groups import Groups, by_rank, parse_groups
from lmdbench.data.reading import read_given_folds, read_records, read_split
from lmdbench.data.splits.assign import allot, even_counts, shuffled
from lmdbench.data.splits.divide import (
    NEEDED,
    check_seed,
    long_tail_counts,
    named_parts,
    require_every_class,
)
from lmdbench.data.splits.given import DEFAULT_FOLDS, MOST_FOLDS, Folds, folds_of, refuse_torn
from lmdbench.data.tables import read_table

DEFAULT_SEED = 42
MOST_PER_CLASS = 100  # test images of a class in a balanced test set, where nothing else is asked
HELD_OUT_SHARE = 2 / 3  # of the smallest class that a balanced test and validation set may take
VALIDATION_SHARE = 1 / 8  # of what a fold leaves: with five folds 70/10/20

NEEDED_ROWS = [PARTS.index(part) for part in NEEDED]

# Splits that every data set can have, beside its own, which goes by its own name.
SPLITS = ("lesion", "balanced-test", "kfold")


@dataclass(frozen=True)
class SplitSpec:
    """What was asked for; None leaves it to the data set and the split."""

    name: str | None = None  # of a data set's own split, of ``SPLITS``, or a CSV file
    imbalance_factor: float | None = None
    seed: int | None = None
    folds: int | None = None
    fold: int | None = None
    test_per_class: int | None = None
    groups: str | None = None  # see ``groups.FORMS``


def make_split(dataset: Dataset, choice: SplitSpec) -> Split:
    """The split that was chosen, from the data set's tables alone.

    Raises UserError for an unknown name, a split the data set cannot have, and a choice that the
    split has no use for.
    """
    seed = check_seed(DEFAULT_SEED if choice.seed is None else choice.seed)
    name = choice.name
    given = folds_of(dataset) if name == "kfold" else None
    folds = _number_of_folds(choice.folds, given)
    if not 2 <= folds <= MOST_FOLDS:
        raise UserError(f"--folds {folds}: give a number from 2 to {MOST_FOLDS}")
    if name != "kfold" and (choice.folds is not None or choice.fold is not None):
        raise UserError("--folds and --fold are for --split kfold; leave them out")
    if name != "balanced-test" and choice.test_per_class is not None:
        raise UserError("--test-per-class is for --split balanced-test; leave it out")
    if name == "lesion":
        split = lesion_split(dataset, choice.imbalance_factor, seed)
    elif name == "balanced-test":
        split = balanced_split(dataset, choice.imbalance_factor, seed, choice.test_per_class)
    elif name == "kfold":
        if choice.fold is None:
            raise UserError(f"--split kfold: say which fold with --fold, from 0 to {folds - 1}")
        split = fold_split(dataset, choice.imbalance_factor, seed, folds, choice.fold, given)
    elif name is not None and is_file_name(name):
        if choice.imbalance_factor is not None:
            raise UserError(f"--split {name} lists its images; leave --imbalance-factor out")
        split = listed_split(dataset, expanded(name))
    else:
        split = _own_split(dataset, choice, seed)
    if choice.seed is not None and split.seed is None:
        raise UserError(
            f"--split-seed {choice.seed}: split {split.name} of {dataset.name} is a list, no seed "
            "draws it; leave it out"
        )
    unused = read_given_folds(dataset) if name != "kfold" else None
    if unused is not None:
        note = f"{unused.source} is not used here; --split kfold takes it as folds"
        split = replace(split, notes=(*split.notes, note))
    if choice.groups is not None:
        everything = {part: split.counts(part) for part in PARTS}
        counts = training_counts(everything, split.details.get("folds"))
        groups = parse_groups(choice.groups, split.classes, counts)
        split = replace(split, groups=groups.members, group_rule=groups.rule)
    return split


def _number_of_folds(asked: int | None, given: Folds | None) -> int:
    """Raises UserError where other than the given folds are asked for."""
    if given is None:
        return DEFAULT_FOLDS if asked is None else asked
    if asked not in (None, len(given)):
        raise UserError(
            f"--folds {asked}: {given.source} gives {len(given)} folds; leave --folds out, or give "
            "the column another name to have folds drawn"
        )
    return len(given)


def training_counts(counts: Mapping[str, np.ndarray], folds: int | None = None) -> np.ndarray:
    """Training images of each class (C,), by which classes are put in groups.

    ``counts``: part → (C,). Of a fold of a k-fold split it is what the folds have on average, so
    that all of them have the same groups.
    """
    if folds is None:
        return np.asarray(counts["train"])
    together = np.sum([counts[part] for part in PARTS], axis=0)
    return together * (1 - 1 / folds) * (1 - VALIDATION_SHARE)


def is_file_name(name: str) -> bool:
    """Whether a split is meant as a file of its own rather than by name."""
    return name.lower().endswith(".csv") or "/" in name


def lesion_split(dataset: Dataset, imbalance_factor: float | None, seed: int) -> Split:
    """The images of the data set's own split, divided anew: no lesion or patient in two parts.

    Parts keep their sizes and class counts, within 2 % or 2 images wherever the lesions allow it.
    An image without a lesion's id is a lesion of its own; the notes say how many are. Raises
    UserError for a data set whose tables name no lesions, or a class all in one lesion.
    """
    own = read_split(dataset, imbalance_factor, seed)
    ids, codes, groups = _images(dataset, own)
    _require_groups(dataset, groups, "lesion")
    wanted = np.stack([own.counts(part) for part in PARTS])
    home = allot(ids, codes, groups, wanted, f"{seed}/lesion", NEEDED_ROWS)
    parts = _parts(ids, codes, {part: home == p for p, part in enumerate(PARTS)})
    require_every_class(own.classes, parts, f"data set {dataset.name}, split lesion")
    return replace(own, name="lesion", parts=parts, seed=seed, notes=_alone(groups, ids))


def balanced_split(
    dataset: Dataset, imbalance_factor: float | None, seed: int, test_per_class: int | None = None
) -> Split:
    """Test and validation sets with as many images of each class, as the benchmark MONICA has.

    All images of the data set take part. ``test_per_class`` of a class go to test, half as many to
    validation; by default 100, or as many as leave the smallest class a third of its images. The
    others train, cut to ``imbalance_factor`` (None: the data set's default, if any): a factor above
    what they have cuts the tail by ``long_tail_counts``, one below it caps the largest classes.
    Lesions or patients stay in one part where the tables name them. Raises UserError naming the
    classes that are too small.
    """
    own = read_split(dataset, None, seed)
    classes = own.classes
    records = read_records(dataset).sort_index()
    ids = records.index.to_numpy(dtype=str)
    codes = records["label"].map({label: c for c, label in enumerate(classes)}).to_numpy(np.int64)
    groups = records["group"].tolist()
    counts = np.bincount(codes, minlength=len(classes))
    if test_per_class is not None and test_per_class < 1:
        raise UserError(f"--test-per-class {test_per_class}: give a number from 1 on")
    if imbalance_factor is not None and imbalance_factor < 1:
        raise UserError(f"--imbalance-factor {imbalance_factor:g}: give a number from 1 on")
    test = test_per_class
    if test is None:
        test = max(1, min(MOST_PER_CLASS, int(HELD_OUT_SHARE * counts.min() / 1.5)))
    validation = max(1, test // 2)
    small = [
        f"{label} ({n:,})"
        for label, n in zip(classes, counts, strict=True)
        if n < test + validation + 1
    ]
    if small:
        raise UserError(
            f"--split balanced-test of {dataset.name}: {test} test and {validation} validation "
            f"images of each class leave none to train {listed(small)}; "
            "give another --test-per-class"
        )
    wanted = np.stack(
        [counts - test - validation, *([n] * len(classes) for n in (validation, test))]
    )
    home = allot(ids, codes, groups, wanted, f"{seed}/balanced-test", range(3))
    got = np.stack([np.bincount(codes[home == p], minlength=len(classes)) for p in range(3)])
    if got.min() == 0:
        lacking = [classes[c] for c in np.flatnonzero(got.min(axis=0) == 0)]
        raise UserError(
            f"--split balanced-test of {dataset.name}: no division found that keeps lesions or "
            "patients together and has every class in every part; short of it: "
            f"{listed(lacking)}"
        )
    keep = got.copy()
    asked = np.array([validation, test])
    # Equal in every class, also where large groups overshoot or leave too little.
    keep[1:] = np.minimum(got[1:].min(axis=1), asked)[:, None]
    factor = dataset.default_imbalance_factor if imbalance_factor is None else imbalance_factor
    if factor is not None:
        keep[0] = _cut_counts(got[0], factor)
    chosen = {}
    for p, part in enumerate(PARTS):
        rows = [
            shuffled(np.flatnonzero((home == p) & (codes == c)), ids, f"{seed}/balanced-test/cut")
            for c in range(len(classes))
        ]
        inside = [row for c, members in enumerate(rows) for row in members[: keep[p, c]]]
        chosen[part] = np.isin(np.arange(len(ids)), inside)
    notes = [f"{keep[2, 0]} test and {keep[1, 0]} validation images of each class"]
    if keep[2, 0] < test:
        notes.append(f"asked were {test} test images; lesions or patients stay together")
    dropped = int((got[1:] - keep[1:]).sum())
    if dropped:
        notes.append(f"{count(dropped, 'image')} left out to make them equal")
    if any(groups):
        notes += _alone(groups, ids)
    return Split(
        name="balanced-test",
        classes=classes,
        parts=_parts(ids, codes, chosen),
        groups=own.groups,
        group_rule=_inherited(own),
        seed=seed,
        imbalance_factor=factor,
        details={"test_per_class": int(keep[2, 0]), "test_per_class_asked": test},
        notes=tuple(notes),
    )


def fold_split(
    dataset: Dataset,
    imbalance_factor: float | None,
    seed: int,
    folds: int,
    fold: int,
    given: Folds | None = None,
) -> Split:
    """Fold ``fold`` of ``folds``: the images of the data set's own split, stratified by class, each
    in the test set of one fold; or in that of the fold that is ``given``, without images that are
    in none.

    An eighth of what a fold leaves is its validation set. Lesions or patients stay in one fold, and
    in one part, where the tables name them. Raises UserError for a class that one fold takes whole,
    and for lesions in two given folds.
    """
    if not 0 <= fold < folds:
        raise UserError(f"--fold {fold}: with {folds} folds give one from 0 to {folds - 1}")
    own, ids, codes, groups, home = _divided(dataset, imbalance_factor, seed, folds, given is None)
    notes = [*_alone(groups, ids)] if any(groups) else []
    if given is not None:
        home, notes = _given_homes(given, ids, groups), [given.note, *notes]
        if out := int((home < 0).sum()):
            notes.append(f"{count(out, 'image')} without a fold left out")
            ids, codes, groups, home = _only(home >= 0, ids, codes, groups, home)
    size = len(own.classes)
    inside = {"test": home == fold}
    rest = np.flatnonzero(~inside["test"])
    counts = np.bincount(codes[rest], minlength=size)
    if not counts.all():
        label = own.classes[int(np.flatnonzero(counts == 0)[0])]
        raise UserError(
            f"--split kfold of {dataset.name}: fold {fold} takes every image of class {label!r}, "
            "which has too few images, or lesions or patients; give another split, or merge it"
        )
    held = np.floor(counts * VALIDATION_SHARE + 0.5).astype(np.int64)
    carved = allot(
        ids[rest],
        codes[rest],
        [groups[row] for row in rest],
        np.stack([counts - held, held]),
        f"{seed}/kfold/{folds}/{fold}",
        needed=[0],
    )
    for p, part in enumerate(("train", "validation")):
        inside[part] = np.isin(np.arange(len(ids)), rest[carved == p])
    parts = _parts(ids, codes, {part: inside[part] for part in PARTS})
    trained = np.bincount(parts["train"].labels, minlength=size)
    if not trained.all():
        label = own.classes[int(np.flatnonzero(trained == 0)[0])]
        raise UserError(
            f"--split kfold of {dataset.name}: fold {fold} leaves no training image of {label!r}, "
            "whose lesions or patients are too few; give another split, or merge the class"
        )
    return replace(
        own,
        name="kfold",
        parts=parts,
        seed=seed,
        group_rule=_inherited(own),
        details={"folds": folds, "fold": fold, "division": _division(ids, codes, home)},
        notes=tuple(notes),
    )


def _given_homes(given: Folds, ids: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """The fold (N,) of each image, -1 for none. Raises UserError for lesions in two folds and
    a fold without images."""
    home = np.array([given.of.get(image, -1) for image in ids.tolist()], dtype=np.int64)
    inside = home >= 0
    refuse_torn(
        given, [group for group, kept in zip(groups, inside, strict=True) if kept], home[inside]
    )
    empty = [name for fold, name in enumerate(given.names) if not (home == fold).any()]
    if empty:
        raise UserError(f"{given.source}: no image left in fold {', '.join(empty)}")
    return home


def _only(
    kept: np.ndarray, ids: np.ndarray, codes: np.ndarray, groups: Sequence[str], home: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    return (
        ids[kept],
        codes[kept],
        [groups[row] for row in np.flatnonzero(kept).tolist()],
        home[kept],
    )


@lru_cache(maxsize=4)  # every fold of a plan asks for it
def _divided(
    dataset: Dataset, imbalance_factor: float | None, seed: int, folds: int, drawn: bool
) -> tuple[Split, np.ndarray, np.ndarray, list[str], np.ndarray]:
    """The own split, its images with classes and groups as ``_images`` gives them, and the fold
    (N,) of each, 0 if not ``drawn``."""
    own = read_split(dataset, imbalance_factor, seed)
    ids, codes, groups = _images(dataset, own)
    if not drawn:
        return own, ids, codes, groups, np.zeros(len(ids), dtype=np.int64)
    wanted = even_counts(np.bincount(codes, minlength=len(own.classes)), folds)
    return own, ids, codes, groups, allot(ids, codes, groups, wanted, f"{seed}/kfold")


def listed_split(dataset: Dataset, path: Path) -> Split:
    """A user's own division, from a CSV with the columns ``image`` and ``split``.

    Images that it does not list are left out, and classes without any. Raises UserError, naming
    file and line, for an image that the data set does not have or that is listed twice, a part of
    another name, and a column ``label`` that says other than the data set.
    """
    table = read_table(path, ["image", "split"], any_case=True)
    images = table.unique("image")
    records = read_records(dataset)
    known = records["label"].to_dict()
    absent = [row for row, image in enumerate(images) if image not in known]
    if absent:
        more = f" (and {len(absent) - 1:,} more)" if len(absent) > 1 else ""
        raise UserError(
            f"{table.line(absent[0])}: data set {dataset.name} has no image "
            f"{images[absent[0]]!r}{more}"
        )
    homes = np.array(named_parts(table, "split"))
    labels = table["label"] if "label" in table.columns else [known[image] for image in images]
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        if label != known[image]:
            raise UserError(
                f"{table.line(row)}: label {label!r}, but in {dataset.name} {image!r} is "
                f"{known[image]!r}"
            )
    if len(set(labels)) < 2:
        raise UserError(f"{path}: only one class, {labels[0]!r}; it takes two or more")
    own, why_none = _own_if_any(dataset)
    order = own.classes if own else tuple(dataset.class_sizes) or sorted(set(known.values()))
    classes = tuple(label for label in order if label in set(labels))
    ids = np.array(images, dtype=str)
    codes = np.array([classes.index(known[image]) for image in images], dtype=np.int64)
    parts = _parts(ids, codes, {part: homes == part for part in PARTS})
    require_every_class(classes, parts, str(path))
    groups = _own_groups(own, classes) or by_rank(classes, np.bincount(parts["train"].labels))
    notes = [f"from {path.name}"]
    if len(images) < len(records):
        notes.append(f"{count(len(records) - len(images), 'image')} of the data set not listed")
    if why_none:
        notes.append(f"groups by rank, as the data set's own split cannot be made: {why_none}")
    torn = _torn(records["group"].loc[ids].tolist(), homes)
    if torn:
        notes.append(f"{count(torn, 'lesion')} or patients in two parts: see `lmdbench data audit`")
    return Split(
        name="file-" + (re.sub(r"[^\w.-]+", "-", path.stem) or "split"),
        classes=classes,
        parts=parts,
        groups=groups.members,
        group_rule=groups.rule,
        notes=tuple(notes),
    )


def _own_split(dataset: Dataset, choice: SplitSpec, seed: int) -> Split:
    split = read_split(dataset, choice.imbalance_factor, seed)
    if choice.name in (None, split.name):
        _require_drawn(dataset, split, choice.imbalance_factor, seed)
        return split
    if choice.name == "published" and dataset.official_digest:
        raise UserError(
            f"data set {dataset.name} has no published split: its tables are not the official "
            f"ones, or not in their order; its own is called {split.name}"
        )
    raise unknown(
        f"split of {dataset.name}", str(choice.name).lower(), [split.name, *SPLITS, "FILE.csv"]
    )


def _require_drawn(dataset: Dataset, split: Split, factor: float | None, seed: int) -> None:
    """Refuse a seed that a plug-in's split names and does not follow: two results would be one."""
    if (
        split.seed is None
        or seed == DEFAULT_SEED
        or type(dataset).__module__.startswith("lmdbench.")
    ):
        return
    if read_split(dataset, factor, DEFAULT_SEED).fingerprint == split.fingerprint:
        raise UserError(
            f"data set {dataset.name!r}: --split-seed {seed} changes nothing in its split; leave "
            "it out (a split that no seed draws says seed=None)"
        )


def _own_if_any(dataset: Dataset) -> tuple[Split | None, str]:
    """The data set's own split; None, and why, where it has too few images for one."""
    try:
        return read_split(dataset, None, DEFAULT_SEED), ""
    except UserError as error:
        return None, str(error)


def _inherited(own: Split) -> str:
    """How groups came to be that a split takes from the data set's own."""
    return f"of the split {own.name}: {own.group_rule}"


def _division(ids: np.ndarray, codes: np.ndarray, home: np.ndarray) -> str:
    """What tells one division into folds from another, in 16 hexadecimal digits."""
    rows = zip(ids.tolist(), codes.tolist(), home.tolist(), strict=True)
    return sha256_lines(f"{image}\t{code}\t{fold}" for image, code, fold in rows)[:16]


def _torn(groups: Sequence[str], homes: np.ndarray) -> int:
    """How many lesions or patients have images in two parts."""
    pairs = {(group, home) for group, home in zip(groups, homes.tolist(), strict=True) if group}
    return sum(n > 1 for n in Counter(group for group, _ in pairs).values())


def _own_groups(own: Split | None, classes: Sequence[str]) -> Groups | None:
    """The groups of a data set's own split, as far as they go for these classes."""
    members = {
        group: tuple(label for label in labels if label in classes)
        for group, labels in (own.groups if own else {}).items()
    }
    members = {group: labels for group, labels in members.items() if labels}
    return Groups(members, _inherited(own)) if own and members else None


def _images(dataset: Dataset, split: Split) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Ids (N,), sorted, codes (N,) and groups of all images in a split."""
    ids = np.concatenate([split.parts[part].ids for part in PARTS])
    codes = np.concatenate([split.parts[part].labels for part in PARTS])
    order = np.argsort(ids)
    ids, codes = ids[order], codes[order]
    return ids, codes, read_records(dataset)["group"].loc[ids].tolist()


def _require_groups(dataset: Dataset, groups: Sequence[str], name: str) -> None:
    if not any(groups):
        source = dataset.group_source
        why = f"{source} would name them" if source else "its tables name none"
        raise UserError(
            f"--split {name}: no lesion or patient of {dataset.name}'s images is known; {why}"
        )


def _alone(groups: Sequence[str], ids: Sequence[str] | np.ndarray) -> tuple[str, ...]:
    alone = sum(not group for group in groups)
    if not alone:
        return ()
    return (f"{alone:,} of {count(len(ids), 'image')} without a lesion's id, each its own lesion",)


def _parts(ids: np.ndarray, codes: np.ndarray, inside: Mapping[str, np.ndarray]) -> dict[str, Part]:
    return {part: Part(ids[chosen], codes[chosen]) for part, chosen in inside.items()}


def _cut_counts(counts: np.ndarray, factor: float) -> np.ndarray:
    """Training counts (C,) at the imbalance factor: the tail cut, or the largest classes capped."""
    if 1 <= factor < counts.max() / counts.min():
        return np.minimum(counts, int(factor * counts.min()))
    return long_tail_counts(counts, factor)
