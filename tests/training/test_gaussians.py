"""Gaussians, virtual features, distances and the linear head, against scipy, numpy, autograd and
sums; and how much memory they take."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lmdbench.training import gaussians as cal
from lmdbench.training.engine import Execution

CPU = torch.device("cpu")


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


def gaussians(features: Tensor, labels: Tensor, C: int, ridge: float = 0) -> tuple[Tensor, Tensor]:
    return cal.class_gaussians(features, cal.places_by_class(labels, C, CPU), ridge)


@given(st.lists(st.integers(0, 4), max_size=30))
def test_places_are_all_those_of_a_class(labels: list[int]) -> None:
    places = cal.places_by_class(torch.tensor(labels, dtype=torch.int64), 6, CPU)
    assert [own.tolist() for own in places] == [
        [n for n, label in enumerate(labels) if label == c] for c in range(6)
    ]


@pytest.mark.parametrize("chunk", [2**22, 6])  # all at once, and two features at a time
def test_gaussians_are_numpys(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(cal, "CPU_CHUNK", chunk)
    labels = torch.tensor([0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0])
    features = torch.randn(13, 3, generator=generator())
    means, covariances = gaussians(features, labels, 2, ridge=0.5)
    for c in range(2):
        members = features[labels == c].double().numpy()
        np.testing.assert_allclose(means[c], members.mean(0), rtol=1e-12)
        expected = np.cov(members.T) + 0.5 * np.eye(3)
        np.testing.assert_allclose(covariances[c], expected, rtol=1e-12)


def test_one_image_has_the_ridge_alone() -> None:
    means, covariances = gaussians(
        torch.tensor([[1.0, 2.0], [4.0, 4.0], [5.0, 6.0]]), torch.tensor([0, 1, 1]), 2, ridge=0.01
    )
    torch.testing.assert_close(covariances[0], 0.01 * torch.eye(2, dtype=torch.float64))
    assert means[0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("scale", [0.1, 25.0, 1000.0])
def test_three_images_in_512_dimensions(scale: float) -> None:
    """Rank 2 of 512: all but two directions have the ridge, whatever the features' scale."""
    features = scale * torch.randn(3, 512, generator=generator())
    means, covariances = gaussians(features, torch.zeros(3, dtype=torch.int64), 1, 0.01)
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
    torch.testing.assert_close(roots, roots.tril(), atol=0, rtol=0)


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


def test_distances_are_to_the_averages_last_settled() -> None:
    x = reference_inputs(6, 5, 4, 3)
    z = x["z"].float()
    running = cal.RunningGaussians(3, 4)
    running.follow(x["mu"], x["sigma"], 0)
    addresses = [buffer.data_ptr() for buffer in (running.centres, running.whitenings)]
    for number in range(2):
        running.follow(x["mu"], x["sigma"] * (number + 1), number)
        before = running.distances(z)
        running.settle()
        expected = cal.mahalanobis(z.double(), running.means, cal.whitenings(running.covariances))
        torch.testing.assert_close(running.distances(z).double(), expected, rtol=1e-4, atol=1e-4)
        assert not torch.equal(running.distances(z), before)
    assert addresses == [buffer.data_ptr() for buffer in (running.centres, running.whitenings)]
    assert set(running.state_dict()) == {"means", "covariances"}


@given(st.integers(1, 60), st.integers(1, 9))
def test_balanced_counts_are_as_equal_as_can_be(n: int, C: int) -> None:
    counts = cal.balanced_counts(n, C)
    assert len(counts) == C
    assert sum(counts) == n
    assert counts == sorted(counts, reverse=True)
    assert counts[0] - counts[-1] <= 1


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 50), st.integers(0, 5))
def test_chunks_share_out_all_there_is(counts: list[int], rows: int, seed: int) -> None:
    chunks = list(cal.shuffled_chunks(counts, rows, generator(seed)))
    assert np.sum(chunks, axis=0).tolist() == (counts if sum(counts) else 0)
    assert all(sum(chunk) == rows for chunk in chunks[:-1])
    assert all(min(chunk) >= 0 for chunk in chunks)


