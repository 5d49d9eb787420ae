"""Which lesion or patient an image is of, as a column says it that people or programs filled in.

Exports have a word where there is no id. Taken for an id it would make one lesion of all these
images: they would go into one part together, and count as one unit in intervals.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from lmdbench.core.words import count, some

# What stands for "no id", in lower case, without brackets around it or dots behind it. So does
# whatever has neither letter nor digit, such as - or ??.
WORDS = (
    "na, n/a, n.a, #n/a, #na, nan, nat, none, null, nil, \\n, unknown, unk, unkown, unknow, "
    "undefined, undetermined, unspecified, unassigned, unavailable, missing, empty, blank, inf, "
    "#null!, #value!, #ref!, not available, not applicable, not known, not given, not specified, "
    "not recorded, not provided, not assigned, no id, no group, no lesion, no patient, no data, "
    "no value, no information, keine, kein, ohne, unbekannt, fehlt, leer, k.a, k. a, n.v, n.b, "
    "keine angabe, keine angaben, nicht bekannt, nicht angegeben, nicht verfügbar, "
    "nicht vorhanden, inconnu, aucun, manquant, desconocido, ninguno, sconosciuto, onbekend, geen"
)
NO_GROUP = frozenset(WORDS.split(", "))
NEGATIVE = re.compile(r"-(1|9+)(\.0+)?")  # never an id
FILLER = re.compile(r"(0+|99+)(\.0+)?")  # an id, too; which of both its number of images tells
WHOLE = re.compile(r"-?\d+\.0+")  # a number that a program wrote as a fraction
REPEATS = 2  # times as many images as any other group, from which on a filler is none
LEAST = 10  # images, from which on a group that stands out is named
SHARE = 0.1  # of all images
USUAL = 5  # times as many as groups usually have
NAMED, WORDS_NAMED = 3, 8  # groups, and words for none, that a remark names

# What names whose images are alike → what tables call its column, in lower case
UNIT_COLUMNS = {
    "lesion": ("lesion", "lesion_id"),
    "patient": ("patient", "patient_id", "subject_id"),
}


@dataclass(frozen=True)
class Lesions:
    """The group of each image, empty where it has none; and for what words: word → images."""

    groups: list[str]
    none: Mapping[str, int]

    @property
    def remarks(self) -> tuple[str, ...]:
        """A line of how many images have no group, and the words for it, if there are any."""
        alone = sum(self.none.values())
        if not alone:
            return ()
        words = [f'"{word}": {n:,}' if word else f"empty: {n:,}" for word, n in self.none.items()]
        have = "has" if alone == 1 else "have"
        return (f"lesions: {count(alone, 'image')} {have} none ({some(words, WORDS_NAMED)})",)

    @property
    def remarks_of_words(self) -> tuple[str, ...]:
        """``remarks``, unless empty cells alone stand for none."""
        return self.remarks if set(self.none) - {""} else ()


def known_lesions(groups: Sequence[str], no_group: Collection[str] | None = None) -> Lesions:
    """The groups (N,) without the words for none. ``no_group``: the words, exactly; by default
    ``NO_GROUP``, negative numbers such as -1, and 0 and 99… where these have at least twice as many
    images as any other group."""
    sizes = Counter(groups)
    words = {word for word in sizes if word in no_group} if no_group is not None else _none(sizes)
    words |= {""} & set(sizes)
    none = {word: sizes[word] for word in sorted(words, key=lambda word: (-sizes[word], word))}
    return Lesions(["" if group in words else group for group in groups], none)


def outstanding(lesions: Lesions, settings: str) -> Iterator[str]:
    """A line that names groups of many more images than the others have, if there are any: maybe a
    word for none. ``settings``: where to say so."""
    sizes = Counter(group for group in lesions.groups if group)
    if huge := _huge(sizes, len(lesions.groups)):
        named = some([f'"{group}" has {count(sizes[group], "image")}' for group in huge], NAMED)
        words = ", ".join(f'"{word}"' for word in [*filter(None, lesions.none), *huge[:NAMED]])
        yield (
            f"lesions: {named}, where {median(sizes.values()):g} is usual; if that stands for "
            f"unknown, say no_group = [{words}] in {settings}"
        )


def alike(lesions: Lesions, settings: str) -> Iterator[str]:
    """A line that names groups whose spelling alone differs, if there are any. ``settings``: where
    to say what becomes of them."""
    if several := _alike(lesions):
        yield (
            f"lesions: {_pairs(several)} differ in spelling only, and count as different; "
            f"merge_spellings = true in {settings} takes them for the same"
        )


def merged(lesions: Lesions) -> tuple[Lesions, tuple[str, ...]]:
    """The lesions with one spelling each, the first in order, and a line that says so."""
    several = _alike(lesions)
    if not several:
        return lesions, ()
    name_of = {name: names[0] for names in map(sorted, several) for name in names}
    groups = [name_of.get(group, group) for group in lesions.groups]
    return replace(lesions, groups=groups), (f"lesions: {_pairs(several)} taken for the same",)


def _alike(lesions: Lesions) -> list[list[str]]:
    spellings: dict[str, list[str]] = {}
    for group in dict.fromkeys(filter(None, lesions.groups)):
        spellings.setdefault(_spelling(group), []).append(group)
    return [names for names in spellings.values() if len(names) > 1]


def _pairs(several: Sequence[Sequence[str]]) -> str:
    return some([" and ".join(f'"{name}"' for name in names) for names in several], NAMED)


def _none(sizes: Mapping[str, int]) -> set[str]:
    words = {word for word in sizes if word and is_no_word(word)}
    fillers = {word for word in sizes if FILLER.fullmatch(word)}
    for word in sorted(fillers, key=lambda word: -sizes[word]):
        others = [n for other, n in sizes.items() if other and other not in words | {word}]
        if sizes[word] > 2 and sizes[word] >= REPEATS * max(others, default=1):
            words.add(word)
    return words


def plain_word(word: str) -> str:
    """In lower case, without brackets and quotes around it and dots behind."""
    return " ".join(word.lower().strip(" <>()[]{}'\"").rstrip(".").replace("_", " ").split())


def is_no_word(word: str) -> bool:
    """Whether it is known to stand for nothing known."""
    plain = plain_word(word)
    return plain in NO_GROUP or not re.search(r"\w", plain) or bool(NEGATIVE.fullmatch(word))


def _huge(sizes: Mapping[str, int], images: int) -> list[str]:
    """Groups of many more images than the others have, largest first."""
    usual = median(sizes.values()) if sizes else 0
    least = max(LEAST, SHARE * images, USUAL * usual)
    return [group for group, n in sorted(sizes.items(), key=lambda item: -item[1]) if n >= least]


def _spelling(group: str) -> str:
    """The same for ids that differ in case or blanks, or in being written as a fraction."""
    plain = "".join(group.casefold().split())
    return plain.partition(".")[0] if WHOLE.fullmatch(plain) else plain
