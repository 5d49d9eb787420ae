"""Output for terminals that know fewer signs than we print."""

import json
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


METHODS = """
import io, sys
from lmdbench.cli.main import main
sys.argv = ["lmdbench", "methods"]
for encoding in sys.stdin.read().split():
    # As PYTHONIOENCODING makes it.
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding=encoding)
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 0, encoding
    print(end="\\0", flush=True)
"""


def test_a_command_prints_in_any_encoding():
    """In the last of these there is a τ, in none a λ."""
    prepare_streams()
    encodings = ["ascii", "latin-1", "cp1252", "cp437"]
    result = subprocess.run(
        [sys.executable, "-c", METHODS], input=" ".join(encodings).encode(), capture_output=True
    )
    assert (result.returncode, result.stderr) == (0, b"")
    *printed, rest = result.stdout.split(b"\0")
    assert (len(printed), rest) == (len(encodings), b"")
    for encoding, text in zip(encodings, printed, strict=True):
        assert all(letter.encode(encoding, IN_ASCII) in text for letter in "τλ"), encoding
    assert "τ".encode("cp437") in printed[-1]
