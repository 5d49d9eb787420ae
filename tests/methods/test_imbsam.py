import pytest
import torch

from .helpers import moved, snapshot
from .linear import gradient_of_step, linear_method
from .released import Case, cases


@cases("sam")
def test_official_values(make_task, released):
    """Where the batch has an image of the tail; without one the official code has none."""
    values = Case(*released).values
    for tail, rho in ((300, 0.05), (20, 0.5)):
        expected = values.get(f"imbsam_eta{tail}_rho{rho:g}.grad")
        if expected is None:
            continue
        method, batch = linear_method(make_task, Case(*released), "imbsam", rho=rho, tail=tail)
        assert method.loss(batch).item() == pytest.approx(values["ce_mean"], rel=1e-10)
        assert gradient_of_step(method, batch) == pytest.approx(expected, rel=1e-9)


def one_step(make_task, make_method, name, **settings):
    torch.manual_seed(0)
    method = make_method(name, make_task((9, 5, 2)), **settings)
    _, batch = next(method.batches())
    before = snapshot(method)
    method.step(batch)
    names = dict(method.named_parameters())
    return {
        name: value - before[name] for name, value in method.state_dict().items() if name in names
    }


def test_no_tail_is_cross_entropy_and_all_tail_is_twice_sam(make_task, make_method):
    def step(name, **settings):
        return one_step(make_task, make_method, name, **settings)

    for found, expected, times in (
        (step("imbsam", tail=0), step("ce"), 1),
        (step("imbsam", tail=100, rho=0.3), step("sam", rho=0.3), 2),
    ):
        for key, value in expected.items():
            torch.testing.assert_close(found[key], times * value, rtol=1e-4, atol=1e-6)


def test_a_batch_without_tail_is_the_plain_step(make_task, make_method):
    """Also batch norm's statistics, which see the images twice but are finite."""
    method = make_method("imbsam", make_task((9, 5, 2)), tail=3)
    _, batch = next(method.batches())
    batch.labels.zero_()
    method.step(batch)
    assert all(value.isfinite().all() for value in method.state_dict().values())


def test_the_tail_are_classes_of_fewer_images(make_task, make_method):
    method = make_method("imbsam", make_task((9, 5, 2)), tail=5)
    assert method.flat_weights().tolist() == [0, 0, 2]
    assert method.plain_weights().tolist() == [1, 1, 0]


def test_rho_0_is_cross_entropy_to_the_bit(make_task, make_method, train):
    trained = []
    for name, settings in (("ce", {}), ("imbsam", {"rho": 0.0})):
        torch.manual_seed(0)
        trained.append(make_method(name, make_task(), **settings))
        train(trained[-1])
    assert not moved(trained[1], trained[0].state_dict())
