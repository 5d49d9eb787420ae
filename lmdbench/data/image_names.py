"""Names of images that went through other programs, and which of the names there are is meant."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import takewhile
from typing import NamedTuple
from urllib.parse import unquote

from lmdbench.core.words import some

ENDING = re.compile(
    r"(\.(?:jpe?g|jpe|jfif|jp2|png|tiff?|bmp|webp|gif|dcm|dicom|heic|heif|avif|p[bgnp]m|mpo))+$",
    re.IGNORECASE,
)
SAME_FORMAT = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".dicom": ".dcm"}
WHOLE = re.compile(r"0*(\d+)(?:\.0+)?")  # 7, 007 and 7.0
SCIENTIFIC = re.compile(r"\d(?:\.\d+)?e\+?\d{1,2}", re.IGNORECASE)  # 1.23E+02
NAMED = 3
CROWD = 64  # names alike, among which the nearest is looked for one by one

# How a written name may differ from the one that is meant → in words; the likelier come first.
KINDS: Mapping[str, str] = {
    "spelling": "slashes, blanks, %-signs or accents",
    "ending": "the ending",
    "folder": "the sub-folder",  # what is written is the end of the path
    "format": "the format in the ending",
    "path": "the folders",
    "case": "capitals",
    "zeros": "leading zeros, as spreadsheets drop them",
}
COST = {kind: 1 << place for place, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Matches:
    """Of ``asked`` written names. ``found``: written name → the one that is meant; ``kinds``: how
    both differ, of ``KINDS``; ``unclear``: written name → those that may be meant, of which it
    can't be told."""

    asked: int = 0
    found: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unclear: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def usual(self) -> tuple[str, ...]:
        """What most differ in."""
        return Counter(self.kinds.values()).most_common(1)[0][0]

    def told(self, most: int = NAMED) -> str:
        """The differences in words, the commonest first, with an example of each."""
        first = {self.kinds[name]: name for name in reversed(list(self.found))}
        return some(
            [
                f"{' and '.join(KINDS[kind] for kind in kinds)}: {first[kinds]} → "
                f"{self.found[first[kinds]]} ({n:,} of {self.asked:,} like this)"
                for kinds, n in Counter(self.kinds.values()).most_common()
            ],
            most,
        )


def match(written: Iterable[str], there: Collection[str]) -> Matches:
    """Which of the names ``there`` each written name means, though none is the same.

    The one that differs in the least, if there is only one such; a name is meant by those written
    names alone that come nearest to it.
    """
    wanted = {name: _parsed(name) for name in written}
    alike = _Alike({name.loosest for name in wanted.values()}, there)
    unclear = {}
    nearest: dict[str, tuple[float, tuple[str, ...], str]] = {}
    for name, own in wanted.items():
        ranked = sorted((*_difference(own, other), one) for one, other in alike.to(own))
        best = [one for one in ranked if one[0] == ranked[0][0]]
        if len(best) == 1:
            nearest[name] = best[0]
        elif best:
            unclear[name] = tuple(one for _, _, one in best)
    claims: dict[str, list[str]] = defaultdict(list)
    for name, (_, _, one) in nearest.items():
        claims[one].append(name)
    least = {one: min(nearest[name][0] for name in names) for one, names in claims.items()}
    chosen = {name: best for name, best in nearest.items() if best[0] == least[best[2]]}
    return Matches(
        len(wanted),
        {name: one for name, (_, _, one) in chosen.items()},
        {name: kinds for name, (_, kinds, _) in chosen.items()},
        unclear,
    )


class _Name(NamedTuple):
    """A name in one spelling, taken apart. ``loosest``: what two names of one image have in common,
    whatever they went through."""

    folders: tuple[str, ...]
    stem: str
    endings: str
    format: str  # by the last ending; empty where there is none
    loosest: str

    @property
    def last_folder(self) -> str:
        return _number(self.folders[-1].casefold()) if self.folders else ""


class _Alike:
    """The names there are by what they have in common with a written one."""

    def __init__(self, wanted: set[str], there: Iterable[str]) -> None:
        self._by_stem: dict[str, list[tuple[str, _Name]]] = {}
        self._by_folder: dict[tuple[str, str], list[tuple[str, _Name]]] = defaultdict(list)
        for one in there:
            if (parsed := _parsed(one)).loosest in wanted:
                self._by_stem.setdefault(parsed.loosest, []).append((one, parsed))
                self._by_folder[parsed.loosest, parsed.last_folder].append((one, parsed))

    def to(self, name: _Name) -> list[tuple[str, _Name]]:
        """Of many alike (image.png in each patient's folder) those in a folder of the same name,
        or some: what lies in no such folder can't be told apart."""
        found = self._by_stem.get(name.loosest, [])
        if len(found) <= CROWD:
            return found
        return (self._by_folder.get((name.loosest, name.last_folder)) or found)[:CROWD]


def _parsed(name: str) -> _Name:
    text = unicodedata.normalize("NFC", unquote(name)).replace("\\", "/")
    steps = [step.strip() for step in text.split("/")]
    *folders, last = [step for step in steps if step not in ("", ".")] or [""]
    ending = ENDING.search(last)
    if ending is None:
        return _Name(tuple(folders), last, "", "", _number(last.casefold()))
    kind = ending.group(1).lower()
    stem = last[: ending.start()].strip()
    same = SAME_FORMAT.get(kind, kind)
    return _Name(tuple(folders), stem, ending.group(), same, _number(stem.casefold()))


def _number(word: str) -> str:
    """007, 7.0 and 7e+00 as 7; other words as they are."""
    if whole := WHOLE.fullmatch(word):
        return whole.group(1)
    if SCIENTIFIC.fullmatch(word):
        number = Decimal(word)
        return str(int(number)) if number == int(number) else word
    return word


def _difference(a: _Name, b: _Name) -> tuple[float, tuple[str, ...]]:
    """How far two names are apart, and in what of ``KINDS``."""
    kinds = {_of_words((a.stem,), (b.stem,)), _of_endings(a, b)}
    common = 0
    if a.folders != b.folders:
        kinds.add(_of_folders(a.folders, b.folders))
        pairs = zip(reversed(a.folders), reversed(b.folders), strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    told = tuple(kind for kind in KINDS if kind in kinds) or ("spelling",)
    return sum(COST[kind] for kind in told) - common / (common + 1), told


def _of_folders(a: tuple[str, ...], b: tuple[str, ...]) -> str:
    if _plain(a) == _plain(b):
        return _of_words(a, b)
    return "folder" if b[len(b) - len(a) :] == a else "path"


def _of_words(a: tuple[str, ...], b: tuple[str, ...]) -> str:
    if a == b:
        return ""
    return "case" if [w.casefold() for w in a] == [w.casefold() for w in b] else "zeros"


def _plain(words: Iterable[str]) -> list[str]:
    return [_number(word.casefold()) for word in words]


def _of_endings(a: _Name, b: _Name) -> str:
    if a.format and b.format and a.format != b.format:
        return "format"
    return "" if a.endings == b.endings else "ending"
