"""What changes the code of things that are in no file, and what does not."""

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


def digests(old: str = "", new: str = "") -> dict[str, str]:
    assert old in PROGRAM
    program = PROGRAM.replace(old, new) if old else PROGRAM
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(ORDER, done.stdout.split(), strict=True))


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return digests()


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('something."""\n    title = "A', 'else."""\n    # why\n\n    title  = "Another', set()),
        ("unused = []", "unused = [1]", set()),
        ("+ sum(", "- sum(", {"method"}),
        ("SCALE = 2.0", "SCALE = 3.0", {"method"}),
        ("tensor([1.0", "tensor([3.0", {"method"}),
        ("by=1.0", "by=2.0", {"method"}),
        ("POWER = 1", "POWER = 2", {"method"}),
        ("float() / 255", "float() / 256", {"views"}),
        ("Conv2d(3, 8, 3, 4)", "Conv2d(3, 8, 3, 3)", {"backbone"}),
    ],
)
def test_code_counts_and_descriptions_do_not(before, old, new, parts):
    now = digests(old, new)
    assert {part for part in now if now[part] != before[part]} == parts
