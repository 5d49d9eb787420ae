import logging

import pytest
import torch
import torch.nn.functional as F

from lmdbench.core.errors import UserError
from lmdbench.methods.ride_routing import Routers, experts_used, helped, running_means

from .helpers import moved, randn, snapshot, train_and_resume


@pytest.fixture
def make_encoder(make_staged_encoder):
    return make_staged_encoder


def test_means_so_far():
    logits = randn(3, 2, 4)
    found = running_means(logits)
    for i in range(3):
        torch.testing.assert_close(found[i], logits[: i + 1].mean(0))


def test_helped_by_hand():
    """Right are, image by image, the means after experts 0, 1, 2: - - +, + - -, - + -, - - -."""
    right = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]])
    means = F.one_hot(right, 2).double()  # class 1 is right
    found = helped(means, torch.ones(4, dtype=torch.long))
    assert found.tolist() == [[True, False, True, False], [True, False, False, False]]


def test_an_image_stops_at_the_first_router_that_says_so():
    goes_on = torch.tensor([[True, True, False, False], [True, False, True, False]])
    assert experts_used(goes_on).tolist() == [3, 2, 1, 1]


def test_routers_by_hand():
    """Of the highest logits in falling order and each expert's own features at length 1."""
    routers = Routers(4, 3, 2).double()
    features, means = randn(3, 5, 4), randn(3, 5, 6, seed=1)
    found = routers(features, means)
    assert found.shape == (2, 5)
    weight, bias = routers.output.weight[0], routers.output.bias
    for i in range(2):
        for b in range(5):
            layer, v = routers.hidden[i], features[i, b]
            hidden = (layer.weight @ (v / v.norm()) + layer.bias).clamp(min=0)
            seen = torch.cat([means[i, b].sort(descending=True).values[:2], hidden])
            torch.testing.assert_close(found[i, b], weight @ seen + bias[0])


def test_loss_is_the_official_one_expert_by_expert(make_task, make_method, trained):
    task = make_task((9, 5, 2))
    method = make_method("ride-routing", task, trained("ride", (9, 5, 2)), batch_size=16)
    _, batch = next(method.batches())
    means, routed = method.routed(batch.images)
    assert means.shape == (3, 16, 3)
    targets = helped(means, batch.labels).float()
    expected = sum(
        F.binary_cross_entropy_with_logits(r, t, pos_weight=torch.tensor(100.0))
        for r, t in zip(routed, targets, strict=True)
    )
    torch.testing.assert_close(method.loss(batch), expected / 2)


@pytest.mark.parametrize(("bias", "experts"), [(1e6, 3), (-1e6, 1)])
def test_where_all_or_no_image_goes_on(make_task, make_method, trained, bias, experts, caplog):
    caplog.set_level(logging.INFO, logger="lmdbench")
    ancestor = trained("ride", (9, 5, 2))
    method = make_method("ride-routing", make_task((9, 5, 2)), ancestor).eval()
    with torch.no_grad():
        method.routers.output.bias.fill_(bias)
    (batch,) = method.task.in_order(method.task.validation)
    features = ancestor.model.encoder(batch.images)
    expected = ancestor.model.head.each(features)[:experts].mean(0)
    torch.testing.assert_close(method.predict(batch.images), expected)
    method.finish()
    counts = [0, 0, 0]
    counts[experts - 1] = 6
    assert str(counts) in caplog.text


def test_nothing_but_the_routers_is_trained(make_task, make_method, trained, train):
    method = make_method("ride-routing", make_task((9, 5, 2)), trained("ride", (9, 5, 2)))
    before = snapshot(method)
    train(method)
    assert {name.partition(".")[0] for name in moved(method, before)} == {"routers"}


def test_resumed_training_is_bit_identical(make_task, make_method, trained, train):
    ancestor, task = trained("ride", (9, 5, 1)), make_task((9, 5, 1))
    whole, resumed = (make_method("ride-routing", task, ancestor, epochs=3) for _ in range(2))
    train_and_resume(train, whole, resumed, 2)
    assert not moved(resumed, whole.state_dict())


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("ce", {}, "has none of their kind: start it from another method, such as ride"),
        ("ride", {"experts": 2}, "--set experts=3"),
        ("ride", {"scale": 16.0}, "--set scale=30.0"),
    ],
)
def test_other_ancestors_are_refused(make_task, make_method, trained, name, settings, told):
    ancestor = trained(name)
    with pytest.raises(UserError, match=told):
        make_method("ride-routing", make_task((12, 5, 1)), ancestor, **settings)
