"""What changes a method's digest, and what does not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmdbench import settings
from lmdbench.digest import RANGES, method_digest
from lmdbench.method import METHODS
from lmdbench.registry import load_plugin

METHOD = '''
"""A method of a test."""
from lmdbench.method import Method, register_method

@register_method("{name}")
class Mine(Method):
    """Says something."""

    title = "A title"

    def loss(self, batch):
        return self.model(batch.images).sum()
'''


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def changes_digest(folder: Path, method: str, old: str, new: str) -> bool:
    """Whether an edit of a plug-in's method counts as other code."""
    path = folder / f"{folder.name}.py"
    path.write_text(method.format(name=folder.name))
    load_plugin(path)
    before = method_digest(METHODS.get(folder.name))
    edited(path, old, new)
    return method_digest(METHODS.get(folder.name)) != before


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("Says something.", "Says something else.", False),
        ('title = "A title"', 'title = "Another"', False),
        ("    title", '    authors = {"lr": 0.1}\n    passes = (2, 1)\n    title', False),
        ("return self", "# why\n        return  self", False),
        (".sum()", ".mean()", True),
    ],
)
def test_code_counts_and_descriptions_do_not(tmp_path, old, new, counts):
    assert changes_digest(tmp_path, METHOD, old, new) == counts


SEARCHED = METHOD.replace(
    "    def loss",
    """    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        gamma: float = 2.0

    def loss""",
).replace("from lmdbench.method", "from dataclasses import dataclass\nfrom lmdbench.method")
IMPORTS = (
    "from typing import Annotated\nfrom lmdbench.settings import Choice, LogUniform, at_least\n"
)


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("from dataclasses", f"{IMPORTS}from dataclasses", True),  # at_least is no range
        ("from dataclasses", f"{IMPORTS.replace(', at_least', '')}from dataclasses", False),
        ("gamma: float", "gamma: Annotated[float, LogUniform(0.1, 10.0)]", False),
        ("gamma: float", "gamma: Annotated[float, Choice(1.0, 2.0)]", False),
        ("gamma: float", "gamma: Annotated[int, Choice(1, 2)]", True),
        ("gamma: float", "gamma: Annotated[float, other(1.0)]", True),
        ("gamma: float = 2.0", "gamma: Annotated[float, Choice(1.0, 2.0)] = 1.0", True),
    ],
)
def test_where_a_setting_is_searched_does_not_count(tmp_path, old, new, counts):
    assert changes_digest(tmp_path, SEARCHED, old, new) == counts


def test_every_kind_of_range_is_known_to_the_digest():
    kinds = {name for name, kind in vars(settings).items() if _is_kind_of_range(kind)}
    assert {"Annotated", *kinds} == RANGES


def _is_kind_of_range(kind):
    return isinstance(kind, type) and issubclass(kind, settings.Range) and kind != settings.Range


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("methods/lmd.py", {"lmd", "lmd-released", "mrc-vfc"}),
        ("lmdbench/calibration.py", {"lmd", "lmd-released", "mrc-vfc"}),
        ("methods/ce.py", {"ce"}),
        ("lmdbench/method.py", set()),  # the harness has a version of its own
    ],
)
def test_a_digest_covers_the_method_files_it_builds_on(tmp_path, file, changed):
    """In a copy of the sources, so that a file can be changed."""
    root = Path(__file__).resolve().parents[1]
    shutil.copytree(root / "lmdbench", tmp_path / "lmdbench")
    for folder in ("methods", "datasets"):
        shutil.copytree(root / folder, tmp_path / folder)
        (tmp_path / "lmdbench" / folder).symlink_to(tmp_path / folder)

    def digests() -> dict[str, str]:
        code = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
            "from lmdbench.method import METHODS\n"
            "from lmdbench.digest import method_digest\n"
            "for name in METHODS.names(): print(name, method_digest(METHODS.get(name)))"
        )
        lines = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout.splitlines()
        return dict(line.split() for line in lines)

    before = digests()
    path = tmp_path / file
    path.write_text(path.read_text() + "\nADDED = 1\n")
    after = digests()
    assert {name for name in before if after[name] != before[name]} == changed
