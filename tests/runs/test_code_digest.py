"""What changes a method's digest, and what does not."""

import csv
import functools
import importlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import scipy

from lmdbench.core import settings
from lmdbench.core.code import LOADED, RANGES
from lmdbench.core.registry import load_plugin
from lmdbench.models.backbones import get_backbone
from lmdbench.runs import code_digest
from lmdbench.runs.code_digest import (
    begun_by,
    changed_part,
    code_digests,
    combined,
    method_digest,
    package_versions,
    plugin_sources,
)
from lmdbench.runs.record import CODE_PARTS
from lmdbench.training.method import METHODS, is_built_in
from lmdbench.training.samplers import InstanceSampler, register_sampler

SMALL = get_backbone("small")

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


def write(path: Path, text: str) -> None:
    """Other code, as a new process loads it."""
    path.write_text(text)
    LOADED.clear()


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    write(path, text.replace(old, new))


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


def test_what_describes_a_method_counts_in_another_class(tmp_path):
    helped = METHOD.replace("@register", "class Loop:\n    passes = 2\n\n\n@register")
    assert changes_digest(tmp_path, helped, "passes = 2", "passes = 3")


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
    write(helper, "SCALE = 2.0  # twice\n")
    assert method_digest(METHODS.get(tmp_path.name)) == before
    write(helper, "SCALE = 3.0\n")
    assert method_digest(METHODS.get(tmp_path.name)) != before


def test_an_edit_of_what_is_loaded_does_not_count_before_it_is_loaded_anew(tmp_path):
    """Nor in the sources that are kept, and in the helper that a plug-in imports."""
    name = tmp_path.name
    helper, path = tmp_path / f"{name}_helper.py", tmp_path / f"{name}.py"
    helper.write_text("SCALE = 2.0\n")
    text = HELPER.format(name=name)
    path.write_text(text)
    load_plugin(path)
    for file in (path, helper):
        file.write_text(file.read_text() + "MORE = 1\n")
    before = code_digests(METHODS[name], SMALL)
    sources = plugin_sources(METHODS[name], SMALL)
    assert sources == {f"{name}.py": text.encode(), f"{name}_helper.py": b"SCALE = 2.0\n"}
    importlib.reload(sys.modules[f"{name}_helper"])
    assert plugin_sources(METHODS[name], SMALL)[f"{name}_helper.py"] == helper.read_bytes()
    now = code_digests(METHODS[name], SMALL)
    assert {part for part in now if now[part] != before[part]} == {"method"}


EDITED_MEANWHILE = """
from pathlib import Path
import lmdbench.methods.ce as ce
old = ce.CrossEntropy.loss
def loss(self, batch):  # while it trains
    file = Path(ce.__file__)
    file.write_text(file.read_text() + "MORE = 1\\n")
    return old(self, batch)
ce.CrossEntropy.loss = loss
"""


def test_seeds_after_an_edit_record_the_code_that_trains_them(copy, toy_folder, tmp_path):
    """The first seed's training edits the method's file."""
    words = [
        *("run", "--method", "ce", "--dataset", "folder", "--data-root", str(toy_folder)),
        *("--backbone", "small", "--image-size", "24", "--set", "epochs=1", "--seeds", "0-1"),
        *("--results", str(tmp_path / "results")),
    ]
    before = in_copy(copy, f"{DIGEST_OF_CE}")
    in_copy(copy, EDITED_MEANWHILE + RUN.format(words=words).replace("main()", STOPPED))
    records = [json.loads(p.read_text()) for p in tmp_path.glob("results/**/run.json")]
    assert len(records) == 2
    assert {record["digests"]["method"] for record in records} == {before.strip()}
    assert in_copy(copy, f"{DIGEST_OF_CE}") != before


DIGEST_OF_CE = """
from lmdbench.runs.code_digest import method_digest
from lmdbench.training.method import METHODS
print(method_digest(METHODS["ce"]))
"""
STOPPED = """
try:
    main()
except SystemExit as stop:
    assert stop.code == 0, stop.code
"""


def test_parts_that_nobody_recorded_can_not_be_told():
    now = dict.fromkeys(CODE_PARTS, "new")
    assert changed_part({}, now) is None
    assert changed_part({"method": "new", "views": None}, now) is None
    assert changed_part({"method": "new", "views": "old"}, now) == "views"


