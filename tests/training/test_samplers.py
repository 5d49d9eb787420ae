import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lmdbench.core.errors import UserError
from lmdbench.training.samplers import (
    SAMPLERS,
    ClassBalancedSampler,
    InstanceSampler,
    register_sampler,
)
from lmdbench.training.task import batch_sizes

class_counts = st.lists(st.integers(1, 12), min_size=2, max_size=8)


def shuffled_labels(counts: list[int], seed: int = 0) -> Tensor:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def drawn(sampler, sizes: list[int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([sampler.draw(n, generator) for n in sizes])


def _drawing(draw):
    """A sampler that draws so, whatever the labels."""
    return lambda labels: SimpleNamespace(draw=lambda n, generator: draw(n))


@given(class_counts, st.integers(1, 9))
@settings(max_examples=30)
def test_instance_sampler_gives_every_image_once_a_pass(counts, size):
    labels = shuffled_labels(counts)
    passes = -(-len(labels) // size)
    order = drawn(InstanceSampler(labels), [size] * passes)
    assert sorted(order.tolist()) == list(range(len(labels)))


@given(class_counts, st.integers(1, 60), st.integers(0, 5))
@settings(max_examples=60)
def test_every_class_equally_often_at_any_moment(counts, n, seed):
    labels = shuffled_labels(counts)
    images = drawn(ClassBalancedSampler(labels), [n], seed)
    cycles, rest = divmod(n, len(counts))
    often = torch.bincount(labels[images], minlength=len(counts))
    assert often.min() >= cycles
    assert often.max() <= cycles + (rest > 0)


@given(class_counts, st.integers(1, 80), st.integers(0, 5))
@settings(max_examples=60)
def test_every_image_of_a_class_comes_before_one_comes_again(counts, n, seed):
    labels = shuffled_labels(counts)
    images = drawn(ClassBalancedSampler(labels), [n], seed)
    for c, count in enumerate(counts):
        own = images[labels[images] == c]
        for first in range(0, len(own), count):
            group = own[first : first + count]
            assert len(group.unique()) == len(group)


@given(class_counts, st.lists(st.integers(1, 30), min_size=1, max_size=8))
@settings(max_examples=40)
def test_batch_sizes_do_not_change_the_sequence(counts, sizes):
    labels = shuffled_labels(counts)
    in_batches = drawn(ClassBalancedSampler(labels), sizes)
    at_once = drawn(ClassBalancedSampler(labels), [1] * sum(sizes))
    assert torch.equal(in_batches, at_once)


def test_classes_come_in_a_new_order_each_cycle():
    labels = shuffled_labels([40] * 6)
    cycles = labels[drawn(ClassBalancedSampler(labels), [240])].reshape(-1, 6)
    assert (cycles.sort(dim=1).values == torch.arange(6)).all()
    assert len(cycles.unique(dim=0)) > 20


def test_class_lists_are_shuffled_anew():
    labels = shuffled_labels([8, 8])
    images = drawn(ClassBalancedSampler(labels), [160])
    lists = images[labels[images] == 0].reshape(-1, 8)
    assert len(lists.unique(dim=0)) == len(lists)


def test_images_of_a_class_are_equally_likely_first():
    labels = torch.tensor([0, 0, 0, 1])
    first = torch.cat([drawn(ClassBalancedSampler(labels), [2], seed) for seed in range(900)])
    often = torch.bincount(first, minlength=4)
    assert often[3] == 900
    assert ((often[:3] - 300).abs() < 60).all()  # more than four standard deviations


@pytest.mark.parametrize("classes", [2, 100])
def test_many_or_few_classes(classes):
    labels = shuffled_labels([30] + [1] * (classes - 1))
    images = drawn(ClassBalancedSampler(labels), [64] * 10)
    often = torch.bincount(labels[images], minlength=classes)
    assert often.max() - often.min() <= 1


def test_a_class_without_images_is_left_out():
    labels = torch.tensor([0, 0, 2])
    assert set(labels[drawn(ClassBalancedSampler(labels), [10])].tolist()) == {0, 2}


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_restarts_the_same(make_task, name):
    def epoch(task, number):
        task.streams.start_epoch(number)
        return torch.cat([batch.positions for batch in task.batches(name, ("test",), 4)])

    one, other = make_task(seed=3), make_task(seed=3)
    straight = [epoch(one, number) for number in (1, 2, 3)]
    assert torch.equal(epoch(other, 3), straight[2])
    assert torch.equal(epoch(other, 1), straight[0])
    assert not torch.equal(straight[0], straight[1])
    assert len(straight[0]) == len(one.train)


@pytest.mark.parametrize(
    "draw",
    [
        lambda n, generator: torch.randperm(3)[:n] if n < 3 else torch.randperm(64)[:n],
        lambda n, generator: torch.from_numpy(np.random.default_rng().permutation(n)),
    ],
)
def test_a_sampler_that_ignores_its_generator_is_refused(draw):
    with pytest.raises(UserError, match="sampler 'own' draws other images with a generator of the"):
        register_sampler("own")(lambda labels: SimpleNamespace(draw=draw))
    assert "own" not in SAMPLERS


def test_an_object_with_draw_is_a_sampler(make_task):
    class Always:
        def draw(self, n: int, generator: torch.Generator) -> Tensor:
            assert generator is task.streams.get("order")
            return torch.full((n,), 5)

    task = make_task()
    batches = list(task.batches(Always(), ("test",), 8))
    assert [len(batch) for batch in batches] == [8, 8, 3]
    assert all((batch.labels == task.train.labels[5]).all() for batch in batches)


@pytest.mark.parametrize(
    ("images", "batch_size", "drop_last", "sizes"),
    [
        (10, 4, False, [4, 4, 2]),
        (10, 4, True, [4, 4]),
        (8, 4, False, [4, 4]),
        (9, 4, False, [4, 5]),  # none is left alone
        (9, 4, True, [4, 4]),
        (1, 4, False, [1]),
        (3, 4, False, [3]),
    ],
)
def test_batch_sizes(images, batch_size, drop_last, sizes):
    assert batch_sizes(images, batch_size, drop_last=drop_last) == sizes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "can't be made of labels and drawn from: TypeError"),
        (lambda labels: labels, "can't be made of labels and drawn from: AttributeError"),
        (_drawing(lambda n: [0] * n), "draw must return positions of images"),
        (_drawing(lambda n: torch.zeros(n)), "draw must return positions of images"),
        (_drawing(lambda n: torch.full((n,), 3)), "returned [3, 3]; it must return"),
        (_drawing(lambda n: torch.arange(n + 1)), "returned [0, 1, 2]; it must return"),
    ],
)
def test_what_is_no_sampler_is_refused_in_one_line(make, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        register_sampler("odd")(make)
    assert "sampler 'odd'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "odd" not in SAMPLERS
