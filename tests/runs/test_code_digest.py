"""What changes a method's digest, and what does not."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmdbench.core import settings
from lmdbench.core.registry import load_plugin
from lmdbench.runs.code_digest import RANGES, changed_part, method_digest
from lmdbench.runs.record import CODE_PARTS
from lmdbench.training.method import METHODS, is_built_in

METHOD = '''
"""A method of a test."""
from lmdbench.training.method import Method, register_method

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
).replace(
    "from lmdbench.training.method",
    "from dataclasses import dataclass\nfrom lmdbench.training.method",
)
IMPORTS = (
    "from typing import Annotated\n"
    "from lmdbench.core.settings import Choice, LogUniform, at_least\n"
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


HELPER = METHOD.replace("from lmdbench", "from {name}_helper import SCALE\nfrom lmdbench").replace(
    ".sum()", ".sum() * SCALE"
)


def test_what_a_plug_in_imports_from_beside_it_counts(tmp_path):
    """A number has no module that it tells of."""
    helper = tmp_path / f"{tmp_path.name}_helper.py"
    helper.write_text("SCALE = 2.0\n")
    path = tmp_path / f"{tmp_path.name}.py"
    path.write_text(HELPER.format(name=tmp_path.name))
    load_plugin(path)
    before = method_digest(METHODS.get(tmp_path.name))
    helper.write_text("SCALE = 2.0  # twice\n")
    assert method_digest(METHODS.get(tmp_path.name)) == before
    helper.write_text("SCALE = 3.0\n")
    assert method_digest(METHODS.get(tmp_path.name)) != before


def test_parts_that_nobody_recorded_can_not_be_told():
    now = dict.fromkeys(CODE_PARTS, "new")
    assert changed_part({}, now) is None
    assert changed_part({"method": "new", "views": None}, now) is None
    assert changed_part({"method": "new", "views": "old"}, now) == "views"


@pytest.fixture
def copy(tmp_path):
    """A copy of the sources, so that a file can be changed."""
    root = Path(__file__).resolve().parents[2]
    shutil.copytree(root / "lmdbench", tmp_path / "copy" / "lmdbench")
    for folder in ("methods", "datasets"):
        shutil.copytree(root / folder, tmp_path / "copy" / folder)
        (tmp_path / "copy" / "lmdbench" / folder).symlink_to(tmp_path / "copy" / folder)
    return tmp_path / "copy"


def in_copy(copy, code):
    """What a program prints that imports lmdbench from there."""
    program = f"import sys; sys.path.insert(0, {str(copy)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=copy
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ACTS_ON = {  # file → methods and backbones (None: all of them) and the part that it changes
    "methods/lmd.py": ({"lmd", "lmd-released", "mrc-vfc"}, None, "method"),
    "lmdbench/training/gaussians.py": ({"lmd", "lmd-released", "mrc-vfc"}, None, "method"),
    "methods/ce.py": ({"ce"}, None, "method"),
    "lmdbench/training/method.py": (None, None, "loop"),
    "lmdbench/runs/train.py": (None, None, "loop"),
    "lmdbench/training/samplers.py": (None, None, "loop"),
    "lmdbench/training/views/augmentation.py": (None, None, "views"),
    "lmdbench/training/views/warps.py": (None, None, "views"),
    "lmdbench/models/small.py": (None, {"small"}, "backbone"),
    "lmdbench/cli/run.py": (set(), None, ""),  # acts on no number
}
EDITS = """
import json
from pathlib import Path
from lmdbench.runs.code_digest import code_digests
from lmdbench.training.method import METHODS, is_built_in
from lmdbench.models.backbones import BACKBONES

def digests():
    return {
        (name, backbone, part): digest
        for name in METHODS.names()
        for backbone in ("small", "efficientnet-lite0", "resnet18")
        for part, digest in code_digests(METHODS.get(name), BACKBONES[backbone]).items()
    }

before, changed = digests(), {}
for file in FILES:
    path = Path(file)
    text = path.read_text()
    path.write_text(text + "\\nADDED = 1\\n")
    changed[file] = [key for key, digest in digests().items() if before[key] != digest]
    path.write_text(text)
print(json.dumps(changed))
"""


def test_an_edit_changes_the_digests_of_what_it_acts_on(copy):
    changed = json.loads(in_copy(copy, f"FILES = {list(ACTS_ON)}\n{EDITS}"))
    for file, (methods, backbones, part) in ACTS_ON.items():
        found = {tuple(key) for key in changed[file]}
        of = {"small", "efficientnet-lite0", "resnet18"} if backbones is None else backbones
        names = METHODS.names() if methods is None else methods
        built_in = {name for name in names if is_built_in(METHODS.get(name))}
        assert found == {(name, b, part) for name in built_in for b in of}, file


RUN = "from lmdbench.cli.main import main; sys.argv = ['lmdbench', *{words!r}]\nmain()"


def test_seeds_of_other_code_are_never_averaged(copy, toy_folder, tmp_path):
    """An edit of the loop between seeds: the first is refused, and has a row of its own."""
    results = str(tmp_path / "results")
    words = [
        *("run", "--method", "ce", "--dataset", "folder", "--data-root", str(toy_folder)),
        *("--backbone", "small", "--image-size", "24", "--set", "epochs=2", "--results", results),
    ]

    def call(*more):
        program = f"import sys; sys.path.insert(0, {str(copy)!r})\n" + RUN.format(
            words=[*words[: 0 if more[0] == "compare" else None], *more]
        )
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=copy, check=False
        )

    assert call("--seeds", "0").returncode == 0
    edited(
        copy / "lmdbench" / "training" / "method.py", "fused=True,", "fused=True, nesterov=True,"
    )
    again = call("--seeds", "0")
    assert again.returncode != 0
    assert "the code of lmdbench's training has changed since this run" in again.stderr
    assert "Traceback" not in again.stderr
    assert call("--seeds", "1").returncode == 0
    shown = call("compare", "--results", results, "--format", "csv").stdout
    labels = {row["label"] for row in csv.DictReader(io.StringIO(shown))}
    assert len(labels) == 2
    assert all("training code=" in label for label in labels)
