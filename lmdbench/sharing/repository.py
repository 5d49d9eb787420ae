"""A repository of reference results: entries that anybody can check, and add to.

An entry is a folder with an archive of runs (see ``export``) and a card that says how they came
about. What is checked of an archive is what an import checks, and beside it what makes results fit
to be referred to.
"""

from __future__ import annotations

import datetime
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from lmdbench.comparison.results import Results, read_results
from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes, write_bytes, write_text
from lmdbench.core.schema import line, read_document, wanted
from lmdbench.core.words import size
from lmdbench.sharing.archive import new_folder, open_archive
from lmdbench.sharing.fit import refuse_unfit
from lmdbench.sharing.importing import carry_out, look

ARCHIVE = "runs.zip"
CARD = "entry.toml"
MOST_BYTES = 25_000_000  # of an entry's archive: a repository of hundreds is still cloned
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Card:
    """What an entry says of itself: a line each. ``source``: where the code or the definition of
    methods is that lmdbench does not have; else empty."""

    title: str
    by: str
    command: str
    date: str  # YYYY-MM-DD, on which it was submitted
    machine: str = ""
    source: str = ""


@dataclass(frozen=True)
class Entry:
    """An entry that passed all checks. ``runs``: the keys of its runs, also of those that others
    started from."""

    name: str
    card: Card
    runs: frozenset[str]
    nbytes: int


def gather(repository: Path, into: Path) -> Iterator[Entry | UserError]:
    """Check the entries, one after the other, each against those before, and put their runs into a
    results folder. What is wrong with one does not stop the others.

    Raises UserError for a repository that there is not.
    """
    if not repository.is_dir():
        raise UserError(f"{repository}: no such folder of reference results")
    for folder in sorted(path for path in repository.iterdir() if not _is_page(path)):
        try:
            yield add(folder, into)
        except UserError as error:
            yield error


def _is_page(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix == ".md"


def add(folder: Path, into: Path) -> Entry:
    """The entry in a folder, its runs put beside those that are in a results folder already.
    Raises UserError for the first thing that is wrong with it; then nothing was put there."""
    if not folder.is_dir() or not NAME.fullmatch(folder.name):
        raise UserError(
            f"{folder}: no entry; one is a folder, named by small letters, digits and hyphens"
        )
    if links := [path for path in (folder, *sorted(folder.iterdir())) if path.is_symlink()]:
        raise UserError(f"{links[0]}: a link; an entry is a folder of its own files")
    if strangers := {path.name for path in folder.iterdir()} - {ARCHIVE, CARD}:
        raise UserError(f"{folder}: has {min(strangers)!r}; an entry is {ARCHIVE} and {CARD}")
    card = read_card(folder / CARD)
    return Entry(
        folder.name,
        card,
        _add_runs(folder / ARCHIVE, card, into),
        (folder / ARCHIVE).stat().st_size,
    )


def submit(archive: Path, name: str, card: Card, repository: Path, into: Path) -> Entry:
    """Check a contribution against all that is in a repository, and write it there as an entry.

    ``into``: an empty results folder to work in. Raises UserError, and then writes nothing, for the
    first thing that is wrong with it or with what is there, and for a name that is taken.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"--name {name!r}: give small letters, digits and hyphens, such as focal-isic2019"
        )
    if (repository / name).exists():
        raise UserError(f"--name {name}: there is such an entry already; choose another name")
    for found in gather(repository, into) if repository.is_dir() else ():
        if isinstance(found, UserError):
            raise UserError(f"the repository itself is not sound: {found}")
    runs = _add_runs(archive, card, into)
    content = read_bytes(archive)
    with new_folder(repository / name) as folder:
        write_bytes(folder / ARCHIVE, content)
        write_text(folder / CARD, _card_text(card))
    return Entry(name, card, runs, len(content))


# The card


def read_card(path: Path) -> Card:
    """Raises UserError, naming the line, for what is no card."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; `lmdbench results submit` writes it")
    known = {field.name: line for field in fields(Card)} | {"date": _date}
    content = read_document(path).fields((), known, needed=["title", "by", "command", "date"])
    return Card(**content)


def _is_date(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.date.fromisoformat(value))
    except ValueError:
        return False


_date = wanted('a date in quotes, such as "2026-01-31"', _is_date)


def _card_text(card: Card) -> str:
    values = {field.name: getattr(card, field.name) for field in fields(Card)}
    lines = [f"{name} = {json.dumps(text, ensure_ascii=False)}" for name, text in values.items()]
    return "\n".join(one for one in lines if not one.endswith('""')) + "\n"


# The runs


def _add_runs(path: Path, card: Card, into: Path) -> frozenset[str]:
    """Check an archive and put its runs into a results folder. Returns their keys."""
    if path.is_dir():
        raise UserError(f"{path}: a folder; give the zip file of `lmdbench results export`")
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise UserError(
            f"{path}: {size(path.stat().st_size)}, and an entry has {size(MOST_BYTES)} at most; "
            "export fewer methods or seeds"
        )
    there = read_results(into) if into.is_dir() else Results(into, (), ())
    with open_archive(path) as archive:
        looked = look(archive, there)
        for found in looked.runs:
            if found.state == "in the way":
                raise UserError(
                    f"{path}: {found.entry.key}: another entry has this run with other predictions"
                )
        if all(found.state == "already there" for found in looked.runs):
            raise UserError(f"{path}: holds no run that the entries there don't have already")
        if looked.ignored:
            raise UserError(f"{path}: {looked.ignored[0]!r} is no file of an export; leave it out")
        carry_out(archive, looked, into)
    keys = frozenset(found.entry.key for found in looked.runs)
    try:
        refuse_unfit(path, card.source, keys, there, read_results(into))
    except UserError:
        for found in (*looked.runs, *looked.audits, *(one for one, _ in looked.sweeps)):
            if found.state == "new":
                shutil.rmtree(into / found.entry.key)
        raise
    return keys
