"""Which modules count as installed, and which as somebody's own code."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from lmdbench.core.code import closure
print(*closure(["mine"], ("lmdbench.methods",)))
"""


@pytest.mark.parametrize(
    ("folder", "installed", "followed"),
    [
        ("env/lib/python3/site-packages", None, ["mine"]),
        ("usr/lib/python3/dist-packages", None, ["mine"]),
        ("target", "lib-1.0.dist-info", ["mine"]),
        ("sources", None, ["lib", "lib.version", "mine"]),
    ],
)
def test_packages_that_lie_outside_of_the_environment_are_not_followed(
    tmp_path, folder, installed, followed
):
    """PYTHONPATH as environment modules set it, a user's site, and environments in layers; also
    that a name in a module, which is no package, is not looked for as a module."""
    packages = tmp_path / folder
    (packages / "lib").mkdir(parents=True)
    if installed:
        (packages / installed).mkdir()
    (packages / "lib" / "__init__.py").write_text("from lib.version import number\n")
    (packages / "lib" / "version.py").write_text("number = 1\n")
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.py").write_text("import lib\n")
    env = {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{own}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.split()) == followed