def test_all_that_took_part_in_a_chain_of_attempts_counts():
    def attempt(code, store="images", ancestor="model"):
        return {**dict.fromkeys(CODE_PARTS, code), "store": store, "ancestor": ancestor}

    first, second, third = attempt("a"), attempt("b"), attempt("c")
    assert begun_by(first, first) == {}
    assert begun_by({}, first) == {}
    once = begun_by(first, second)
    assert once == {"begun": combined(dict.fromkeys(CODE_PARTS, "a"))}
    assert begun_by({**second, **once}, second) == once
    twice = begun_by({**second, **once}, third)
    assert len({*once.values(), *twice.values(), *begun_by(first, third).values()}) == 2
    assert twice.keys() == {"begun"}
    assert begun_by({**third, **begun_by(first, third)}, second) != twice
    others = begun_by(attempt("a", "x", "y"), first)
    assert others == {"begun_store": "x", "begun_ancestor": "y"}
    assert begun_by({**attempt("a", "z"), **others}, first).keys() == others.keys()


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


EDITABLE = """
import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location

class Editable:  # as that of an install with pip's -e, which no path leads to
    @staticmethod
    def find_spec(name, path=None, target=None):
        parent, _, child = name.rpartition(".")
        if name in FOLDERS:
            return spec_from_file_location(name, f"{{FOLDERS[name]}}/__init__.py")
        return PathFinder.find_spec(name, [FOLDERS[parent]]) if parent in FOLDERS else None

FOLDERS = {folders!r}
sys.meta_path.insert(0, Editable)
from lmdbench.models.backbones import BACKBONES
from lmdbench.runs.code_digest import code_digests
from lmdbench.training.method import METHODS
assert "lmdbench.runs.train" not in sys.modules
before = code_digests(METHODS["ce"], BACKBONES["small"])
import lmdbench.runs.train
assert code_digests(METHODS["ce"], BACKBONES["small"]) == before
print(*before.values())
"""


def test_digests_are_the_same_before_all_is_imported_and_however_it_is_installed(tmp_path):
    root = Path(__file__).resolve().parents[2]
    folders = {"lmdbench": root / "lmdbench"}
    folders |= {f"lmdbench.{name}": root / name for name in ("methods", "datasets")}
    program = EDITABLE.format(folders={name: str(path) for name, path in folders.items()})
    assert in_copy(tmp_path, program).split() == [*code_digests(METHODS["ce"], SMALL).values()]


def test_a_module_of_the_list_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(code_digest, "LOOP", (*code_digest.LOOP, "lmdbench.runs.trian"))
    with pytest.raises(LookupError, match=r"lmdbench\.runs\.trian has no file"):
        code_digests(METHODS["ce"], SMALL)


def named(*names):
    return lambda method: method.name in names


def seen(view):
    return lambda method: view in method.views


def drawn(sampler):
    return lambda m: sampler in (m.sampler if isinstance(m.sampler, tuple) else (m.sampler,))


