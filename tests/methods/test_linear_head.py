"""Methods that go on with the linear head of the run they start from."""

import pytest
import torch
from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.methods.ce import CrossEntropy
from lmdbench.models.classifier import Classifier

# Those that begin with the run's own logits, and the setting that leaves them so.
BEGIN_ALIKE = {
    "logit-adjustment-posthoc": {"tau": 0.0},
    "lws": {},
    "marc": {},
    "mislas": {},
    "weight-balancing": {},
}


class DeepHead(CrossEntropy):
    """A method with a head of more than one layer."""

    name = "deep-head"

    def build(self, encoder):
        layers = nn.Sequential(nn.ReLU(), nn.Linear(encoder.out_features, self.task.num_classes))
        self.model = Classifier(encoder, layers)


@pytest.mark.parametrize("name", BEGIN_ALIKE)
def test_begins_with_the_logits_of_the_run(stage1, make_method, name):
    method = make_method(name, stage1.task, stage1, **BEGIN_ALIKE[name]).eval()
    (batch,) = stage1.task.in_order(stage1.task.train)
    assert torch.equal(method.predict(batch.images), stage1.predict(batch.images))


@pytest.mark.parametrize("name", [*BEGIN_ALIKE, "disalign", "tau-norm"])
def test_another_head_is_refused(make_task, make_method, name):
    task = make_task()
    for ancestor, head in (("ldam-drw", "CosineHead"), (DeepHead, "Sequential")):
        ancestor = make_method(ancestor, task)
        with pytest.raises(UserError, match=rf"^{name} .*head of {ancestor.name} is a {head}: "):
            make_method(name, task, ancestor)
