from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import entropy

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.fs import (
    ActiveSampler,
    FlexibleSampling,
    anchors_of,
    disagreement,
    first_of_each,
    queries_per_class,
)

from .helpers import moved, randn, train_and_resume
from .released import Case, D, cases


def drawn(released):
    """Class sizes, and of each image its label, features and score, and accuracies."""
    case = Case(*released)
    sizes = torch.tensor(case.values["class_counts"])
    labels = torch.arange(case.C).repeat_interleave(sizes)
    n = len(labels)
    return case, labels, case.normal(n, D), case.uniform(n), case.uniform(case.C)


@cases("fs")
def test_official_anchors_and_queries(released):
    case, labels, features, scores, accuracies = drawn(released)
    anchors = anchors_of(features, labels, 0.1)
    counts = torch.bincount(labels[anchors])
    assert counts.tolist() == case.values["anchors_per_class"]
    assert anchors.sum() == case.values["anchor_index_sum"]
    active = torch.zeros(len(labels), dtype=torch.bool)
    active[anchors] = True
    order = scores.argsort(descending=True)
    for rule, divided in (("17745eb", True), ("8f31c0c", False)):
        unused = torch.bincount(labels[~active], minlength=case.C)
        many = queries_per_class(unused, accuracies, 0.1, divided=divided)
        assert many.tolist() == case.values[f"query_{rule}.per_class"]
        chosen = first_of_each(order[~active[order]], labels, many)
        assert chosen.sum() == case.values[f"query_{rule}.index_sum"]


@pytest.mark.parametrize(
    ("share", "many"), [(0.1, [10, 10, 4, 1]), (0.01, [2, 2, 2, 1]), (1.0, [105, 30, 4, 1])]
)
def test_anchors_per_class_by_hand(share, many):
    labels = torch.arange(4).repeat_interleave(torch.tensor([105, 30, 4, 1]))
    anchors = anchors_of(randn(140, 3), labels, share)
    assert torch.bincount(labels[anchors]).tolist() == many


def test_anchors_are_nearest_to_the_mean_of_their_class():
    """Of 0, 1, 2, 9 the mean is 3: nearest are 2 and 1."""
    features = torch.tensor([[0.0], [1.0], [2.0], [9.0], [5.0]])
    found = anchors_of(features, torch.tensor([0, 0, 0, 0, 1]), 0.5)
    assert found.tolist() == [2, 1, 4]


def test_queries_by_hand():
    """p = (1.5, 0, 1.5)."""
    accuracies, unused = torch.tensor([0.5, 1.0, 0.5]), torch.tensor([100, 50, 0])
    assert queries_per_class(unused, accuracies, 0.1).tolist() == [5, 1, 0]
    assert queries_per_class(unused, accuracies, 0.1, divided=False).tolist() == [15, 1, 0]
    alike = queries_per_class(unused, torch.ones(3), 0.1, divided=False)
    assert alike.tolist() == [10, 5, 0]


def test_disagreement_is_bald():
    logits = randn(10, 4, 3)
    p = logits.softmax(2).numpy()
    expected = entropy(p.mean(0), axis=1) - entropy(p, axis=2).mean(0)
    np.testing.assert_allclose(disagreement(logits), expected, atol=1e-8)
    same = disagreement(logits[:1].expand(10, 4, 3))
    assert same.abs().max() < 1e-9


def test_the_sampler_draws_the_active_images_once():
    sampler = ActiveSampler(torch.tensor([3, 7, 8]))
    drawn = sampler.draw(3, torch.Generator().manual_seed(0))
    assert sorted(drawn.tolist()) == [3, 7, 8]


