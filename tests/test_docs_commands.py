"""Every command that a page shows in a block is one that lmdbench takes."""

import re
import shlex
from pathlib import Path

import click
import pytest

from .commands import check_command

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
BLOCK = re.compile(r"^```(?:console|)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Behind a prompt, variables that are set, and a folder; up to what the shell makes of it
COMMAND = re.compile(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*/)?lmdbench ([^|>&]*)")


def shown(page: Path) -> list[list[str]]:
    blocks = (block.replace("\\\n", " ") for block in BLOCK.findall(page.read_text("utf-8")))
    lines = [line for block in blocks for line in block.splitlines()]
    return [
        shlex.split(found[1], comments=True) for line in lines if (found := COMMAND.match(line))
    ]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if shown(page)], ids=lambda page: page.name
)
def test_commands_and_their_options_are_there(page):
    for words in shown(page):
        check_command(words)


def test_what_is_not_there_is_found():
    with pytest.raises(click.NoSuchOption):
        check_command(["run", "--methods", "ce"])
    with pytest.raises(LookupError, match="runs"):
        check_command(["runs"])
