"""Names of classes that people typed: which are the same but for how they are spelt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

JOINTS = re.compile(r"(?<=\w)[\s_‐‑‒–—-]+(?=\w)")  # what separates two words, or not
MARKED = re.compile(r"([a-z])[\u0300-\u036f]+")  # a Latin letter with an accent
APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼ´`′＇", "'"))
NUMBER = re.compile(r"(\d{1,18})(\.0+)?")


def spelling(name: str) -> str:
    """The same text for names that differ only in case, in blanks, underscores or hyphens between
    words, in dots behind them, in accents, in the form of letters and apostrophes in Unicode, or in
    how a program writes a whole number (``1``, ``01``, ``1.0``)."""
    straight = unicodedata.normalize("NFKC", name.translate(APOSTROPHES))
    plain = unicodedata.normalize("NFKD", straight.casefold())
    bare = unicodedata.normalize("NFKC", MARKED.sub(r"\1", plain))
    visible = "".join(c for c in bare if unicodedata.category(c) not in ("Cf", "Cc"))
    joined = JOINTS.sub(" ", visible.strip().rstrip(".,;: ").strip("_ "))
    number = NUMBER.fullmatch(joined)
    if number:
        return str(int(number[1]))
    return re.sub(r"(?<!\d)\s|\s(?!\d)", "", joined)  # 1 2 is not 12


def alike(names: Iterable[str]) -> list[list[str]]:
    """The names of which there are several spellings, in the order given."""
    spellings: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        spellings.setdefault(spelling(name), []).append(name)
    return [several for several in spellings.values() if len(several) > 1]


def has_controls(name: str) -> bool:
    """Whether it has a line break, a tab or another character that is no text."""
    return any(unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") for c in name)