def grown(make_task, make_method, train, monkeypatch, epochs, **settings):
    """What was active after each epoch, of a method that never gets better on validation."""
    method = make_method("fs", make_task((60, 12, 1)), epochs=epochs, **settings)
    monkeypatch.setattr(method, "logits", lambda images: -F.one_hot(images.labels, 3).float())
    seen = []
    epoch = method.epoch

    def watched(number):
        logs = epoch(number)
        seen.append(method.active.clone())
        return logs

    monkeypatch.setattr(method, "epoch", watched)
    logs = train(method)
    return method, seen, logs


def test_images_come_in_where_the_accuracy_waits(make_task, make_method, train, monkeypatch):
    """Warm-up is epochs 0 … 2 of 10, patience 2 epochs, counted from the start."""
    settings = {"patience": 0.2, "query": 0.3, "division": "none"}
    method, seen, logs = grown(make_task, make_method, train, monkeypatch, 10, **settings)
    sizes = [int(active.sum()) for active in seen]
    labels = method.task.train.labels
    assert torch.bincount(labels[seen[0]], minlength=3).tolist() == [6, 6, 1]
    assert [b > a for a, b in pairwise(sizes)] == [
        False, False, True, False, True, False, True, False, True
    ]  # fmt: skip
    for before, after in pairwise(seen):
        assert (after | before == after).all()
    assert [row["active_images"] for row in logs] == [13, *sizes[:-1]]


def test_the_optimiser_begins_anew_with_new_images(make_task, make_method, train, monkeypatch):
    settings = {"patience": 0.0, "warm": 0.0, "momentum": 0.9}
    method, _, _ = grown(make_task, make_method, train, monkeypatch, 1, **settings)
    kept = [s["momentum_buffer"] for s in method.running_optimizers["sgd"].state.values()]
    assert kept
    assert not any(momentum.any() for momentum in kept)


def test_all_images_at_once(make_task, make_method, train):
    method = make_method("fs", make_task((20, 5, 1)), anchors=1.0, epochs=1)
    assert train(method)[0]["active_images"] == 26


def test_a_better_accuracy_ends_the_wait(make_task, make_method):
    method = make_method("fs", make_task())
    seen = []
    for accuracy in (0.2, 0.2, 0.1, 0.3, 0.3):
        method.wait(torch.tensor(accuracy))
        seen.append(int(method.waited))
    assert seen == [0, 1, 2, 0, 1]


def test_resumed_training_is_bit_identical(make_task, make_method, train):
    """Also where images come in after the checkpoint, and before."""
    settings = {"epochs": 6, "warm": 0.0, "patience": 0.0}
    whole, resumed = (make_method("fs", make_task((60, 9, 1)), **settings) for _ in range(2))
    train_and_resume(train, whole, resumed, 3)
    assert not moved(resumed, whole.state_dict())


def test_a_wait_goes_on_where_training_stopped(make_task, make_method, train):
    """No accuracy is above the best: images come in after three epochs, wherever it stopped."""

    def make():
        method = make_method("fs", make_task((60, 9, 1)), epochs=4, warm=0.0, patience=0.75, lr=0.0)
        method.best.fill_(1.0)
        return method

    whole, resumed = make(), make()
    train(whole, 0, 2)
    assert (whole.waited, whole.best) == (2, 1)
    resumed.load_state_dict(whole.state_dict())
    grown = [train(method, 2, 3)[0]["active_images"] for method in (whole, resumed)]
    assert grown == [13, 13]  # the anchors: 6, 6 and 1
    assert torch.equal(whole.active, resumed.active)
    assert int(resumed.active.sum()) > 13
    assert int(resumed.waited) == 0
    assert whole.active.sum() > 6 + 6 + 1


def test_without_validation_images_it_is_refused(make_task, make_method):
    with pytest.raises(UserError, match="looks at validation images"):
        make_method("fs", make_task(validation=0))


@pytest.mark.parametrize(("key", "text"), [("anchors", "2"), ("dropout", "1"), ("passes", "0")])
def test_settings_out_of_bounds_are_refused(key, text):
    with pytest.raises(UserError, match=key):
        resolve("fs", FlexibleSampling.Settings, [], {key: text})
