import pytest
import torch

from lmdbench.errors import UserError


@pytest.fixture
def stage1(make_task, make_method, train):
    """A task with a trained cross-entropy run on it."""
    method = make_method("ce", make_task((12, 5, 1)))
    train(method)
    return method


def test_tau_0_is_exactly_ce(stage1, make_method):
    method = make_method("logit-adjustment-posthoc", stage1.task, stage1, tau=0.0).eval()
    (batch,) = stage1.task.in_order(stage1.task.train)
    assert torch.equal(method.predict(batch.images), stage1.predict(batch.images))


def test_the_log_prior_is_taken_out(stage1, make_method):
    method = make_method("logit-adjustment-posthoc", stage1.task, stage1, tau=1.5).eval()
    (batch,) = stage1.task.in_order(stage1.task.train)
    with torch.no_grad():
        raised = method.predict(batch.images) - stage1.predict(batch.images)
    expected = -1.5 * torch.tensor([12 / 18, 5 / 18, 1 / 18]).log()
    torch.testing.assert_close(raised, expected.expand_as(raised), rtol=1e-4, atol=1e-5)
    assert expected[2] > expected[1] > expected[0] > 0


def test_it_gives_probabilities_under_a_uniform_prior(stage1, make_method):
    """Bayes: p(y|x) / π_y, normalised."""
    method = make_method("logit-adjustment-posthoc", stage1.task, stage1).eval()
    (batch,) = stage1.task.in_order(stage1.task.train)
    with torch.no_grad():
        p = stage1.predict(batch.images).softmax(1) / torch.tensor([12.0, 5.0, 1.0])
        ours = method.predict(batch.images).softmax(1)
    torch.testing.assert_close(ours, p / p.sum(1, keepdim=True))


def test_nothing_is_trained(stage1, make_method, train):
    method = make_method("logit-adjustment-posthoc", stage1.task, stage1)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    assert method.epochs == 0
    assert train(method) == []
    method.finish()
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert before.keys() == stage1.state_dict().keys()


def test_needs_a_linear_head_to_start_from(make_task, make_method):
    task = make_task()
    with pytest.raises(UserError, match="head of ldam-drw is a CosineHead"):
        make_method("logit-adjustment-posthoc", task, make_method("ldam-drw", task))


def test_through_the_command_it_starts_from_a_run_of_ce(toy_run, tmp_path):
    outcome = toy_run("logit-adjustment-posthoc", "--set", "ce.epochs=2", "--set", "tau=0.5")
    assert outcome.code == 0, outcome.err
    assert len(list((tmp_path / "results").glob("*/*/ce/seed*/done"))) == 1
    assert len(list((tmp_path / "results").glob("*/*/logit-*/seed*/predictions.npz"))) == 1
