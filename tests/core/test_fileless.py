"""What changes the code of things that are in no file, and what does not."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import torch
from lmdbench.models.backbones import BACKBONES, register_backbone
from lmdbench.runs.code_digest import code_digests
from lmdbench.training.method import Method, register_method
from lmdbench.training.views.augmentation import register_view
from torch import nn

SCALE = 2.0
TABLE = {"a": torch.tensor([1.0, 2.0])}
unused = []

def scaled(values, by=1.0):
    return TABLE["a"].sum() * values * SCALE * by

@register_backbone("mine", title="Mine")
def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())

@register_view("flat", lambda n, generator: ())
def flat(pixels):
    return pixels.float() / 255

class Base(Method):
    POWER = 1

@register_method("mine")
class Mine(Base):
    \"\"\"Says something.\"\"\"
    title = "A title"
    views = ("flat",)

    def loss(self, batch):
        return scaled(self.model(batch.images)) + sum(w for w in [1, 2])

print(*code_digests(Mine, BACKBONES["mine"]).values())
"""
ORDER = ("method", "loop", "views", "samplers", "backbone")


def digests(printed: str) -> dict[str, str]:
    return dict(zip(ORDER, printed.split(), strict=True))


def run(program: str, *words: str) -> str:
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def edited(old: str, new: str) -> str:
    assert old in PROGRAM
    return PROGRAM.replace(old, new)


EDITS = {  # old, new → the parts whose code changes
    ('something."""\n    title = "A', 'else."""\n    # why\n\n    title  = "Another'): set(),
    ("unused = []", "unused = [1]"): set(),
    ("+ sum(", "- sum("): {"method"},
    ("SCALE = 2.0", "SCALE = 3.0"): {"method"},
    ("tensor([1.0", "tensor([3.0"): {"method"},
    ("by=1.0", "by=2.0"): {"method"},
    ("POWER = 1", "POWER = 2"): {"method"},
    ("float() / 255", "float() / 256"): {"views"},
    ("Conv2d(3, 8, 3, 4)", "Conv2d(3, 8, 3, 3)"): {"backbone"},
}
# Each program in a copy of a process that has imported what they import
EACH = """
import json, os, sys
from lmdbench.runs import code_digest
for program in json.loads(sys.argv[1]):
    if os.fork() == 0:
        exec(compile(program, "<cell>", "exec"))
        sys.stdout.flush()
        os._exit(0)
    if os.wait()[1]:
        sys.exit(1)
"""


@pytest.fixture(scope="module")
def of_each() -> list[dict[str, str]]:
    """The digests of the program as it is, then after each edit."""
    programs = [PROGRAM, *(edited(*edit) for edit in EDITS)]
    return [digests(line) for line in run(EACH, json.dumps(programs)).splitlines()]


@pytest.mark.parametrize("number", range(len(EDITS)), ids=[new for _, new in EDITS])
def test_code_counts_and_descriptions_do_not(of_each, number):
    before, now = of_each[0], of_each[1 + number]
    assert {part for part in now if now[part] != before[part]} == [*EDITS.values()][number]


def test_so_it_does_in_a_process_of_its_own():
    programs = PROGRAM, edited("SCALE = 2.0", "SCALE = 3.0")
    before, now = (digests(run(program)) for program in programs)
    assert {part for part in now if now[part] != before[part]} == {"method"}
