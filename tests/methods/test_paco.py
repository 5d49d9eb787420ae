"""PaCo's loss against loops; keys, their average and their queue; what is trained and predicted."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.methods.logit_adjustment import logit_adjusted_loss
from lmdbench.methods.paco import Queue, parametric_contrastive_loss
from lmdbench.methods.supcon import supervised_contrastive_loss

from .helpers import assert_finite, moved, randn, snapshot, train_and_resume, unit_rows

ABSENT = -1


def by_loops(z, pi, q, y, keys, key_labels, alpha: float, tau: float) -> float:
    """z (N, C): plain logits. Centres have weight 1, each image of the class has α; the centres'
    exponentials count by the class's frequency."""
    losses = []
    for i in range(len(q)):
        centres = [pi[c] * np.exp(z[i, c]) for c in range(len(pi))]
        samples = [(np.exp(q[i] @ q[j] / tau), y[j]) for j in range(len(q)) if j != i]
        for key, label in zip(keys, key_labels, strict=True):
            if label != ABSENT:
                samples.append((np.exp(q[i] @ key / tau), label))
        total = sum(centres) + sum(e for e, _ in samples)
        weighted = [(1.0, centres[y[i]])] + [(alpha, e) for e, label in samples if label == y[i]]
        losses.append(
            -sum(w * np.log(e / total) for w, e in weighted) / sum(w for w, _ in weighted)
        )
    return float(np.mean(losses))


def ours(z, pi, q, y, keys, key_labels, alpha: float, tau: float) -> torch.Tensor:
    return parametric_contrastive_loss(
        z + pi.log(), q, y, keys, key_labels, alpha=alpha, temperature=tau
    )


@given(
    st.integers(1, 6),
    st.integers(0, 9),
    st.integers(2, 7),
    st.sampled_from([0.0, 0.05, 0.6]),
    st.integers(0, 20),
)
def test_loss_is_that_of_the_paper(queries, keys, classes, alpha, seed):
    """Also with keys that are absent, none of a class, or none at all."""
    rng = np.random.default_rng(seed)
    y = torch.from_numpy(rng.integers(0, classes, queries))
    key_labels = torch.from_numpy(rng.integers(ABSENT, classes, keys))
    pi = torch.from_numpy(rng.dirichlet(np.ones(classes)))
    z = randn(queries, classes, seed=seed)
    q, k = unit_rows(queries, 5, seed + 100), unit_rows(keys, 5, seed + 200)
    mine = ours(z, pi, q, y, k, key_labels, alpha, 0.3).item()
    arrays = (t.numpy() for t in (z, pi, q, y, k, key_labels))
    assert mine == pytest.approx(by_loops(*arrays, alpha, 0.3), rel=1e-10)


def test_gradient():
    y, key_labels = torch.tensor([0, 1, 1]), torch.tensor([0, ABSENT, 2, 1])
    z, q, k = (
        randn(3, 3, seed=0).requires_grad_(),
        unit_rows(3, 4, 1).requires_grad_(),
        unit_rows(4, 4, 2),
    )
    pi = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z, q: ours(z, pi, q, y, k, key_labels, 0.4, 0.5), (z, q))


def test_absent_keys_are_as_if_they_were_not_there():
    y, key_labels = torch.tensor([0, 1, 1]), torch.tensor([0, ABSENT, 1, ABSENT])
    z, q, k, pi = (
        randn(3, 2, seed=0),
        unit_rows(3, 4, 1),
        unit_rows(4, 4, 2),
        torch.tensor([0.75, 0.25]),
    )
    there = key_labels != ABSENT
    torch.testing.assert_close(
        ours(z, pi, q, y, k, key_labels, 0.4, 0.5),
        ours(z, pi, q, y, k[there], key_labels[there], 0.4, 0.5),
    )


