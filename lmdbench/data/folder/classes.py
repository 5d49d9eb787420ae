"""The classes of a user's own data set: codes named, spellings made one, in the order asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.core.words import count, some
from lmdbench.data.folder.description import Description
from lmdbench.data.folder.image_index import ImageIndex
from lmdbench.data.folder.spelling import alike, has_controls, spelling

NAMED = 10  # classes that an error names
PAIRS = 5  # classes of which an error names the spellings


def with_classes(
    listing: ImageIndex, described: Description, *, spellings_stay: bool = False
) -> ImageIndex:
    """The listing with the class names, and in the class order, that a description gives.

    Raises UserError, naming file and key, for codes that it does not name, names in vain, or
    orders in vain, for classes that differ in spelling alone unless the description says what
    becomes of them or ``spellings_stay``, and for names that are no text.
    """
    if not spellings_stay:
        listing = _spelt_once(listing, described, described.classes)
    if described.classes:
        listing = _named(listing, described)
        listing = listing if spellings_stay else _spelt_once(listing, described, ())
    _refuse_no_text(listing, described)
    _refuse_strangers(listing, described)
    return _ordered(listing, described) if described.class_order else listing


def _spelt_once(listing: ImageIndex, described: Description, codes: Collection[str]) -> ImageIndex:
    """The listing with one spelling a class, the commonest or that of ``codes``. These are told
    apart on purpose where all spellings of a class are among them."""
    sizes = Counter(listing.labels)
    several = [
        sorted(names, key=lambda name: (name not in codes, -sizes[name], name))
        for names in alike([*listing.classes, *codes])
        if any(sizes[name] and name not in codes for name in names)
    ]
    if not several:
        return listing
    told = [
        ", ".join(f"{name!r} ({count(sizes[name], 'image')})" for name in names)
        for names in several
    ]
    if described.merges_spellings is None:
        raise UserError(
            f"{described.holder}: classes that differ in spelling only: "
            f"{some(told, PAIRS, lambda names: f'[{names}]')}; merge_spellings = true in "
            f"{described.settings} makes one class of each, false keeps them apart"
        )
    if not described.merges_spellings:
        apart = f"classes: kept apart, as merge_spellings says: {'; '.join(told[:PAIRS])}"
        return replace(listing, remarks=(*listing.remarks, apart))
    return _merged(listing, several, sizes)


def _merged(
    listing: ImageIndex, several: Sequence[Sequence[str]], sizes: Mapping[str, int]
) -> ImageIndex:
    """The listing with the first of several spellings for all of them."""
    name_of = {name: names[0] for names in several for name in names}
    classes = tuple(dict.fromkeys(name_of.get(label, label) for label in listing.classes))
    in_order = list(listing.classes) == sorted(listing.classes)
    read = [
        f"{', '.join(f'{name!r} ({sizes[name]:,})' for name in others if sizes[name])} as {first!r}"
        for first, *others in several
    ]
    return replace(
        listing,
        labels=[name_of.get(label, label) for label in listing.labels],
        classes=tuple(sorted(classes)) if in_order else classes,
        remarks=(*listing.remarks, f"classes: {some(read, NAMED)}, spelt alike"),
    )


def _named(listing: ImageIndex, described: Description) -> ImageIndex:
    """The listing with the classes that codes stand for, without images of other codes."""
    path, names = described.path, described.classes
    others = [code for code in listing.classes if code not in names]
    if others and not described.drops_others:
        raise UserError(
            f"{path}: [classes] has no {some(others, NAMED, repr)}, which images have; name it "
            'there, or leave its images out by other_classes = "drop"'
        )
    for code in names:
        if code not in listing.classes:
            raise UserError(f"{path}: {unknown('code in [classes]', code, [*listing.classes])}")
    sizes = Counter(listing.labels)
    kept = [row for row, code in enumerate(listing.labels) if code in names]
    images, codes, groups = (
        [column[row] for row in kept] for column in (listing.images, listing.labels, listing.groups)
    )
    left = [f'"{code}": {sizes[code]:,}' for code in others]
    dropped = count(sum(sizes[code] for code in others), "image")
    told = (f"left out: {dropped} of other codes ({some(left, NAMED)})",) if others else ()
    return replace(
        listing,
        images=images,
        labels=[names[code] for code in codes],
        groups=groups,
        parts=listing.parts and [listing.parts[row] for row in kept],
        classes=tuple(dict.fromkeys(names[c] for c in listing.classes if c in names)),
        remarks=(*listing.remarks, *told),
    )


def _ordered(listing: ImageIndex, described: Description) -> ImageIndex:
    path = described.path
    for label in described.class_order:
        if label not in listing.classes:
            raise UserError(f"{path}: {unknown('class in class_order', label, [*listing.classes])}")
    left = [label for label in listing.classes if label not in described.class_order]
    if left:
        raise UserError(
            f"{path}: class_order has no {some(left, NAMED, repr)}; it takes every class"
        )
    return replace(listing, classes=described.class_order)


def _refuse_strangers(listing: ImageIndex, described: Description) -> None:
    """What the description says of classes is of classes that there are."""
    costs = described.attributes.get("costs", {})
    for key, names in (
        ("ordered_classes", described.attributes.get("ordered_classes", ())),
        ("[costs]", (*costs, *(name for row in costs.values() for name in row))),
    ):
        for name in names:
            if name not in listing.classes:
                kind = f"class in {key}"
                raise UserError(f"{described.path}: {unknown(kind, name, [*listing.classes])}")


def _refuse_no_text(listing: ImageIndex, described: Description) -> None:
    for label in listing.classes:
        what = "a line break, a tab or another control character" if has_controls(label) else ""
        what = what or ("" if spelling(label) or label.strip() else "nothing but blanks")
        if what:
            n = count(listing.labels.count(label), "image")
            raise UserError(
                f"{described.holder}: the class {label!r} ({n}) has {what} in its name; mend it, "
                f"or name it under [classes] in {described.settings}"
            )
