"""Places, also of a user that the machine does not know."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.core.folders import (
    COMPILERS,
    default_cache,
    default_results,
    expanded,
    settle_libraries,
)

UNKNOWN = ("unshare", "-U", "--map-user=54321", "--map-group=54321")


@pytest.fixture
def nobody(tmp_path: Path):
    """Runs Python code as a container's user without an entry in passwd, and without HOME."""
    try:
        subprocess.run([*UNKNOWN, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no user namespaces: {error}")

    def run(code: str, **env: object) -> str:
        variables = {name: str(value) for name, value in env.items()}
        command = [*UNKNOWN, sys.executable, "-c", code]
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True)
        return done.stdout + done.stderr

    return run


MAIN = "import sys; from lmdbench.cli.main import main; sys.argv[1:] = {}; main()"


def test_the_home_folder_stands_for_its_sign(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.delenv("LMDBENCH_CACHE", raising=False)
    assert expanded("~/a") == Path("/somewhere/a")
    assert default_cache() == Path("/somewhere/.cache/lmdbench")
    monkeypatch.setenv("LMDBENCH_CACHE", "~/c")
    monkeypatch.setenv("LMDBENCH_RESULTS", "~/r")
    assert (default_cache(), default_results()) == (Path("/somewhere/c"), Path("/somewhere/r"))


def test_the_home_of_a_user_who_is_not_there(lmdbench):
    with pytest.raises(UserError, match=r"~nobody-of-that-name/r: there is no home folder"):
        expanded("~nobody-of-that-name/r")
    for option in ("--results", "--data-root", "--plugin"):
        outcome = lmdbench(
            "run", "--method", "ce", "--dataset", "demo", option, "~nobody-of-that-name/r"
        )
        assert outcome.code == 2
        assert outcome.err.count("\n") == 1
        assert "give the whole path" in outcome.err


def test_without_home_a_line_says_what_to_set(nobody):
    for words in (["datasets", "show", "demo"], ["data", "audit", "demo"]):
        said = nobody(MAIN.format(words))
        assert said.count("\n") == 1
        assert "set LMDBENCH_CACHE to a folder" in said
    said = nobody(MAIN.format(["datasets", "show", "demo"]), LMDBENCH_CACHE="c")
    assert said.startswith("demo")


def test_libraries_find_a_name_and_places_without_home(nobody, tmp_path):
    code = """
import getpass, os; from lmdbench.core.folders import settle_libraries
settle_libraries()
print(getpass.getuser(), os.environ.get("TORCH_HOME"), os.environ.get("MPLCONFIGDIR"))
"""
    assert nobody(code) == "user54321 None None\n"
    own = {"LMDBENCH_CACHE": "c", "MPLCONFIGDIR": "/mine"}
    assert nobody(code, **own) == f"user54321 {tmp_path}/c/torch /mine\n"


def test_libraries_have_places_where_home_can_not_be_written(nobody, tmp_path):
    """As with ``docker run --user``, for which home is /."""
    home = tmp_path / "home"
    (home / ".cache/torch").mkdir(parents=True)
    code = "import os; from lmdbench.core.folders import *; settle_libraries(); "
    code += "print(*(os.environ.get(name) for name in sorted(LIBRARIES)))"
    own = {"HOME": home, "LMDBENCH_CACHE": "c"}
    assert nobody(code, **own) == "None None None\n"
    for folder in (home, home / ".cache"):
        folder.chmod(0o555)
    # what is there is read as before: weights that were fetched where home could be written
    assert nobody(code, **own) == f"{tmp_path}/c/huggingface {tmp_path}/c/matplotlib None\n"


def test_plots_say_nothing_of_places_of_fonts(nobody):
    code = "from lmdbench.core.folders import *; settle_libraries(); import matplotlib.figure"
    assert nobody(code) == ""


def test_compilers_keep_theirs_in_the_cache(monkeypatch, tmp_path):
    for name in COMPILERS:
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("TRITON_CACHE_DIR", "/mine")
    settle_libraries()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "c/compiled/inductor")
    assert os.environ["TRITON_CACHE_DIR"] == "/mine"
    assert not (tmp_path / "c").exists()
