"""The entry point: quick help, one-line errors, exit codes."""

import subprocess
import sys

import numpy as np
import pytest

from lmdbench.cli import commands


def test_help_imports_nothing_heavy():
    """What `lmdbench --help` loads; torch, pandas and numpy are what would make it slow."""
    code = (
        "import sys; sys.argv = ['lmdbench', '--help']\n"
        "from lmdbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'rich', 'PIL', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"
    for command in ("run", "compare", "methods", "datasets"):
        assert command in result.stdout


@pytest.mark.parametrize("command", ["run", "compare", "methods", "datasets"])
def test_every_command_has_help(lmdbench, command):
    outcome = lmdbench(command, "--help")
    assert outcome.code == 0
    assert "Usage: lmdbench" in outcome.out


def test_without_a_command_there_is_help(lmdbench):
    outcome = lmdbench()
    assert outcome.code == 0
    assert "Commands" in outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rum"], "unknown command 'rum'. Did you mean run?"),
        (["run"], "Missing option '--method'."),
        (["run", "--metod", "ce"], "No such option"),
        (["compare", "--format", "xls"], "'xls' is not one of"),
        (["methods", "show", "ce", "crt"], "extra argument (crt). See `lmdbench methods show"),
    ],
)
def test_a_mistyped_command_line_gets_one_line(lmdbench, words, message):
    outcome = lmdbench(*words)
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "command", ["methods show lmd --json", "list", "--help", "sweep show paper"]
)
@pytest.mark.parametrize("reader", ["head -c 10", "true"])
def test_a_reader_that_goes_away_is_no_error(command, reader):
    pipe = f"set -o pipefail; {sys.executable} -m lmdbench {command} | {reader}"
    result = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_failure_is_one_though_nobody_reads(tmp_path):
    command = f"{sys.executable} -m lmdbench compare --results {tmp_path}/no"
    pipe = f"set -o pipefail; {command} 2>&1 | true"
    assert subprocess.run(["bash", "-c", pipe]).returncode == 2


def test_output_that_has_no_room_is_told():
    command = [sys.executable, "-m", "lmdbench", "list"]
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr == ("lmdbench: its output can't be written: no space left where it goes\n")


INTERRUPTED_AT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            for _ in range({times}):
                os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["lmdbench", *{words!r}]
from lmdbench.cli.main import main
main()
"""


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("click", ["--help"]),
        ("lmdbench.cli.commands", ["list"]),
        ("lmdbench.cli.list_kinds", ["list"]),
        ("lmdbench.core.registry", ["list"]),
        ("numpy", ["compare"]),
        ("lmdbench.comparison.compare", ["compare"]),
    ],
)
def test_interrupted_while_it_is_imported_it_says_so_in_a_word(module, words, times, tmp_path):
    code = INTERRUPTED_AT.format(module=module, words=words, times=times)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 130
    assert result.stderr == "\nlmdbench: interrupted\n"


INTERRUPTED_AT_THE_END = """
import os, signal, sys

class Last:
    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGINT):
        kill(me, number)

sys.last = Last()  # goes when Python takes its modules down
sys.argv = ["lmdbench", "list", "no-such-kind"]
from lmdbench.cli.main import main
main()
"""


def test_interrupted_when_all_is_done_it_ends_as_it_would():
    command = [sys.executable, "-c", INTERRUPTED_AT_THE_END]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "no-such-kind" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--method", "ce", "--dataset", "demo", "--backbone", ""), "unknown backbone ''"),
        (("compare", "--results", "a-file"), "a-file is a file, no results folder"),
        (("predict", "", "x.png"), "the run's name is empty"),
        (("run", "--method", "ce", "--dataset", "demo", "--seeds", "0-"), "--seeds '0-': give"),
        (("run", "--method", "ce", "--dataset", "demo", "--seeds=-1"), "--seeds '-1': give"),
        (("run", "--method", "c\x07e", "--dataset", "demo"), "unknown method 'c\\x07e'"),
    ],
)
def test_empty_and_odd_values_are_one_line(lmdbench, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    outcome = lmdbench(*words)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.splitlines()[-1].startswith("lmdbench: ")
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_the_end_of_a_file_is_not_taken_for_an_interruption(monkeypatch, tmp_path):
    """click does so: an empty array of NumPy looked as if the user had gone away."""
    (tmp_path / "empty.npy").write_bytes(b"")
    monkeypatch.setattr(commands.cli, "invoke", lambda _: np.load(tmp_path / "empty.npy"))
    monkeypatch.setattr("sys.argv", ["lmdbench", "list"])
    with pytest.raises(EOFError, match="No data left in file"):
        commands.exit_code()
