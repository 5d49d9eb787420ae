"""The entry point: quick help, one-line errors, exit codes."""

import subprocess
import sys

import pytest


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


def test_a_reader_that_goes_away_is_no_error():
    pipe = f"{sys.executable} -m lmdbench methods show lmd --json | head -c 10"
    result = subprocess.run(pipe, shell=True, capture_output=True, text=True, check=True)
    assert result.stderr == ""