def test_chunks_are_those_of_a_shuffle() -> None:
    """Each has scipy's distribution of draws without replacement, and two go together as they
    should."""
    counts, rows, n = [30, 20, 10], 15, 4000
    seen = np.array([list(cal.shuffled_chunks(counts, rows, generator(k))) for k in range(n)])
    expected = scipy.stats.multivariate_hypergeom(counts, rows)
    for chunk in range(4):
        drawn = seen[:, chunk]
        np.testing.assert_allclose(drawn.mean(0), expected.mean(), atol=5 * 2 / n**0.5)
        np.testing.assert_allclose(np.cov(drawn.T), expected.cov(), atol=0.35)
    shared = np.cov(seen[:, 0, 0], seen[:, 3, 0])[0, 1]  # −1/(chunks − 1) of the variance
    assert shared == pytest.approx(-expected.cov()[0, 0] / 3, abs=0.2)


def test_shuffled_features_keep_their_labels() -> None:
    counts = [3, 0, 5, 2]
    features = torch.arange(10.0)[:, None] * torch.ones(2)
    expected = torch.tensor([0, 0, 0, 2, 2, 2, 2, 2, 3, 3])
    places = torch.zeros(4, 10)
    for seed in range(3000):
        x, y = cal.shuffled(features, counts, generator(seed))
        order = x[:, 0].long()
        assert torch.equal(order.sort().values, torch.arange(10))
        assert torch.equal(y, expected[order])
        places[y, torch.arange(10)] += 1
    # Every class is everywhere as often as it occurs: within five standard deviations.
    torch.testing.assert_close(
        places / 3000, (torch.tensor(counts) / 10)[:, None].expand(4, 10), atol=0.046, rtol=0
    )


def test_members_are_drawn_uniformly_with_replacement() -> None:
    places = cal.places_by_class(torch.tensor([0, 1, 0, 1, 1, 0, 0]), 3, CPU)
    drawn = cal.draw_members(places, [8000, 3, 0], generator())
    assert [len(own) for own in drawn] == [8000, 3, 0]
    counts = torch.bincount(drawn[0], minlength=7)
    assert counts[places[1]].sum() == 0
    assert ((counts[places[0]] - 2000).abs() < 200).all()  # five standard deviations
    assert set(drawn[1].tolist()) <= {1, 3, 4}


def test_virtual_features_have_the_gaussians_moments() -> None:
    x = reference_inputs(5, 4, 6, 3)
    roots = cal.covariance_roots(x["sigma"])
    counts = [20_000, 30_000, 0]
    drawn = cal.virtual_features(counts, x["mu"], roots, generator(1))
    for c, members in enumerate(drawn.split(counts)[:2]):
        n = len(members)
        whitened = (members - x["mu"][c]) @ torch.linalg.inv(roots[c]).T
        assert whitened.mean(0).abs().max() < 5 / n**0.5
        assert (torch.cov(whitened.T) - torch.eye(6)).abs().max() < 5 * (2 / n) ** 0.5


