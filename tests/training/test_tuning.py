"""Every method trains a tuned encoder, and leaves what is frozen of it as it is."""

import pytest
import torch

from lmdbench.core.errors import UserError
from lmdbench.models.classifier import Encoder
from lmdbench.models.small import SmallNet
from lmdbench.models.tuning import parse_tuning, tune
from lmdbench.runs.model import trained_parameters
from lmdbench.training.method import METHODS, Method, Start, built_in_methods

CHOOSING = {"lift"}  # what of the encoder is trained, themselves
SHORT = {"epochs": 1, "batch_size": 4, "rounds": 1, "virtual_per_class": 8, "head_batch_size": 16}
# All but those that choose themselves what of the encoder is trained
TUNED = [method for method in built_in_methods() if not method.keeps_encoder]


def prepared(cls: type[Method], task, tuning: str) -> Method:
    """The method on a network that is tuned so, from a run of what it starts from."""
    torch.manual_seed(0)
    encoder = Encoder(SmallNet(), SmallNet.out_features)
    tune(encoder, parse_tuning(tuning), trained=cls.trains == "all")
    known = {k: v for k, v in SHORT.items() if hasattr(cls.Settings, k)}
    known = {k: v for k, v in known.items() if getattr(cls.Settings, k)}
    made = cls(task, cls.Settings(**known), encoder)
    if cls.starts_from is not None:
        start = cls.starts_from.method if isinstance(cls.starts_from, Start) else cls.starts_from
        made.start(prepared(METHODS.get(start), task, tuning))
    made.start_training()
    return made


@pytest.mark.parametrize("tuning", ["lora:rank=2", "last-blocks=1"])
@pytest.mark.parametrize("method", TUNED, ids=lambda m: m.name)
def test_what_is_frozen_stays_to_the_bit(make_task, train, method, tuning):
    if method.name in CHOOSING:
        with pytest.raises(UserError, match=f"^{method.name} chooses .*: leave out --tuning$"):
            prepared(method, make_task((9, 5, 1)), tuning)
        return
    made = prepared(method, make_task((9, 5, 1)), tuning)
    frozen = {
        name: p.detach().clone()
        for name, p in made.model.encoder.named_parameters()
        if not p.requires_grad
    }
    assert frozen
    trained, whole = trained_parameters(made)
    assert trained < whole
    logs = train(made)
    made.finish()
    assert torch.tensor([list(row.values()) for row in logs]).isfinite().all()
    now = dict(made.model.encoder.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())


def test_loras_have_the_rates_of_the_layers_that_they_are_beside(make_task):
    torch.manual_seed(0)
    encoder, cls = Encoder(SmallNet(), SmallNet.out_features), METHODS.get("ce")
    tune(encoder, parse_tuning("lora:rank=2"))
    method = cls(make_task(), cls.Settings(lr=0.08, layer_decay=0.5), encoder)
    method.start_training()
    (optimizer,) = method.running_optimizers.values()
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {
        name.split(".")[3]: rates[p]
        for name, p in method.named_parameters()
        if name.endswith("weight.0.up")
    }
    assert found == pytest.approx({"stem": 0.005, "layer1": 0.01, "layer2": 0.02, "layer3": 0.04})
    assert rates[method.model.head.weight] == 0.08
