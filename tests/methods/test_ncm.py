import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from lmdbench.methods.ncm import NearestMean

from .helpers import moved, snapshot


def random_features(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0] * 9 + [1] * 4 + [2])
    return torch.randn(14, 5, generator=generator) + 3, labels


def fitted(features, labels, classes=3) -> NearestMean:
    head = NearestMean(classes, features.shape[1])
    head.fit(features, labels)
    return head


@pytest.mark.parametrize("seed", range(3))
def test_logits_against_loops(seed):
    features, labels = random_features(seed)
    head = fitted(features, labels)
    x = features.double().numpy()
    centre = x.mean(axis=0)
    x = np.array([(row - centre) / np.linalg.norm(row - centre) for row in x])
    means = [x[labels.numpy() == c].mean(axis=0) for c in range(3)]
    expected = [[-((row - m) ** 2).sum() for m in means] for row in x]
    np.testing.assert_allclose(head(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_decisions_against_scikit_learn(seed):
    features, labels = random_features(seed)
    head = fitted(features, labels)
    new = random_features(seed + 10)[0]
    x, others = (head.normalise(f).numpy() for f in (features, new))
    theirs = NearestCentroid().fit(x, labels.numpy()).predict(others)
    np.testing.assert_array_equal(head(new).argmax(1), theirs)


def test_means_are_not_normalised_again():
    head = fitted(*random_features())
    norms = head.means.norm(dim=1)
    assert (norms[:2] < 0.99).all()
    assert norms[2].item() == pytest.approx(1, rel=1e-5)  # of a single image


def test_the_centre_is_of_images_and_not_of_classes():
    features, labels = random_features()
    torch.testing.assert_close(fitted(features, labels).centre, features.mean(dim=0))


def test_class_sizes_do_not_matter_once_centred():
    """Every class three times over: the same centre, means and decisions."""
    features, labels = random_features()
    once, thrice = fitted(features, labels), fitted(features.repeat(3, 1), labels.repeat(3))
    torch.testing.assert_close(once(features), thrice(features), rtol=1e-4, atol=1e-5)


def test_the_order_of_classes_does_not_matter():
    features, labels = random_features()
    order = torch.tensor([2, 0, 1])
    permuted = fitted(features, order.argsort()[labels])
    torch.testing.assert_close(permuted(features), fitted(features, labels)(features)[:, order])


def test_logits_are_float32_whatever_the_features_are():
    features, labels = random_features()
    assert fitted(features, labels)(features.bfloat16()).dtype == torch.float32


def test_fits_to_the_training_images_in_the_test_view(stage1, make_method):
    task = stage1.task
    method = make_method("ncm", task, stage1).eval()
    before = snapshot(method.model.encoder)
    task.validation = None  # nothing of it is needed
    method.finish()
    (batch,) = task.in_order(task.train)
    with torch.no_grad():
        expected = fitted(stage1.model.encoder(batch.images), batch.labels)
        torch.testing.assert_close(method.model.head.means, expected.means)
        assert method.predict(batch.images).shape == (18, 3)
    assert not moved(method.model.encoder, before)
    assert method.epochs == 0


def test_starts_from_any_head(make_task, make_method):
    task = make_task()
    method = make_method("ncm", task, make_method("ldam-drw", task)).eval()
    method.finish()
    assert method.model.head.means.norm(dim=1).min() > 0


def test_through_the_command_it_is_fitted_once_and_read_again(toy_run, lmdbench, tmp_path):
    outcome = toy_run("ncm", "--set", "ce.epochs=2")
    assert outcome.code == 0, outcome.err
    (run,) = (tmp_path / "results").glob("*/*/ncm/seed*")
    with np.load(run / "predictions.npz") as saved:
        logits = saved["test_logits"]
    assert (logits <= 0).all()
    assert len(np.unique(logits.argmax(1))) > 1
