"""Gaussians, virtual features, distances and the linear head, against scipy, autograd and sums."""

import numpy as np
import pytest
import scipy.spatial.distance
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lmdbench import calibration as cal


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# As the released code of LMD computes them: (seed, N, D, C) → GCE, attraction, repulsion − it.
REFERENCE = {
    (0, 16, 32, 5): (1.0316862817665762, 960.6529307407333, 47.285410819846106),
    (1, 8, 64, 8): (1.134766533237924, 1127.6685538389306, 37.54787389433568),
}


def reference_inputs(seed: int, N: int, D: int, C: int) -> dict[str, Tensor]:
    random = np.random.RandomState(seed)
    z, _ = random.standard_normal((N, D)), random.standard_normal((N, D))
    logits, _ = random.standard_normal((N, C)), random.standard_normal((N, C))
    y = random.randint(0, C, N)
    mu = random.standard_normal((C, D))
    A = random.standard_normal((C, D, D)) / np.sqrt(D)
    sigma = A @ A.transpose(0, 2, 1) + 0.01 * np.eye(D)
    inputs = {"z": z, "logits": logits, "y": y, "mu": mu, "sigma": sigma}
    return {name: torch.from_numpy(value) for name, value in inputs.items()}


@pytest.mark.parametrize("case", REFERENCE)
def test_reference_values(case: tuple[int, int, int, int]) -> None:
    gce, attraction, difference = REFERENCE[case]
    x = reference_inputs(*case)
    assert cal.generalized_cross_entropy(x["logits"], x["y"], 0.7).item() == pytest.approx(
        gce, abs=1e-9
    )
    distances = cal.mahalanobis(x["z"], x["mu"], cal.whitenings(x["sigma"]))
    near, far = cal.attraction_and_repulsion(distances, x["y"])
    assert near.item() == pytest.approx(attraction, abs=1e-9)
    assert (far - near).item() == pytest.approx(difference, abs=1e-9)


def test_mahalanobis_is_scipys() -> None:
    x = reference_inputs(2, 6, 5, 3)
    distances = cal.mahalanobis(x["z"], x["mu"], cal.whitenings(x["sigma"]))
    for n in range(6):
        for c in range(3):
            expected = scipy.spatial.distance.mahalanobis(
                x["z"][n].numpy(), x["mu"][c].numpy(), np.linalg.inv(x["sigma"][c].numpy())
            )
            assert distances[n, c].item() == pytest.approx(expected**2, rel=1e-9)


def test_gradient_of_fdc_is_that_of_finite_differences() -> None:
    x = reference_inputs(3, 4, 6, 3)
    whitenings = cal.whitenings(x["sigma"])

    def fdc(z: Tensor) -> Tensor:
        near, far = cal.attraction_and_repulsion(cal.mahalanobis(z, x["mu"], whitenings), x["y"])
        return near - far

    assert torch.autograd.gradcheck(fdc, x["z"].requires_grad_())


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_gce_is_below_cross_entropy_and_at_q_1_the_absolute_error(q: float) -> None:
    x = reference_inputs(4, 8, 4, 5)
    assert cal.generalized_cross_entropy(x["logits"], x["y"], q) <= F.cross_entropy(
        x["logits"], x["y"]
    )
    p = x["logits"].softmax(1)[torch.arange(8), x["y"]]
    assert torch.isclose(cal.generalized_cross_entropy(x["logits"], x["y"], 1), (1 - p).mean())


def test_gaussians_are_numpys() -> None:
    labels = torch.tensor([0] * 9 + [1] * 4)
    features = torch.randn(13, 3, generator=generator())
    means, covariances = cal.class_gaussians(features, labels, 2, ridge=0.5)
    for c in range(2):
        members = features[labels == c].double().numpy()
        np.testing.assert_allclose(means[c], members.mean(0), rtol=1e-12)
        expected = np.cov(members.T) + 0.5 * np.eye(3)
        np.testing.assert_allclose(covariances[c], expected, rtol=1e-12)


