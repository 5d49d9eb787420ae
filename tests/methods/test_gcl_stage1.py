import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.gcl_stage1 import GaussianCloudedLogits, cloud_sizes, half_normal
from lmdbench.methods.ldam_drw import CosineHead


@given(st.lists(st.integers(1, 20_000), min_size=2, max_size=100))
def test_cloud_sizes(counts):
    differences = [math.log(max(counts)) - math.log(n) for n in counts]
    most = max(differences)
    expected = [d / most if most else 0.0 for d in differences]
    ours = cloud_sizes(torch.tensor(counts, dtype=torch.float64))
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_noise_is_half_normal_and_cut_off_at_1():
    generator = torch.Generator().manual_seed(0)
    noise = half_normal(torch.empty(400, 100, dtype=torch.float64), generator).flatten()
    assert noise.min() >= 0
    assert noise.max() == 1  # beyond three standard deviations
    inside = noise[noise < 1].numpy()
    assert (noise == 1).double().mean().item() == pytest.approx(2 * norm.sf(3), abs=1e-3)
    cut = norm.cdf(3) - norm.cdf(-3)
    assert kstest(inside, lambda x: (2 * norm.cdf(3 * x) - 1) / cut).pvalue > 0.01


def test_each_class_of_each_image_is_lowered_by_its_own_noise(make_task, make_method):
    task = make_task((100, 10, 1))
    method = make_method("gcl-stage1", task)
    logits = torch.zeros(6, 3)
    task.streams.start_epoch(1)
    ours = method.clouded(logits)
    task.streams.start_epoch(1)
    noise = half_normal(logits, task.streams.get("cloud", on_device=True))
    expected = -30 * 0.5 * torch.tensor([0.0, 0.5, 1.0]) * noise
    torch.testing.assert_close(ours, expected)
    assert torch.equal(ours[:, 0], torch.zeros(6))
    assert len(ours[:, 1:].unique()) == 12
    assert not torch.equal(method.clouded(logits), ours)  # new noise each time


def test_without_clouds_it_is_cross_entropy_of_scaled_cosines(make_task, make_method):
    method = make_method("gcl-stage1", make_task((12, 5, 1)), cloud=0.0).eval()
    _, batch = next(method.batches())
    cosines = (
        F.normalize(method.model.encoder(batch.images)) @ F.normalize(method.model.head.weight).T
    )
    torch.testing.assert_close(method.loss(batch), F.cross_entropy(30 * cosines, batch.labels))


def test_a_balanced_task_has_no_clouds(make_task, make_method):
    method = make_method("gcl-stage1", make_task((5, 5, 5)))
    logits = torch.randn(4, 3)
    assert torch.equal(method.clouded(logits), logits)


def test_plain_cosines_at_test(make_task, make_method):
    method = make_method("gcl-stage1", make_task()).eval()
    assert isinstance(method.model.head, CosineHead)
    _, batch = next(method.batches())
    assert torch.equal(method.predict(batch.images), method.model(batch.images))


def test_an_epoch_done_again_is_the_same(make_task, make_method, train):
    weights = []
    for _ in range(2):
        method = make_method("gcl-stage1", make_task())
        train(method)
        weights.append(method.model.head.weight.detach())
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("key", "text", "error"), [("cloud", "-1", "at least 0"), ("scale", "0", "above 0")]
)
def test_settings_out_of_bounds_are_refused(key, text, error):
    with pytest.raises(UserError, match=error):
        resolve("gcl-stage1", GaussianCloudedLogits.Settings, [], {key: text})
