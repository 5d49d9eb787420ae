"""``lmdbench list``: kinds, and what there is of each."""

import json

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