def test_one_image_has_the_ridge_alone() -> None:
    means, covariances = cal.class_gaussians(
        torch.tensor([[1.0, 2.0], [4.0, 4.0], [5.0, 6.0]]), torch.tensor([0, 1, 1]), 2, ridge=0.01
    )
    torch.testing.assert_close(covariances[0], 0.01 * torch.eye(2, dtype=torch.float64))
    assert means[0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("scale", [0.1, 25.0, 1000.0])
def test_three_images_in_512_dimensions(scale: float) -> None:
    """Rank 2 of 512: all but two directions have the ridge, whatever the features' scale."""
    features = scale * torch.randn(3, 512, generator=generator())
    means, covariances = cal.class_gaussians(features, torch.zeros(3, dtype=torch.int64), 1, 0.01)
    roots = cal.covariance_roots(covariances)
    torch.testing.assert_close(roots @ roots.mT, covariances)
    whitenings = cal.whitenings(covariances).float()
    distances = cal.mahalanobis(features, means.float(), whitenings)
    # n points of n − 1 dimensions lie at (n−1)²/n of their own covariance, here about 4/3.
    torch.testing.assert_close(distances[:, 0], torch.full((3,), 4 / 3), rtol=0.05, atol=0.05)
    away = means.float() + torch.full((1, 512), 512**-0.5)  # a step of length one
    assert 90 < cal.mahalanobis(away, means.float(), whitenings).item() < 101


def test_roots_of_a_singular_covariance() -> None:
    direction = torch.randn(6, 2, generator=generator(), dtype=torch.float64)
    singular = direction @ direction.T
    covariances = torch.stack([singular, singular + torch.eye(6), torch.zeros(6, 6).double()])
    roots = cal.covariance_roots(covariances)
    torch.testing.assert_close(roots @ roots.mT, covariances, atol=1e-7, rtol=1e-7)


def test_running_gaussians_are_first_a_plain_mean() -> None:
    running = cal.RunningGaussians(2, 3)
    rounds = [
        (
            torch.randn(2, 3, generator=generator(k)).double(),
            torch.randn(2, 3, 3, generator=generator(k + 9)).double(),
        )
        for k in range(4)
    ]
    for number, (means, covariances) in enumerate(rounds):
        running.follow(means, covariances, number)
    torch.testing.assert_close(running.means, torch.stack([m for m, _ in rounds]).mean(0))
    torch.testing.assert_close(running.covariances, torch.stack([c for _, c in rounds]).mean(0))
    before = running.means.clone()
    running.follow(rounds[0][0], rounds[0][1], 5000)
    torch.testing.assert_close(running.means, 0.999 * before + 0.001 * rounds[0][0])


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5))
def test_balanced_labels_are_as_equal_as_can_be(n: int, C: int, seed: int) -> None:
    counts = torch.bincount(cal.balanced_labels(n, C, generator(seed)), minlength=C)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 5))
def test_members_are_of_the_class_asked_for(pool: list[int], seed: int) -> None:
    labels = torch.tensor(pool)
    wanted = labels[torch.randint(len(labels), (50,), generator=generator(seed))]
    drawn = cal.draw_members(wanted, labels, generator(seed))
    assert labels[drawn].tolist() == wanted.tolist()


def test_members_are_drawn_uniformly_with_replacement() -> None:
    pool = torch.tensor([0, 1, 0, 1, 1, 0, 0])
    drawn = cal.draw_members(torch.zeros(8000, dtype=torch.int64), pool, generator())
    counts = torch.bincount(drawn, minlength=7)
    assert counts[pool == 1].sum() == 0
    assert ((counts[pool == 0] - 2000).abs() < 200).all()  # five standard deviations


def test_virtual_features_have_the_gaussians_moments() -> None:
    x = reference_inputs(5, 4, 6, 3)
    roots = cal.covariance_roots(x["sigma"])
    labels = cal.balanced_labels(3 * 20_000, 3, generator())
    drawn = cal.virtual_features(labels, x["mu"], roots, generator(1))
    for c in range(3):
        members = drawn[labels == c]
        assert len(members) == 20_000
        whitened = (members - x["mu"][c]) @ torch.linalg.inv(roots[c]).T
        assert whitened.mean(0).abs().max() < 5 / 20_000**0.5
        assert (torch.cov(whitened.T) - torch.eye(6)).abs().max() < 5 * (2 / 20_000) ** 0.5


def test_virtual_features_in_chunks_have_the_same_moments() -> None:
    x = reference_inputs(5, 4, 6, 3)
    roots = cal.covariance_roots(x["sigma"])
    random = generator(2)
    labels = cal.balanced_labels(3 * 20_000, 3, generator())
    drawn = torch.cat(
        [cal.virtual_features(part, x["mu"], roots, random) for part in labels.split(7000)]
    )
    for c in range(3):
        whitened = (drawn[labels == c] - x["mu"][c]) @ torch.linalg.inv(roots[c]).T
        assert whitened.mean(0).abs().max() < 5 / 20_000**0.5
        assert (torch.cov(whitened.T) - torch.eye(6)).abs().max() < 5 * (2 / 20_000) ** 0.5


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_the_head_is_trained_as_by_autograd_and_sgd(momentum: float) -> None:
    features = torch.randn(2, 107, 5, generator=generator(), dtype=torch.float64)
    labels = torch.randint(3, (2, 107), generator=generator())
    heads = [nn.Linear(5, 3, dtype=torch.float64) for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())
    written_out, reference = (
        torch.optim.SGD(head.parameters(), lr=0.1, momentum=momentum, weight_decay=0.01)
        for head in heads
    )
    for x, y in zip(features, labels, strict=True):  # twice, as momentum goes on
        loss = cal.train_linear_head(heads[0], written_out, x, y, batch_size=10)
        expected = 0.0
        for x_batch, y_batch in zip(x.split(10), y.split(10), strict=True):
            batch_loss = F.cross_entropy(heads[1](x_batch), y_batch)
            reference.zero_grad()
            batch_loss.backward()
            reference.step()
            expected += batch_loss.item() * len(y_batch)
        assert loss.item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(heads[0].weight, heads[1].weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(heads[0].bias, heads[1].bias, rtol=1e-12, atol=1e-12)
    if momentum:
        state = reference.state_dict()["state"]
        for key, value in written_out.state_dict()["state"].items():
            torch.testing.assert_close(
                value["momentum_buffer"], state[key]["momentum_buffer"], rtol=1e-12, atol=1e-12
            )