def released_features(
    features: np.ndarray, labels: np.ndarray, per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """As the released code draws them: numpy's multivariate_normal of each class, then shuffled."""
    random = np.random.RandomState(seed)
    drawn = []
    for c in range(labels.max() + 1):
        own = features[labels == c]
        covariance = np.cov(own, rowvar=False) if len(own) > 1 else np.zeros([own.shape[1]] * 2)
        covariance = covariance + 0.01 * np.eye(own.shape[1])
        drawn.append(random.multivariate_normal(own.mean(axis=0), covariance, per_class))
    order = random.permutation(per_class * len(drawn))
    return np.concatenate(drawn)[order], np.repeat(np.arange(len(drawn)), per_class)[order]


def our_features(
    features: np.ndarray, labels: np.ndarray, per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    z, y = torch.from_numpy(features).float(), torch.from_numpy(labels)
    means, covariances = gaussians(z, y, int(labels.max()) + 1, 0.01)
    roots, random = cal.covariance_roots(covariances).float(), generator(seed)
    chunks = []
    for counts in cal.shuffled_chunks([per_class] * len(means), 1000, random):
        drawn = cal.virtual_features(counts, means.float(), roots, random)
        chunks.append(cal.shuffled(drawn, counts, random))
    x, y = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    return x.double().numpy(), y.numpy()


def energy_p_value(x: np.ndarray, y: np.ndarray, permutations: int = 99) -> float:
    """Of the energy distance between two samples of equal size: a permutation test."""
    n = len(x)
    both = np.concatenate([x, y])
    distances = scipy.spatial.distance.cdist(both, both)
    random = np.random.default_rng(0)
    sign = np.repeat([1.0, -1.0], n)
    observed = -sign @ distances @ sign
    others = (random.permutation(sign) for _ in range(permutations))
    return (1 + sum(-s @ distances @ s >= observed for s in others)) / (1 + permutations)


Draw = Callable[[np.ndarray, np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]


def wider(features: np.ndarray, labels: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, ...]:
    """A draw that is wrong, to see whether the tests would tell: spread by 20 % too much."""
    x, y = our_features(features, labels, n, seed)
    means = np.stack([features[labels == c].mean(0) for c in range(3)])[y]
    return means + 1.2 * (x - means), y


@pytest.mark.parametrize(("draw", "same"), [(our_features, True), (wider, False)])
def test_draws_are_distributed_as_the_released_codes(draw: Draw, same: bool) -> None:
    """A class of many images, one of fewer than dimensions, and one of a single image."""
    random = np.random.default_rng(7)
    D, n = 24, 3000
    mixing = random.standard_normal((D, D)) / D**0.5
    features = np.maximum(random.standard_normal((211, D)) @ mixing + 0.5, 0)
    labels = np.repeat([0, 1, 2], [200, 10, 1])
    ours, theirs = draw(features, labels, n, 0), released_features(features, labels, n, 1)
    of_projections, of_energy = [], []
    for c in range(3):
        x, y = (sample[where == c] for sample, where in (ours, theirs))
        assert len(x) == len(y) == n
        if same:
            spread = y.std(0).max()
            np.testing.assert_allclose(x.mean(0), y.mean(0), atol=6 * spread / n**0.5)
            np.testing.assert_allclose(
                np.cov(x.T), np.cov(y.T), atol=7 * spread**2 * (2 / n) ** 0.5
            )
        for direction in random.standard_normal((8, D)):
            of_projections.append(scipy.stats.ks_2samp(x @ direction, y @ direction).pvalue)
        of_energy.append(energy_p_value(x[:300], y[:300]))
    assert (min(of_projections) > 0.002) == same  # of 24
    assert (min(of_energy) > 0.01) == same  # of 3; 0.01: beyond all permutations
    # The order of the classes is a shuffle's: runs of one class as long as there should be.
    changes = [np.count_nonzero(np.diff(sample[1])) for sample in (ours, theirs)]
    assert np.abs(np.subtract(changes, 3 * n * 2 / 3)).max() < 5 * (3 * n * 2 / 9) ** 0.5


def test_fewer_images_than_dimensions_stay_in_their_span_but_for_the_ridge() -> None:
    features = 10 * torch.randn(5, 64, generator=generator())
    means, covariances = gaussians(features, torch.zeros(5, dtype=torch.int64), 1, 0.01)
    roots = cal.covariance_roots(covariances).float()
    drawn = cal.virtual_features([4000], means.float(), roots, generator(1)) - means.float()
    basis = torch.linalg.qr((features - means).T.float()[:, :4]).Q
    within = drawn @ basis
    outside = drawn - within @ basis.T
    assert within.var(0).mean() > 50
    assert outside.square().sum(1).mean().item() == pytest.approx(0.01 * 60, rel=0.05)


def trained(
    mode: str, momentum: float, double: bool = True
) -> tuple[nn.Module, torch.optim.Optimizer, float]:
    """A head after two calls of ``HeadTraining``, on 107 features in batches of 4 each: whole
    groups of batches, single ones, and a last one of three."""
    dtype = torch.float64 if double else torch.float32
    features = torch.randn(2, 107, 5, generator=generator()).to(dtype)
    labels = torch.randint(3, (2, 107), generator=generator())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(5, 3, dtype=dtype)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=momentum, weight_decay=0.01)
    loss = 0.0
    if mode == "autograd":
        for x, y in zip(features, labels, strict=True):
            for x_batch, y_batch in zip(x.split(4), y.split(4), strict=True):
                batch_loss = F.cross_entropy(head(x_batch), y_batch)
                optimizer.zero_grad()
                batch_loss.backward()
                optimizer.step()
                loss += batch_loss.item() * len(y_batch)
    else:
        training = cal.HeadTraining(head, optimizer, 4, Execution(CPU, mode))
        for x, y in zip(features, labels, strict=True):  # twice, as momentum goes on
            loss += training(x, y).item()
    return head, optimizer, loss


@pytest.mark.parametrize("mode", ["plain", "compiled"])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_the_head_is_trained_as_by_autograd_and_sgd(momentum: float, mode: str) -> None:
    head, optimizer, loss = trained(mode, momentum)
    expected_head, expected_optimizer, expected_loss = trained("autograd", momentum)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    for name, value in expected_head.state_dict().items():
        torch.testing.assert_close(head.state_dict()[name], value, rtol=1e-12, atol=1e-12)
    if momentum:
        state = optimizer.state_dict()["state"]
        for key, value in expected_optimizer.state_dict()["state"].items():
            torch.testing.assert_close(
                state[key]["momentum_buffer"], value["momentum_buffer"], rtol=1e-12, atol=1e-12
            )


def test_replays_of_the_head_change_no_bit() -> None:
    plain, compiled = (trained(mode, 0.9, double=False) for mode in ("plain", "compiled"))
    assert torch.equal(plain[0].weight, compiled[0].weight)
    assert plain[2] == compiled[2]


@pytest.mark.parametrize(("width", "batch_size"), [(512, 352), (2048, 352), (8, 16), (8, 10**9)])
def test_a_chunk_is_made_of_whole_replays(width: int, batch_size: int) -> None:
    head = nn.Linear(width, 3)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    training = cal.HeadTraining(head, optimizer, batch_size, Execution(CPU))
    assert training.rows % batch_size == 0
    assert training.chunk % training.rows == 0
    assert training.chunk * width <= cal.CPU_CHUNK or training.chunk == batch_size


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that is held at a time, on the CPU, beyond what was there; temporary tensors within
    operators included."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return int(np.cumsum([event.nbytes() for event in events]).max())


def round_bytes(N: int, D: int, C: int, chunk: int) -> dict[str, int]:
    """What the parts of a round hold at most, of N features of width D in C classes; ``chunk``:
    numbers in a chunk of features. Beside features and running Gaussians, which are always there.
    """
    square, block = C * D * D, min(chunk, N * D)
    vectors = 8 * 2 * C * D + 32 * chunk // D + (1 << 18)  # means, labels, orders, logits
    gaussians = 8 * square
    return {
        # Covariances; a block as it is, in float64 and centred.
        "gaussians": gaussians + 20 * block + 16 * D * D + vectors,
        # Covariances and their roots, in float64 and then float32.
        "roots": gaussians + 12 * square + vectors,
        # Covariances and roots; noise, draws, and these shuffled.
        "m_step": gaussians + 4 * square + 12 * chunk + vectors,
        # Of the running covariances: factors and inverses, one of them copied.
        "settle": gaussians + 24 * square + vectors,
    }


def test_a_round_takes_the_memory_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    N, D, C, chunk = 400, 96, 6, 2**17
    monkeypatch.setattr(cal, "CPU_CHUNK", chunk)
    counted = round_bytes(N, D, C, chunk)
    features = torch.randn(N, D, generator=generator())
    labels = torch.cat([torch.zeros(N - C, dtype=torch.int64), torch.arange(C)])  # a long tail
    places = cal.places_by_class(labels, C, CPU)
    head = nn.Linear(D, C)
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-3, momentum=0.9)
    training = cal.HeadTraining(head, optimizer, 32, Execution(CPU))
    running = cal.RunningGaussians(C, D)
    made = {}

    def gaussians_() -> None:
        made["means"], made["covariances"] = cal.class_gaussians(features, places, 0.01)

    def roots() -> None:
        made["roots"] = cal.covariance_roots(made["covariances"]).float()

    def m_step() -> None:
        for counts in cal.shuffled_chunks([5000] * C, training.chunk, generator()):
            drawn = cal.virtual_features(counts, made["means"].float(), made["roots"], generator())
            training(*cal.shuffled(drawn, counts, generator()))

    measured = {"gaussians": peak_bytes(gaussians_)}
    running.follow(made["means"], made["covariances"], 0)
    held = 8 * C * D * D  # covariances are there throughout
    measured["roots"] = held + peak_bytes(roots)
    measured["m_step"] = held + 4 * C * D * D + peak_bytes(m_step)
    measured["settle"] = held + peak_bytes(running.settle)
    for part, most in counted.items():
        assert 0.6 * most < measured[part] <= most, part


def test_wide_features_of_many_classes_fit_in_16_gib() -> None:
    """ResNet-50's features of 25,331 images in 23 classes. The encoder's own step comes on top: its
    activations for 128 images of 224 px take 6 to 7 GiB in bfloat16."""
    N, D, C = 25_331, 2048, 23
    always = 4 * N * D + 12 * C * D * D  # features, running Gaussians and their whitenings
    replay = 4 * cal.GPU_CHUNK  # its inputs
    most = always + replay + max(round_bytes(N, D, C, cal.GPU_CHUNK).values())
    assert most < 6 * 2**30
