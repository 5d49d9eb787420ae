"""MRC-VFC is LMD with other settings; the rounds themselves are tested there."""

import copy

import numpy as np
import pytest
import torch

from lmdbench.methods.lmd import LMD
from lmdbench.methods.mrc_vfc import MRCVFC
from lmdbench.training.method import METHODS

from .helpers import moved

QUICK = {"rounds": 2, "virtual_per_class": 40, "head_batch_size": 16, "batch_size": 4}
VISIBLE = {"head_lr": 0.01, "encoder_lr": 1e-3}  # steps that float32 does not round away


@pytest.fixture
def make_vfc(make_task, make_method):
    def make(name="mrc-vfc", counts=(12, 5, 1), **settings):
        task = make_task(counts)
        return make_method(name, task, make_method("rrl", task), **{**QUICK, **VISIBLE, **settings})

    return make


def test_its_settings_are_lmds_but_for_these():
    ours, lmds = vars(MRCVFC.Settings()), vars(LMD.Settings())
    assert {name: value for name, value in ours.items() if value != lmds[name]} == {
        "rounds": 500,
        "ridge": 0.0,
        "head_batch_size": 256,
        "label_loss": "gce",
        "gce_q": 0.8,
        "fdc_weight": 0.0,
    }
    assert (ours["gaussians"], ours["through_head"]) == ("training-set", True)


@pytest.mark.parametrize("name", ["mrc-vfc", "lmd-released"])
def test_its_stage_1_is_in_the_released_form(name):
    start = METHODS.get(name).starts_from
    assert start.method == "rrl"
    assert dict(start.settings) == {"batch_size": 512, "channel_mean": "images"}


def test_it_is_lmd_with_those_settings(make_vfc, train):
    """Bit for bit."""
    trained = []
    for name, settings in (
        ("mrc-vfc", {}),
        ("lmd", {"ridge": 0.0, "label_loss": "gce", "gce_q": 0.8, "fdc_weight": 0.0}),
    ):
        torch.manual_seed(0)
        method = make_vfc(name, **settings)
        train(method)
        trained.append(method.model)
    assert not moved(trained[0], trained[1].state_dict())


def test_the_encoders_loss_is_gce_through_the_head(make_vfc):
    method = make_vfc(momentum=0.0, weight_decay=0.0, batch_size=18)
    batch = next(method.batches())[1]
    reference = copy.deepcopy(method.model)
    method.train()
    method.step(batch)
    reference.train()
    p = reference(batch.images).softmax(1)[torch.arange(len(batch)), batch.labels]
    ((1 - p**0.8) / 0.8).mean().backward()
    for mine, wanted in zip(
        method.model.encoder.parameters(), reference.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(mine.detach(), (wanted - 1e-3 * wanted.grad).detach())
    assert torch.equal(method.model.head.weight, reference.head.weight)


def test_gaussians_have_no_ridge_and_a_single_image_no_spread(make_vfc, train):
    method = make_vfc()
    features = method.features(method.task.train)
    means, covariances = method.gaussians(features)
    for c, n in enumerate((12, 5, 1)):
        own = features[method.task.train.labels == c].double().numpy()
        np.testing.assert_allclose(means[c], own.mean(0), rtol=1e-6, atol=1e-9)
        expected = np.cov(own.T) if n > 1 else np.zeros((8, 8))
        np.testing.assert_allclose(covariances[c], expected, rtol=1e-5, atol=1e-9)
    logs = train(method)
    assert all(np.isfinite(list(row.values())).all() for row in logs)
    assert "attraction" not in logs[0]
