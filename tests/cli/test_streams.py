"""Output for terminals that know fewer signs than we print."""

import json
import os
import subprocess
import sys

import pytest

from lmdbench.cli.streams import ASCII, IN_ASCII, prepare_streams


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("−3.2 to +1.0", "-3.2 to +1.0"),
        ("ce → crt … ± 2 ×", "ce -> crt ... +- 2 x"),
        ("Melanom, bösartig", "Melanom, b\\u00f6sartig"),
        ("黑色素瘤", "\\u9ed1\\u8272\\u7d20\\u7624"),
        ("😀", "\\ud83d\\ude00"),
    ],
)
def test_what_ascii_has_not_is_printed_in_other_words(text, printed):
    prepare_streams()
    assert text.encode("ascii", IN_ASCII) == printed.encode()


def test_escapes_are_json_s():
    prepare_streams()
    text = "黑 😀 ü"
    assert json.loads(f'"{text}"'.encode("ascii", IN_ASCII)) == text


def test_every_stand_in_is_ascii():
    assert all(stand_in.isascii() for stand_in in ASCII.values())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437"])
def test_a_command_prints_in_any_encoding(encoding):
    result = subprocess.run(
        [sys.executable, "-m", "lmdbench", "list"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"?" not in result.stdout
