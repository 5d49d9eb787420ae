"""``lmdbench list``: kinds, and what there is of each."""

import json

import pytest

from lmdbench.core.registry import KINDS

PLUGIN = '''
import torch
from lmdbench import register_sampler


@register_sampler("in-order")
class InOrder:
    """The images in their order."""

    def __init__(self, labels):
        self.left = torch.arange(len(labels))

    def draw(self, n, generator):
        drawn, self.left = self.left[:n], self.left[n:]
        return drawn
'''


def test_the_kinds_are_counted(lmdbench):
    shown = json.loads(lmdbench("list", "--json").out)
    assert list(shown) == list(KINDS)
    assert all(number >= 1 for number in shown.values())


def test_what_a_plugin_adds_is_listed_with_where_it_comes_from(lmdbench, tmp_path):
    path = tmp_path / "in_order_plugin.py"
    path.write_text(PLUGIN)
    shown = json.loads(lmdbench("list", "samplers", "--json", "--plugin", path).out)
    by_name = {one["name"]: one for one in shown}
    assert by_name["in-order"]["title"] == "The images in their order."
    assert by_name["in-order"]["from"] == "in_order_plugin.py"
    assert by_name["instance"]["from"] == "lmdbench"


def test_a_kind_that_there_is_not_is_one_line(lmdbench):
    outcome = lmdbench("list", "metrix")
    assert outcome.code == 2
    assert "Did you mean metrics?" in outcome.err


def names(lmdbench, *words):
    return [one["name"] for one in json.loads(lmdbench("list", *words, "--json").out)]


def test_names_are_picked_by_a_pattern_those_of_libraries_too(lmdbench):
    assert names(lmdbench, "samplers", "--match", "INST*") == ["instance"]
    found = names(lmdbench, "backbones", "--match", "*resnet50")
    assert found[:1] == ["resnet50"]
    assert "torchvision/resnet50" in found
    swin = names(lmdbench, "backbones", "--match", "torchvision/swin_v2_*")
    assert swin == [f"torchvision/swin_v2_{size}" for size in "bst"]


def test_the_networks_of_timm_are_listed_with_their_weights(lmdbench):
    pytest.importorskip("timm", reason="lmdbench[timm] missing")
    found = names(lmdbench, "backbones", "--match", "timm/vit_small_*dinov2*")
    assert "timm/vit_small_patch14_dinov2.lvd142m" in found


def test_a_pattern_that_nothing_is_like(lmdbench):
    outcome = lmdbench("list", "backbones", "--match", "torchvision/resmet*")
    assert outcome.code == 2
    assert '--match "torchvision/resmet*": no backbone has such a name' in outcome.err
    assert "lmdbench list KIND --match PATTERN" in lmdbench("list", "--match", "x").err
