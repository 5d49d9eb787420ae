import torch
import torch.nn.functional as F

from .helpers import moved


def test_loss_is_cross_entropy_in_the_strong_view(make_task, make_method):
    method = make_method("ce", make_task())
    assert method.views == ("strong",)
    _, batch = next(method.batches())
    expected = F.cross_entropy(method.model(batch.images), batch.labels)
    assert torch.equal(method.loss(batch), expected)


def test_one_step_is_sgd(make_task, make_method):
    method = make_method("ce", make_task(), lr=0.1, momentum=0.0)
    _, batch = next(method.batches())
    weight = method.model.head.weight
    (gradient,) = torch.autograd.grad(method.loss(batch), weight)
    expected = weight.detach() - 0.1 * gradient
    method.step(batch)
    torch.testing.assert_close(weight.detach(), expected)


def test_learns_what_can_be_learnt(make_task, make_method, train):
    task = make_task((10, 10))
    method = make_method("ce", task, epochs=12, lr=0.1)
    logs = train(method)
    assert logs[-1]["loss"] < 0.6 * logs[0]["loss"]
    (batch,) = task.in_order(task.validation)
    with torch.no_grad():
        accuracy = (method.predict(batch.images).argmax(1) == batch.labels).float().mean()
    assert accuracy == 1


def test_a_run_repeats_itself(make_task, make_method, train):
    one, other = (make_method("ce", make_task(seed=7)) for _ in range(2))
    assert train(one) == train(other)
    assert not moved(one, other.state_dict())