ALL, NONE = (lambda _: True), (lambda _: False)
ADDED = ("", "\nADDED = 1\n")  # at the end of a file
VIEWS = "lmdbench/training/views"
METRICS = "lmdbench/evaluation/metrics"
ICC = named("lmd", "lmd-released", "mrc-vfc")
SAMPLERS_FILE = "lmdbench/training/samplers.py"
# Methods whose own files build on these modules, which so are a part of the method
BUILT_ON = {SAMPLERS_FILE: ("fs", "glmc", "ltrl"), VIEWS: ("cuda", "doda")}
# A file, what is edited in it → methods and backbones (None: all) that it acts on, in what part
ACTS_ON = {
    ("methods/lmd.py", *ADDED): (ICC, None, "method"),
    ("lmdbench/training/gaussians.py", *ADDED): (ICC, None, "method"),
    ("methods/ce.py", *ADDED): (named("ce"), None, "method"),
    ("lmdbench/training/method.py", *ADDED): (ALL, None, "loop"),
    ("lmdbench/training/engine.py", *ADDED): (ALL, None, "loop"),
    ("lmdbench/training/optimisation.py", *ADDED): (ALL, None, "loop"),
    ("lmdbench/models/tuning.py", *ADDED): (ALL, None, "loop"),
    ("lmdbench/models/parts.py", *ADDED): (ALL, None, "loop"),
    ("lmdbench/runs/train.py", *ADDED): (ALL, None, "loop"),
    ("lmdbench/runs/model.py", *ADDED): (ALL, None, "loop"),
    ("lmdbench/runs/execution.py", *ADDED): (NONE, None, ""),  # whether to train, not how
    (SAMPLERS_FILE, "dtype=torch.float64)", "dtype=torch.float32)"): (
        *(drawn("class-balanced"), None, "samplers"),
    ),
    (SAMPLERS_FILE, "torch.randperm(", "1 - 1 + torch.randperm("): (
        *(drawn("instance"), None, "samplers"),
    ),
    (SAMPLERS_FILE, *ADDED): (NONE, None, ""),  # which nobody uses
    (f"{VIEWS}/augmentation.py", "math.radians(45)", "math.radians(9)"): (
        *(seen("strong"), None, "views"),
    ),
    (f"{VIEWS}/augmentation.py", "(numbers < FLIP", "(numbers <= FLIP"): (
        *(seen("weak"), None, "views"),
    ),
    (f"{VIEWS}/augmentation.py", "MEAN = (0.485", "MEAN = (0.5"): (ALL, None, "views"),
    (f"{VIEWS}/augmentation.py", "SHIFT_LIMIT = 15", "SHIFT_LIMIT = 9"): (
        *(seen("strong"), None, "views"),
    ),
    (f"{VIEWS}/warps.py", "ELASTIC_LATTICE = ", "ELASTIC_LATTICE = 1 + "): (
        *(seen("strong"), None, "views"),
    ),
    ("lmdbench/models/small.py", *ADDED): (ALL, {"small"}, "backbone"),
    ("lmdbench/models/backbones.py", "classifier, nn.Identity()", "classifier, nn.Tanh()"): (
        *(ALL, None, "backbone"),
    ),
    ("lmdbench/models/backbones.py", '"rounds": 10', '"rounds": 11'): (NONE, None, ""),  # a setting
    (f"{METRICS}/recalls.py", "margins.right, margins.images", "margins.right, True"): (
        *(ALL, None, "loop"),  # selects the best epoch
    ),
    ("lmdbench/data/store/decoding.py", "Resampling.BILINEAR", "Resampling.BICUBIC"): (
        *(ALL, None, "loop"),
    ),
    (f"{METRICS}/recalls.py", *ADDED): (NONE, None, ""),
    ("lmdbench/cli/run.py", *ADDED): (NONE, None, ""),  # acts on no number
}
EDITS = """
import json
from pathlib import Path
from lmdbench.core.code import LOADED
from lmdbench.runs.code_digest import code_digests
from lmdbench.training.method import METHODS
from lmdbench.models.backbones import BACKBONES

def digests():
    return {
        (name, backbone, part): digest
        for name in METHODS.names()
        for backbone in ("small", "efficientnet-lite0", "resnet18")
        for part, digest in code_digests(METHODS.get(name), BACKBONES[backbone]).items()
    }

before, changed = digests(), []
for file, old, new in EDITED:
    path = Path(file)
    text = path.read_text()
    assert old in text, (file, old)
    path.write_text(text.replace(old, new, 1) if old else text + new)
    LOADED.clear()  # as a new process begins
    changed.append([key for key, digest in digests().items() if before[key] != digest])
    path.write_text(text)
LOADED.clear()
assert digests() == before
print(json.dumps(changed))
"""


def test_an_edit_changes_the_digests_of_what_it_acts_on(copy):
    changes = json.loads(in_copy(copy, f"EDITED = {list(ACTS_ON)}\n{EDITS}"))
    methods = [METHODS.get(name) for name in METHODS.names()]
    for (edit, (acts_on, backbones, part)), changed in zip(ACTS_ON.items(), changes, strict=True):
        of = {"small", "efficientnet-lite0", "resnet18"} if backbones is None else backbones
        names = {method.name for method in methods if is_built_in(method) and acts_on(method)}
        expected = {(name, b, part) for name in names for b in of}
        for place, built_on_it in BUILT_ON.items():
            if edit[0].startswith(place):
                expected |= {(name, b, "method") for name in built_on_it for b in of}
        assert {tuple(key) for key in changed} == expected, edit


PLUGIN = """
import torch
from torch import nn
from lmdbench.models.backbones import register_backbone
from lmdbench.training.method import Method, register_method
from lmdbench.training.samplers import InstanceSampler, register_sampler
from lmdbench.training.views.augmentation import normalise, register_view
{imports}

@register_method("{name}")
class Mine(Method):
    title = "A method"
    {own}

    def loss(self, batch):
        return self.model(batch.images).sum()
"""
HELPED = {  # what a helper file has → of a plug-in, what it registers by it, and the part it is in
    "view": (
        "def flat(pixels):\n    return normalise(pixels / 255)\n",
        "register_view('{name}', lambda n, generator: ())({name}_helper.flat)",
        "views",
    ),
    "sampler": (
        "class Mine(InstanceSampler):\n    pass\n",
        "register_sampler('{name}')({name}_helper.Mine)",
        "samplers",
    ),
    "backbone": (
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n",
        "register_backbone('{name}', title='Mine')({name}_helper.net)",
        "backbone",
    ),
}