def test_with_far_centres_and_equal_weights_it_is_supervised_contrast():
    """With α → ∞ and centres that take no share of the softmax: the mean over the images of P_i.
    Queries alone, of which each has another of its class."""
    y, q = torch.tensor([0, 1, 1, 0, 1]), unit_rows(5, 4, 0)
    z, pi = torch.full((5, 2), -100.0, dtype=torch.float64), torch.tensor([0.5, 0.5])
    loss = ours(z, pi, q, y, q[:0], y[:0], 1e9, 0.2)
    torch.testing.assert_close(loss, supervised_contrastive_loss(q, y, 0.2), rtol=1e-6, atol=0)


def test_the_share_of_a_centre_falls_with_the_images_of_its_class():
    """Where the loss is least, a centre has 1 / (1 + α K) of an image's softmax, an image of its
    class α / (1 + α K)."""
    alpha, K = 0.05, 40
    s = torch.tensor([0.0, 0.0], dtype=torch.float64, requires_grad=True)  # of centre, of keys
    y, labels, pi = torch.tensor([0]), torch.zeros(K, dtype=torch.int64), torch.tensor([1.0])
    q, k = torch.ones(1, 1, dtype=torch.float64), torch.ones(K, 1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS([s], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = ours(s[0].reshape(1, 1), pi, q, y, k * s[1], labels, alpha, 1.0)
        loss.backward()
        return loss

    optimizer.step(closure)
    shares = torch.cat([s[:1], s[1:].expand(K)]).softmax(dim=0)
    assert shares[0].item() == pytest.approx(1 / (1 + alpha * K), rel=1e-3)
    assert shares[1].item() == pytest.approx(alpha / (1 + alpha * K), rel=1e-3)


def test_large_logits_and_low_temperatures_stay_finite():
    q, y = unit_rows(4, 3).float().requires_grad_(), torch.tensor([0, 0, 1, 1])
    z = torch.full((4, 2), 500.0, requires_grad=True)
    loss = parametric_contrastive_loss(z, q, y, q.detach(), y, alpha=0.05, temperature=1e-3)
    assert_finite(loss, z, q)


def labels_of(queue: Queue) -> list[int]:
    assert torch.equal(queue.keys[:, 0].long(), queue.labels.clamp(min=0))  # a key with its label
    return queue.labels.tolist()


def put(queue: Queue, *labels: int) -> None:
    y = torch.tensor(labels)
    queue.put(y[:, None].float(), y)


def test_queue_holds_the_last_keys():
    queue = Queue(5, 1)
    assert labels_of(queue) == [ABSENT] * 5
    put(queue, 1, 2)
    assert labels_of(queue) == [1, 2, ABSENT, ABSENT, ABSENT]
    put(queue, 3, 4)
    assert labels_of(queue) == [3, 4, 1, 2, ABSENT]
    put(queue, 5, 6)  # round the end: the oldest goes, in part of its batch
    assert labels_of(queue) == [5, 6, 3, 4, 1]
    put(queue, 7)
    assert labels_of(queue) == [7, 5, 6, 3, 4]
    put(queue, 10, 11, 12, 13, 14, 15, 16)  # more than there is room for
    assert labels_of(queue) == [10, 11, 12, 13, 14]


def test_queue_of_no_length_stays_empty():
    queue = Queue(0, 1)
    put(queue, 1, 2)
    assert labels_of(queue) == []


@pytest.mark.parametrize(("setting", "length"), [(1024, 18), (18, 18), (6, 6), (0, 0)])
def test_queue_is_no_longer_than_the_training_set(make_task, make_method, setting, length):
    method = make_method("paco", make_task((12, 5, 1)), queue=setting)
    assert len(method.queue.labels) == len(method.queue.keys) == length


def test_queries_keys_and_queue_of_two_batches(make_task, make_method):
    """The head sees the first view, without the projector; the keys are of the second view by the
    average. The second batch meets the keys of the first, which are then still in the queue."""
    task = make_task((12, 5, 1))
    method = make_method("paco", task, alpha=0.3, temperature=0.4, batch_size=6, queue=8, width=5)
    method.eval()  # batch norm as it was at first, so that keys can be had alone
    with torch.no_grad():
        for p in method.averaged.parameters():  # another network than the queries'
            p.mul_(1.1)
    pi = task.class_counts / task.class_counts.sum()
    earlier, earlier_labels = torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64)
    for _, batch in method.batches():
        assert len(batch.views) == 2
        assert not torch.equal(*batch.views)
        z = method.model.encoder(batch.views[0])
        q = F.normalize(method.projector(z), dim=1)
        k = F.normalize(method.averaged(batch.views[1]), dim=1)
        keys = torch.cat([k, earlier])
        key_labels = torch.cat([batch.labels, earlier_labels])
        expected = ours(method.model.head(z), pi, q, batch.labels, keys, key_labels, 0.3, 0.4)
        torch.testing.assert_close(method.loss(batch), expected)
        assert not torch.equal(k, F.normalize(method.projector(z), dim=1))
        earlier, earlier_labels = keys[:8], key_labels[:8]
    assert torch.equal(method.queue.labels, earlier_labels)


def test_without_images_beside_the_centres_it_is_logit_adjustment(make_task, make_method):
    """With α = 0, where the centres have next to all of the softmax."""
    task = make_task((12, 5, 1))
    method = make_method("paco", task, alpha=0.0, temperature=1e6, queue=0).eval()
    _, batch = next(method.batches())
    with torch.no_grad():
        method.model.head.bias += 50  # against e^0 of each image
    expected = logit_adjusted_loss(method.model(batch.images), batch.labels, task.class_counts, 1.0)
    torch.testing.assert_close(method.loss(batch), expected)


def test_the_average_follows_before_each_step(make_task, make_method):
    method = make_method("paco", make_task((12, 5, 1)), key_decay=0.9, lr=0.1).train()
    network = torch.nn.Sequential(method.model.encoder, method.projector)

    def parameters(of) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in of.parameters()]).clone()

    expected = parameters(method.averaged)
    assert torch.equal(expected, parameters(network))
    for _, batch in method.batches():
        expected = 0.9 * expected + 0.1 * parameters(network)
        method.step(batch)
        torch.testing.assert_close(parameters(method.averaged), expected)
        assert not torch.allclose(parameters(method.averaged), parameters(network))


