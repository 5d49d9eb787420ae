"""Its start from a run of ce is tested in test_linear_head."""

import torch

from .helpers import moved, snapshot


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
    before = snapshot(method)
    assert method.epochs == 0
    assert train(method) == []
    method.finish()
    assert not moved(method, before)
    assert before.keys() == stage1.state_dict().keys()


def test_through_the_command_it_starts_from_a_run_of_ce(toy_run, tmp_path):
    outcome = toy_run("logit-adjustment-posthoc", "--set", "ce.epochs=2", "--set", "tau=0.5")
    assert outcome.code == 0, outcome.err
    assert len(list((tmp_path / "results").glob("*/*/ce/seed*/done"))) == 1
    assert len(list((tmp_path / "results").glob("*/*/logit-*/seed*/predictions.npz"))) == 1