@pytest.mark.parametrize("kind", HELPED)
@pytest.mark.parametrize("lazy", [False, True])
def test_plug_ins_of_every_kind_count_in_the_runs_that_use_them(tmp_path, kind, lazy):
    """In a helper file, whose own helper is imported when it is needed, or by the file itself."""
    name = f"{tmp_path.name}_{kind}"
    helper, registering, part = HELPED[kind]
    beside, deeper = tmp_path / f"{name}_helper.py", tmp_path / f"{name}_deep" / "numbers.py"
    deeper.parent.mkdir()
    (deeper.parent / "__init__.py").write_text("")
    deeper.write_text("N = 2\n")
    how = f"from {name}_deep.numbers import N\n"
    if lazy:
        how = f"def later():\n    from {name}_deep import numbers\n    return numbers.N\n"
    imports = PLUGIN[: PLUGIN.index("{imports}")]
    beside.write_text(f"{imports}{how}{helper}")
    own = {"view": f"views = ('{name}',)", "sampler": f"sampler = '{name}'"}.get(kind, "")
    path = tmp_path / f"{name}.py"
    registered = f"import {name}_helper\n{registering.format(name=name)}\n"
    path.write_text(PLUGIN.format(imports=registered, name=name, own=own))
    load_plugin(path)
    backbone = get_backbone(name if kind == "backbone" else "small")

    def changed(file, text):
        before = code_digests(METHODS.get(name), backbone), code_digests(METHODS.get("ce"), SMALL)
        write(file, text)
        now = code_digests(METHODS.get(name), backbone)
        assert code_digests(METHODS.get("ce"), SMALL) == before[1]
        return {part for part, digest in now.items() if before[0][part] != digest}

    assert changed(beside, beside.read_text() + "# a comment\n") == set()
    assert changed(beside, beside.read_text() + "MORE = 1\n") == {"method", part}
    assert changed(deeper, "N = 3\n") == {"method", part}
    sources = plugin_sources(METHODS.get(name), backbone)
    assert sources == {
        f"{name}.py": path.read_bytes(),
        f"{name}_helper.py": beside.read_bytes(),
        f"{name}_deep/__init__.py": b"",
        f"{name}_deep/numbers.py": deeper.read_bytes(),
    }


@pytest.mark.parametrize(
    ("kind", "what", "label"),
    [
        ("view", "its views of images", "code of views="),
        ("sampler", "its sampler of images", "code of samplers="),
        ("backbone", "the backbone {name}", "code of backbone="),
    ],
)
def test_an_edit_of_a_plug_in_is_refused_before_resume_and_never_averaged(
    toy_run, lmdbench, tmp_path, kind, what, label
):
    """What it registers is in another file than the method that uses it."""
    name = f"{tmp_path.name}-{kind}".replace("_", "-")
    stem = name.replace("-", "_")
    helper, registering, _ = HELPED[kind]
    beside, method = tmp_path / f"{stem}_helper.py", tmp_path / f"{stem}_method.py"
    beside.write_text(PLUGIN[: PLUGIN.index("{imports}")] + helper)
    other = tmp_path / f"{stem}.py"
    other.write_text(
        "from lmdbench.models.backbones import register_backbone\n"
        "from lmdbench.training.samplers import register_sampler\n"
        "from lmdbench.training.views.augmentation import register_view\n"
        f"import {stem}_helper\n"
        + registering.format(name=name).replace(f"{name}_helper", f"{stem}_helper")
    )
    own = {"view": f"views = ('{name}',)", "sampler": f"sampler = '{name}'"}.get(kind, "")
    method.write_text(PLUGIN.format(imports="", name=name, own=own).replace(".sum()", ".mean()"))
    words = ["--plugin", other, "--plugin", method, "--set", "epochs=1", "--set", "lr=0"]
    words += ["--backbone", name] if kind == "backbone" else []
    assert toy_run(name, *words).code == 0
    with beside.open("a") as file:
        file.write("MORE = 1\n")
    (done,) = tmp_path.glob(f"results/*/*/{name}/*/done")
    finished = done.read_text()
    for _ in range(2):  # finished, then as if it had been interrupted
        refused = toy_run(name, *words)
        assert refused.code == 2
        assert f"the code of {what.format(name=name)} has changed since" in refused.err
        done.unlink(missing_ok=True)
    done.write_text(finished)
    assert toy_run(name, *words, "--seeds", "1").code == 0
    shown = lmdbench("compare", "--results", tmp_path / "results", "--format", "csv").out
    labels = {row["label"] for row in csv.DictReader(io.StringIO(shown))}
    assert len(labels) == 2
    assert all(label in one for one in labels)


