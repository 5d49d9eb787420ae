"""What ``optimizers()`` of a plug-in's method returns is looked at before anything is trained."""

from pathlib import Path

import pytest

METHOD = """
from lmdbench import Method, register_method
import torch.nn.functional as F

@register_method("mine")
class Mine(Method):
    def loss(self, batch):
        return F.cross_entropy(self.model(batch.images), batch.labels)

    def optimizers(self):
        return {made}
"""


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("[self.sgd(self.parameters())]", "but returns a list"),
        ("(self.sgd(self.parameters()),)", "but returns a tuple"),
        ("self.sgd(self.parameters())", "but returns a SGD"),
        ("(o for o in [self.sgd(self.parameters())])", "but returns a generator"),
        ("None", "but returns nothing"),
        ('{"sgd": self.parameters}', "but returns one of method"),
        ('{"sgd": "adam"}', "but returns one of str"),
    ],
)
def test_what_are_no_optimisers_by_name_is_told_in_a_line(toy_run, tmp_path: Path, made, said):
    plugin = tmp_path / "mine.py"
    plugin.write_text(METHOD.format(made=made))
    done = toy_run("mine", "--plugin", plugin, "--dry-run")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert said in done.err
    assert "optimizers() of mine must return a dict of torch optimisers by name" in done.err
