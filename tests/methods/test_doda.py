import random

import pytest
import torch
import torch.nn.functional as F

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.ce import CrossEntropy
from lmdbench.methods.doda import DODA, OPERATIONS, draw_operations, next_weights
from lmdbench.training.views.operations import NONE, Operation

from .helpers import moved, train_and_resume

ROTATE = OPERATIONS.index(Operation.ROTATE)


def test_the_ten_operations_in_the_official_order():
    names = "FLIP MIRROR EDGE_ENHANCE DETAIL SMOOTH AUTOCONTRAST EQUALISE INVERT BLUR ROTATE"
    assert [o.name for o in OPERATIONS] == names.split()


def test_weights_by_hand():
    """More right, fewer, as many, and fewer at the least weight."""
    weights = torch.ones(4, 10, dtype=torch.long)
    weights[1, 9] = 5
    hits, earlier = torch.tensor([7, 2, 3, 0]), torch.tensor([4, 9, 3, 1])
    new = next_weights(weights, torch.tensor([2, 9, 0, 3]), hits, earlier)
    expected = torch.ones(4, 10, dtype=torch.long)
    expected[0, 2], expected[1, 9] = 2, 4
    assert torch.equal(new, expected)


@pytest.mark.parametrize("classes", [2, 100])
def test_weights_are_those_of_the_official_rule_over_many_epochs(classes):
    """Written out class by class, as the official code has it."""
    numbers = random.Random(classes)
    weights = torch.ones(classes, 10, dtype=torch.long)
    theirs = [[1] * 10 for _ in range(classes)]
    earlier = [0] * classes
    for _ in range(40):
        chosen = [numbers.randrange(10) for _ in range(classes)]
        hits = [numbers.randrange(6) for _ in range(classes)]
        for c in range(classes):
            if hits[c] > earlier[c]:
                theirs[c][chosen[c]] += 1
            elif hits[c] < earlier[c]:
                theirs[c][chosen[c]] = max(1, theirs[c][chosen[c]] - 1)
        weights = next_weights(weights, *map(torch.tensor, (chosen, hits, earlier)))
        earlier = hits
    assert weights.tolist() == theirs
    assert weights.max() > 3


def test_operations_are_drawn_by_their_weights():
    weights = torch.ones(4000, 10, dtype=torch.long)
    weights[:, ROTATE] = 11
    drawn = draw_operations(weights, torch.Generator().manual_seed(0))
    rates = torch.bincount(drawn, minlength=10) / len(drawn)
    assert rates[ROTATE].item() == pytest.approx(11 / 20, abs=0.03)
    assert rates[:ROTATE].tolist() == pytest.approx([1 / 20] * 9, abs=0.015)


def test_half_of_a_class_has_its_operation(make_task, make_method):
    method = make_method("doda", make_task((200, 200)), batch_size=400)
    method.chosen.copy_(torch.tensor([ROTATE, 7]))
    method.task.streams.start_epoch(1)
    _, (raw,) = next(iter(method.draws()))
    told = raw.numbers[0][-1]
    for c, operation in enumerate((Operation.ROTATE, Operation.INVERT)):
        own = told[raw.labels == c]
        assert set(own.tolist()) == {NONE, operation.value}
        assert (own != NONE).float().mean().item() == pytest.approx(0.5, abs=0.12)


def test_without_operations_it_is_cross_entropy_in_the_weak_view(make_task, make_method, train):
    class Weak(CrossEntropy):
        views = ("weak",)

    settings = {"batch_size": 32, "epochs": 2}
    plain = make_method(Weak, make_task((12, 5, 1)), **settings)
    own = make_method("doda", make_task((12, 5, 1)), probability=0.0, **settings)
    assert [row["loss"] for row in train(plain)] == [row["loss"] for row in train(own)]
    assert not moved(plain.model, own.model.state_dict())


def says_class_1(method):
    """Of a head that always says class 1, and never learns."""
    with torch.no_grad():
        method.model.head.weight.zero_()
        method.model.head.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    return method


def test_training_images_that_are_right_are_counted_by_class(make_task, make_method, train):
    method = says_class_1(make_method("doda", make_task((12, 5, 1)), lr=0.0, epochs=2))
    train(method)
    assert method.earlier.tolist() == [0, 5, 0]


def test_weights_change_after_a_share_of_the_epochs(make_task, make_method, train):
    """In the third epoch of eight for the first time, where the class that is right was not so."""
    task = make_task((12, 5, 1))
    method = says_class_1(make_method("doda", task, lr=0.0, epochs=8, kept=0.125))
    train(method, last=2)
    assert (method.weights == 1).all()
    method.earlier.zero_()
    train(method, first=2, last=3)
    changed = (method.weights != 1).nonzero().tolist()
    assert changed == [[1, method.chosen[1].item()]]
    assert method.weights.sum() == 31


def test_the_loss_of_balanced_softmax(make_task, make_method):
    method = make_method("doda", make_task((12, 5, 1)), loss="balanced-softmax").eval()
    method.task.streams.start_epoch(1)
    _, batch = next(method.batches())
    adjusted = method.model(batch.images) + torch.tensor([12.0, 5.0, 1.0]).log()
    torch.testing.assert_close(method.loss(batch), F.cross_entropy(adjusted, batch.labels))


def test_what_else_was_drawn_stays_as_it_was(make_task, make_method):
    method = make_method("doda", make_task((12, 5, 1)), batch_size=18)
    (raw,) = next(method.task.draws(("instance",), method.views, 18))
    prepared = method.prepared(raw)
    for ours, drawn in zip(prepared.numbers[0][:-1], raw.numbers[0][:-1], strict=True):
        assert torch.equal(ours, drawn)
    assert torch.equal(prepared.pixels, raw.pixels)


def test_resumed_training_is_bit_identical(make_task, make_method, train):
    """With weights that are no longer alike when it stops."""
    settings = {"epochs": 6, "kept": 0.0, "lr": 0.05}
    whole, resumed = (make_method("doda", make_task((20, 6, 1)), **settings) for _ in range(2))
    train_and_resume(train, whole, resumed, 4)
    assert (whole.weights != 1).any()
    assert not moved(resumed, whole.state_dict())


def test_what_was_right_before_a_stop_is_known_after_it(make_task, make_method, train):
    """As many as then are no more, and no weight changes."""
    settings = {"epochs": 4, "kept": 0.0, "lr": 0.0}
    whole, resumed = (
        says_class_1(make_method("doda", make_task((12, 5, 1)), **settings)) for _ in range(2)
    )
    train_and_resume(train, whole, resumed, 2)
    assert resumed.earlier.tolist() == [0, 5, 0]
    assert (resumed.weights == 1).all()


@pytest.mark.parametrize(("key", "text"), [("probability", "2"), ("kept", "-1"), ("loss", "focal")])
def test_settings_out_of_bounds_are_refused(key, text):
    with pytest.raises(UserError, match=key):
        resolve("doda", DODA.Settings, [], {key: text})