def test_what_is_trained(make_task, make_method, train):
    """Encoder, projector and head; the keys' network by its average alone, here not at all."""
    method = make_method("paco", make_task((12, 5, 1)), epochs=1, key_decay=1.0)
    before = snapshot(method)
    train(method)
    learned = moved(method, before) & dict(method.named_parameters()).keys()
    assert {name.split(".")[0] for name in learned} == {"model", "projector"}
    assert not method.queue.keys.requires_grad


def test_a_class_of_one_image_learns_from_its_centre(make_task, make_method):
    task = make_task((6, 1))
    method = make_method("paco", task, batch_size=7, queue=0).train()
    _, batch = next(method.batches())
    method.loss(batch).backward()
    gradient = method.model.head.weight.grad
    assert gradient.isfinite().all()
    assert gradient[1].abs().sum() > 0


def test_a_resumed_training_ends_the_same(make_task, make_method, train):
    whole, resumed = (
        make_method("paco", make_task((12, 5, 1)), epochs=2, queue=11) for _ in range(2)
    )
    train_and_resume(train, whole, resumed, after=1)
    assert moved(resumed, snapshot(whole)) == set()


def test_prediction_is_the_heads_without_the_prior(make_task, make_method):
    method = make_method("paco", make_task((12, 5, 1))).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = method.model.head(method.model.encoder(images))
    torch.testing.assert_close(method.predict(images), expected)


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"alpha": -0.1}, {"queue": -1}, {"key_decay": 1.1}]
)
def test_impossible_settings_are_refused(make_task, make_method, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_method("paco", make_task(), **wrong)