def test_the_plug_in_file_that_calls_a_helper_to_register_counts(tmp_path):
    name = tmp_path.name
    (tmp_path / f"{name}_nets.py").write_text(
        "from torch import nn\n"
        "def make(width):\n"
        "    def net():\n"
        "        pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()\n"
        "        return nn.Sequential(nn.Conv2d(3, width, 3, 4), *pooled)\n"
        "    return net\n"
    )
    path = tmp_path / f"{name}.py"
    path.write_text(
        "from lmdbench.models.backbones import register_backbone\n"
        f"from {name}_nets import make\n"
        f"register_backbone({name!r}, title='Mine')(make(8))\n"
    )
    load_plugin(path)
    before = code_digests(METHODS["ce"], get_backbone(name))
    assert set(plugin_sources(METHODS["ce"], get_backbone(name))) == {path.name, f"{name}_nets.py"}
    edited(path, "make(8)", "make(8 if title else 16)")
    now = code_digests(METHODS["ce"], get_backbone(name))
    assert {part for part in now if now[part] != before[part]} == {"backbone"}


def test_what_has_no_name_of_its_own_is_refused_in_a_line():
    draw_by_size = functools.partial(InstanceSampler)
    with pytest.raises(TypeError, match=r"sampler 'part' is a partial; register a function"):
        register_sampler("part")(draw_by_size)


def test_a_view_of_one_file_counts_in_a_method_of_another(tmp_path):
    name = tmp_path.name
    view, method = tmp_path / f"{name}_v.py", tmp_path / f"{name}_m.py"
    view.write_text(
        "from lmdbench.training.views.augmentation import normalise, register_view\n"
        f"@register_view('{name}', lambda n, generator: ())\n"
        "def flat(pixels):\n    return normalise(pixels / 255)\n"
    )
    method.write_text(PLUGIN.format(imports="", name=name, own=f"views = ('{name}',)"))
    load_plugin(view)
    load_plugin(method)
    before = code_digests(METHODS.get(name), SMALL)
    edited(view, "/ 255", "/ 256")
    now = code_digests(METHODS.get(name), SMALL)
    assert {part for part in now if now[part] != before[part]} == {"views"}
    assert set(plugin_sources(METHODS.get(name), SMALL)) == {view.name, method.name}


def test_versions_of_packages_that_a_plug_in_imports(tmp_path):
    path = tmp_path / f"{tmp_path.name}.py"
    path.write_text(f"import scipy.special\n{METHOD.format(name=tmp_path.name)}")
    load_plugin(path)
    versions = package_versions(METHODS.get(tmp_path.name), SMALL)
    assert versions["scipy"] == scipy.__version__
    assert package_versions(METHODS.get("ce"), SMALL) == {}


RUN = "from lmdbench.cli.main import main; sys.argv = ['lmdbench', *{words!r}]\nmain()"


def test_seeds_of_other_code_are_never_averaged(copy, lmdbench, toy_folder, tmp_path):
    """An edit of the loop between seeds: the first is refused, and has a row of its own."""
    results = str(tmp_path / "results")
    words = [
        *("run", "--method", "ce", "--dataset", "folder", "--data-root", str(toy_folder)),
        *("--backbone", "small", "--image-size", "24", "--set", "epochs=2", "--results", results),
    ]

    def call(*more):
        program = f"import sys; sys.path.insert(0, {str(copy)!r})\n"
        program += RUN.format(words=[*words, *more])
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=copy, check=False
        )

    assert call("--seeds", "0").returncode == 0
    edited(
        copy / "lmdbench" / "training" / "optimisation.py",
        "momentum=s.momentum, **usual",
        "momentum=s.momentum, nesterov=True, **usual",
    )
    again = call("--seeds", "0")
    assert again.returncode != 0
    assert "the code of lmdbench's training has changed since this run" in again.stderr
    assert "Traceback" not in again.stderr
    assert call("--seeds", "1").returncode == 0
    shown = lmdbench("compare", "--results", results, "--format", "csv").out
    labels = {row["label"] for row in csv.DictReader(io.StringIO(shown))}
    assert len(labels) == 2
    assert all("training code=" in label for label in labels)
