import pytest
import torch

from lmdbench.methods.focal_sam import flat_shares

from .helpers import snapshot
from .linear import gradient_of_step, linear_method
from .released import Case, cases


@cases("sam")
@pytest.mark.parametrize(("gamma", "rho"), [(3.2, 0.3), (0.8, 0.05)])
def test_official_values(make_task, released, gamma, rho):
    case = Case(*released)
    settings = {"gamma": gamma, "share": 0.8, "rho": rho}
    method, batch = linear_method(make_task, case, "focal-sam", **settings)
    key = f"focal_sam_g{gamma:g}_s0.8_rho{rho:g}"
    expected = pytest.approx(case.values[f"{key}.coefficients"], rel=1e-9)
    assert method.flat_weights().tolist() == expected
    expected = pytest.approx(case.values[f"{key}.grad"], rel=1e-6)  # 1e-9 in its logarithm
    assert gradient_of_step(method, batch) == expected


def test_shares_by_hand():
    counts = torch.tensor([6.0, 3.0, 1.0])
    torch.testing.assert_close(flat_shares(counts, 0.5, 2.0), torch.tensor([0.08, 0.245, 0.405]))
    torch.testing.assert_close(flat_shares(counts, 0.5, 0.0), torch.full((3,), 0.5))


def step(make_task, make_method, name, **settings):
    torch.manual_seed(0)
    method = make_method(name, make_task((9, 5, 2)), **settings)
    _, batch = next(method.batches())
    before = snapshot(method)
    method.step(batch)
    return {k: p.detach() - before[k] for k, p in method.named_parameters()}


def test_all_flat_is_sam_and_none_is_the_loss(make_task, make_method):
    """γ = 0 and s = 1; s = 0."""
    loss = "balanced-softmax"
    for ours, theirs in (
        ({"gamma": 0.0, "share": 1.0, "rho": 0.3}, ("sam", {"rho": 0.3, "loss": loss})),
        ({"share": 0.0, "rho": 0.3}, (loss, {})),
    ):
        found = step(make_task, make_method, "focal-sam", **ours)
        expected = step(make_task, make_method, theirs[0], **theirs[1])
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
