"""Data flows one way: a lower folder never imports an upper one."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the bottom to the top; a module may import its own layer and those below.
LAYERS = [
    {
        "version",
        "errors",
        "registry",
        "settings",
        "files",
        "record",
        "randomness",
        "environment",
        "cores",
        "execution",
    },
    {"events"},
    {"data", "models", "evaluation", "download"},
    {"calibration"},
    {"definition"},
    {"method"},
    {"methods", "datasets"},
    {"audit"},
    {"digest"},
    {"run", "frozen"},
    {"starting"},
    {"request", "training"},
    {"predicting", "targets"},
    {"reporting", "sharing"},
    {"sweep", "bench"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def sources():
    for path in sorted(ROOT.glob("lmdbench/**/*.py")):
        yield path.relative_to(ROOT / "lmdbench").parts[0].removesuffix(".py"), path
    for folder in ("methods", "datasets"):
        for path in sorted(ROOT.glob(f"{folder}/*.py")):
            yield folder, path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lmdbench"):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("lmdbench"))


@pytest.mark.parametrize(
    ("layer", "path"), [pytest.param(*s, id=str(s[1].relative_to(ROOT))) for s in sources()]
)
def test_imports_only_from_its_own_layer_and_below(layer, path):
    if layer == "__init__":
        return
    for module in imported(path):
        other = module.split(".")[1] if "." in module else "version"
        assert LEVEL[other] <= LEVEL[layer], f"{layer} imports {module}"
