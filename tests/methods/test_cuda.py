import math

import pytest
import torch
import torch.nn.functional as F

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.ce import CrossEntropy
from lmdbench.methods.cuda import CUDA, at_levels, next_levels
from lmdbench.training.views.augmentation import VIEWS
from lmdbench.training.views.operations import MOST

from .helpers import moved, train_and_resume
from .released import Case, cases


@cases("cuda")
def test_official_levels(released):
    """Six updates, in each of which the share right is what the network can, in whole images."""
    case = Case(*released)
    levels = torch.from_numpy(case.random.randint(0, 11, case.C))
    rates = case.uniform(case.C, MOST + 1)
    expected = case.values["levels"]
    assert levels.tolist() == expected[0]
    for after in expected[1:]:
        rates = (rates + 0.08).clamp(max=1)
        tried = 10 * (torch.arange(MOST + 1) + 1)
        levels = next_levels(levels, (rates * tried).ceil() / tried, 0.6)
        assert levels.tolist() == after


def test_levels_by_hand():
    """Exactly the threshold does not pass, and strengths above the level do not matter."""
    rates = torch.zeros(5, MOST + 1)
    rates[0, :3], rates[1, :3] = 0.7, torch.tensor([0.7, 0.6, 0.7])
    rates[3] = 1
    rates[4, 0] = 1
    levels = next_levels(torch.tensor([2, 2, 0, 10, 0]), rates, 0.6)
    assert levels.tolist() == [3, 1, 0, 10, 1]


def first_images(method):
    method.task.streams.start_epoch(1)
    return next(method.batches())[1]


def test_at_level_0_it_is_cross_entropy_in_the_weak_view(make_task, make_method, train):
    class Weak(CrossEntropy):
        views = ("weak",)

    settings = {"batch_size": 32, "epochs": 2}
    plain = make_method(Weak, make_task((12, 5, 1)), **settings)
    own = make_method("cuda", make_task((12, 5, 1)), trials=0, **settings)
    assert torch.equal(first_images(own).images, first_images(plain).images)
    assert [row["loss"] for row in train(plain)] == [row["loss"] for row in train(own)]
    assert not moved(plain.model, own.model.state_dict())


def test_half_of_a_class_is_augmented_to_its_level(make_task, make_method):
    method = make_method("cuda", make_task((200, 200)), batch_size=400)
    method.levels.copy_(torch.tensor([0, 7]))
    _, (raw,) = next(iter(method.draws()))
    levels = raw.numbers[0][-1]
    assert levels[raw.labels == 0].unique().tolist() == [0]
    assert levels[raw.labels == 1].unique().tolist() == [0, 7]
    assert (levels[raw.labels == 1] == 7).float().mean() == pytest.approx(0.5, abs=0.12)


def test_trials_are_of_each_class_and_strength(make_task, make_method):
    method = make_method("cuda", make_task((12, 5, 1)), trials=3)
    method.levels.copy_(torch.tensor([2, 0, 1]))
    positions, strengths = method.trials()
    places = method.task.train.labels[positions] * 11 + strengths
    counted = torch.bincount(places, minlength=33).reshape(3, 11)
    assert counted[:, :4].tolist() == [[3, 6, 9, 0], [3, 0, 0, 0], [3, 6, 0, 0]]
    assert counted.sum() == len(positions) == 30


def test_rates_are_shares_of_the_trials_that_are_right(make_task, make_method, monkeypatch):
    """Of a head that always says class 1."""
    method = make_method("cuda", make_task((12, 5, 1)), level=1).train()
    with torch.no_grad():
        method.model.head.weight.zero_()
        method.model.head.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    rates = method.rates()
    assert rates[:, :3].tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert method.training
    assert not math.isnan(rates.sum())


def test_levels_rise_for_a_class_that_is_right_and_fall_for_others(make_task, make_method, train):
    method = make_method("cuda", make_task((12, 5, 1)), level=2, lr=0.0, epochs=2)
    with torch.no_grad():
        method.model.head.weight.zero_()
        method.model.head.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    logs = train(method)
    assert method.levels.tolist() == [0, 4, 0]
    assert logs[0]["mean_level"] == pytest.approx((1 + 3 + 1) / 3)


def test_the_loss_of_balanced_softmax(make_task, make_method):
    method = make_method("cuda", make_task((12, 5, 1)), loss="balanced-softmax", trials=0).eval()
    batch = first_images(method)
    adjusted = method.model(batch.images) + torch.tensor([12.0, 5.0, 1.0]).log()
    torch.testing.assert_close(method.loss(batch), F.cross_entropy(adjusted, batch.labels))


def test_a_batch_at_levels_keeps_all_else_that_was_drawn(make_task):
    train = make_task((4, 2)).train
    generator = torch.Generator().manual_seed(0)
    positions = torch.arange(6)
    raw = train.raw(positions, torch.zeros(6, 3, 8, 8, dtype=torch.uint8), ("levels",), generator)
    levels = torch.arange(6.0)
    drawn = VIEWS["levels"].draw(6, torch.Generator().manual_seed(0))
    for ours, expected in zip(at_levels(raw, levels).numbers[0], (*drawn[:2], levels), strict=True):
        assert torch.equal(ours, expected)


def test_resumed_training_is_bit_identical(make_task, make_method, train):
    settings = {"epochs": 4, "level": 3, "threshold": 0.3}
    whole, resumed = (make_method("cuda", make_task((20, 6, 1)), **settings) for _ in range(2))
    train_and_resume(train, whole, resumed, 2)
    assert not moved(resumed, whole.state_dict())


@pytest.mark.parametrize(("key", "text"), [("probability", "2"), ("level", "11"), ("trials", "-1")])
def test_settings_out_of_bounds_are_refused(key, text):
    with pytest.raises(UserError, match=key):
        resolve("cuda", CUDA.Settings, [], {key: text})
