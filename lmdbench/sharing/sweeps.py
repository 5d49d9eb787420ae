"""A sweep as others get it: which runs are its, what their rows are called, its file, plug-ins."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes, read_json, read_text
from lmdbench.core.folders import expanded
from lmdbench.runs.sources import PLUGINS

FORMAT = 1  # of a table's file
TABLE = "table.json"
FILE = "sweep.toml"
PLUGIN = re.compile(rf"{PLUGINS}(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+\.py")
KEY = re.compile(r"sweeps/[A-Za-z0-9_][A-Za-z0-9_.-]*/shared-[0-9a-f]{8}")


@dataclass(frozen=True)
class SharedSweep:
    """``labels``: keys of the runs that it asks for → what their rows are called. ``reference``:
    what its table compares them with. ``text``: its file. ``plugins``: name → source."""

    name: str
    labels: Mapping[str, str]
    reference: str
    text: str = ""
    plugins: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        """Name → content, of what stands for it in an archive and in a results folder."""
        table = {
            "format": FORMAT,
            "name": self.name,
            "reference": self.reference,
            "labels": dict(sorted(self.labels.items())),
        }
        files = {TABLE: (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()}
        if self.text:
            files[FILE] = self.text.encode()
        plugins = sorted(self.plugins.items())
        return {**files, **{f"{PLUGINS}/{name}": source for name, source in plugins}}

    @property
    def key(self) -> str:
        """Its folder below the results."""
        return f"sweeps/{self.name}/shared-{digest_of(self.files)}"


def digest_of(files: Mapping[str, bytes]) -> str:
    """8 digits that tell a shared sweep from another of its name."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\n{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()[:8]


def shared_folder(source: str) -> Path | None:
    """The folder of a shared sweep that is named by its path; None where it is none."""
    path = expanded(source)
    folder = path.parent if path.name == TABLE else path
    return folder if (folder / TABLE).is_file() else None


def read_shared(folder: Path) -> SharedSweep:
    """A shared sweep, with its file and plug-ins as text: nothing of it is executed.

    Raises UserError, naming the file, for one that is damaged or of another format.
    """
    sweep = parse_table(read_json(folder / TABLE), str(folder / TABLE))
    try:
        text = read_text(folder / FILE) if (folder / FILE).exists() else ""
        source = folder / PLUGINS
        plugins = {p.relative_to(source).as_posix(): read_bytes(p) for p in source.rglob("*.py")}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder}: cannot be read ({error})") from error
    return SharedSweep(sweep.name, sweep.labels, sweep.reference, text, plugins)


def parse_table(content: Any, where: str) -> SharedSweep:
    """What a table's file says. Raises UserError for what no export writes."""
    if isinstance(content, dict) and content.get("format") not in (None, FORMAT):
        raise UserError(
            f"{where}: written by another version of lmdbench (format {content['format']!a}; this "
            f"one reads {FORMAT}): use that version"
        )
    try:
        name, reference, labels = (content[key] for key in ("name", "reference", "labels"))
        words = [name, reference, *labels, *labels.values()]
        whole = all(isinstance(word, str) and word.isprintable() and word for word in words)
    except (TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise UserError(f"{where}: damaged, not what an export writes; get it anew")
    return SharedSweep(name, labels, reference)


def compare_command(results: str, key: str = "", reference: str = "") -> str:
    """What gives the table of the runs below a results folder, or of the shared sweep of that key
    with what it compares the others with."""
    words = ["lmdbench", "compare", "--results", results]
    words += ["--sweep", f"{results}/{key}", "--reference", reference] if key else []
    return shlex.join(words)
