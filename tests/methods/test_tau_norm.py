import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from lmdbench.core.errors import UserError
from lmdbench.methods.tau_norm import TAUS, best_tau, tau_normalised

from .helpers import moved, randn, snapshot


@pytest.fixture
def stage1(trained):
    """With enough validation images for choices to differ."""
    return trained("ce", validation=6)


def test_the_grid_is_the_official_one():
    np.testing.assert_allclose(TAUS, np.linspace(0, 2, 21), rtol=1e-12)


@given(st.floats(0, 2), st.integers(0, 5))
def test_weights_are_divided_by_a_power_of_their_norm(tau, seed):
    weight = randn(4, 6, seed=seed)
    ours = tau_normalised(weight, tau).numpy()
    for j, w in enumerate(weight.numpy()):
        np.testing.assert_allclose(ours[j], w / np.sqrt((w**2).sum()) ** tau, rtol=1e-10)


def test_tau_1_makes_all_norms_1_and_a_zero_weight_stays():
    weight = torch.tensor([[3.0, 4.0], [0.1, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(
        tau_normalised(weight, 1.0), torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 0.0]])
    )
    assert tau_normalised(weight, 2.0).isfinite().all()


@pytest.mark.parametrize("seed", range(5))
def test_the_best_tau_by_scikit_learn(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat_interleave(20)
    features = torch.randn(60, 6, generator=generator) + torch.eye(3, 6)[labels]
    weight = torch.eye(3, 6) * torch.tensor([[9.0], [2.0], [0.3]])
    weight += 0.1 * torch.randn(3, 6, generator=generator)
    scores = []
    for tau in np.linspace(0, 2, 21):
        w = weight.numpy() / np.linalg.norm(weight.numpy(), axis=1, keepdims=True) ** tau
        score = balanced_accuracy_score(labels, (features.numpy() @ w.T).argmax(1))
        scores.append(round(score, 9))
    assert best_tau(features, labels, weight, TAUS) == pytest.approx(np.argmax(scores) / 10)
    assert len(set(scores)) > 1


def test_the_smallest_of_those_that_tie():
    features, labels = torch.eye(2), torch.tensor([0, 1])
    assert best_tau(features, labels, torch.eye(2), TAUS) == 0.0
    assert best_tau(features, labels, torch.eye(2), [0.4, 0.3, 0.9]) == 0.3


def test_tau_0_is_ce_without_bias(stage1, make_method):
    method = make_method("tau-norm", stage1.task, stage1, tau=0.0).eval()
    method.finish()
    (batch,) = stage1.task.in_order(stage1.task.train)
    with torch.no_grad():
        expected = stage1.predict(batch.images) - stage1.model.head.bias
        torch.testing.assert_close(method.predict(batch.images), expected, rtol=1e-4, atol=1e-5)


def test_the_choice_uses_validation_and_leaves_the_encoder(stage1, make_method):
    task = stage1.task
    chosen = set()
    for seed in range(6):
        with torch.no_grad():
            stage1.model.head.weight.normal_(generator=torch.Generator().manual_seed(seed))
            stage1.model.head.weight.mul_(torch.tensor([[4.0], [1.0], [0.2]]))
        method = make_method("tau-norm", task, stage1).eval()
        before = snapshot(method.model.encoder)
        method.finish()
        features, weight = method.features(task.validation), stage1.model.head.weight.detach()
        tau = best_tau(features, task.validation.labels, weight, TAUS)
        assert method.tau.item() == pytest.approx(tau)
        torch.testing.assert_close(method.model.head.weight.detach(), tau_normalised(weight, tau))
        assert not moved(method.model.encoder, before)
        chosen.add(tau)
    assert len(chosen) > 1
    assert method.epochs == 0


def test_a_given_tau_needs_no_validation(make_task, make_method):
    task = make_task((6, 3), validation=0)
    ce = make_method("ce", task)
    given_tau = make_method("tau-norm", task, ce, tau=0.7)
    given_tau.finish()
    torch.testing.assert_close(
        given_tau.model.head.weight.detach(), tau_normalised(ce.model.head.weight.detach(), 0.7)
    )
    with pytest.raises(UserError, match=r"validation images, and this split has none.*tau=0\.7"):
        make_method("tau-norm", task, ce).finish()


def test_the_tau_chosen_is_kept_with_the_run(toy_run, tmp_path):
    outcome = toy_run("tau-norm", "--set", "ce.epochs=2")
    assert outcome.code == 0, outcome.err
    (run,) = (tmp_path / "results").glob("*/*/tau-norm/seed*")
    from safetensors.torch import load_file

    tau = load_file(run / "model.safetensors")["tau"].item()
    assert f"tau {tau:g}, chosen on validation" in (run / "run.log").read_text()
