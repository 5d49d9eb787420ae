"""Data flows one way: a lower room never imports an upper one, and nothing stands in a circle."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"lmdbench": "lmdbench", "lmdbench.methods": "methods", "lmdbench.datasets": "datasets"}

# From the bottom to the top: a room imports from itself and from those below, never from beside.
FLOORS = [
    {"version"},
    {"core"},
    {"data", "evaluation", "training.views"},
    {"data.splits", "download", "evaluation.metrics"},
    {"data.store", "models"},
    {"training"},
    {"data.folder", "methods", "training.loggers"},
    {"data.check", "datasets", "runs"},
    {"bench", "comparison", "doctor", "sweep.config"},
    {"housekeeping", "reporting.tables", "sharing", "sweep.executors"},
    {"reporting.plots", "sweep"},
    {"reporting.page", "sweep.tune"},
    {"api", "reporting.board"},
    {"cli"},
    {"cli.data", "cli.features", "cli.results", "cli.sweep"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Old places of what plug-ins import, which say where it is now
FORWARDING = {"lmdbench.method", "lmdbench.settings", "lmdbench.data.batches"}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return {name: path for name, path in found.items() if name not in FORWARDING}


def room(module: str) -> str:
    """The package that a module lies in, or the module itself at the top."""
    inner = module.removeprefix("lmdbench").lstrip(".")
    path = modules().get(module)
    is_package = module in FOLDERS or (path is not None and path.name == "__init__.py")
    return inner if is_package or "." not in inner else inner.rpartition(".")[0]


@cache
def imported(path: Path) -> tuple[str, ...]:
    return tuple(imports(ast.parse(path.read_text())))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lmdbench"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules() else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("lmdbench"))


@pytest.mark.parametrize("module", [name for name in modules() if name != "lmdbench"])
def test_imports_only_from_its_own_room_and_below(module):
    own = room(module)
    for name in imported(modules()[module]):
        other = room(name)
        assert other == own or FLOOR[other] < FLOOR[own], f"{module} imports {name}"


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: set(imported(path)) - {module} for module, path in modules().items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


WHAT_PLANS = """
import sys
import lmdbench.runs.train
import lmdbench.sweep.plan
from lmdbench.training.method import built_in_methods
built_in_methods()
print(sorted({"torch", "torch._dynamo", "torchvision"} & sys.modules.keys()))
"""


def test_what_trains_nothing_loads_no_compiler():
    """Which takes as long as all else that ``sweep plan`` imports."""
    done = subprocess.run([sys.executable, "-c", WHAT_PLANS], capture_output=True, text=True)
    assert done.stdout == "['torch']\n", done.stderr
