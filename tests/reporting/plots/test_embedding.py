"""t-SNE of features: the same places each time, and what the picture says of itself."""

from dataclasses import replace

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.reporting.plots.embedding import Embedding, draw_embedding, plane


@pytest.fixture
def embedding() -> Embedding:
    """Three classes of 12 images, well apart; the last has none shown."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 12)
    features = rng.normal(size=(24, 5)) + 30 * labels[:, None]
    return Embedding(
        title="skin · plain · test images",
        part="test",
        classes=["nv", "mel", "df"],
        labels=labels,
        counts=np.array([500, 12, 0]),
        features={"before: rrl": features, "after: lmd": -features},
        per_class=12,
    )


def test_classes_that_are_apart_stay_apart_and_places_are_repeatable(embedding):
    features = embedding.features["before: rrl"]
    places = plane(features)
    np.testing.assert_array_equal(places, plane(features))
    first, second = places[:12], places[12:]
    between = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert between > 2 * max(first.std(), second.std())


def test_it_says_how_many_images_it_shows(embedding, look):
    figure = draw_embedding(embedding)
    texts = look(figure, apart=False)
    assert {"1 nv (12 / 500)", "2 mel (12 / 12)", "3 df (0 / 0)"} <= set(texts)
    assert {"before: rrl", "after: lmd"} <= set(texts)
    assert "At most 12 test images of a class" in " ".join(texts)
    assert "perplexity 7, seed 0" in " ".join(texts)


def test_too_few_images_and_features_that_are_not_finite_are_refused(embedding):
    few = replace(embedding, labels=np.array([0, 1]))
    with pytest.raises(UserError, match="2 images cannot be laid out"):
        draw_embedding(few)
    broken = {"after": np.full((24, 5), np.nan)}
    with pytest.raises(UserError, match="not finite"):
        draw_embedding(replace(embedding, features=broken))


def test_23_classes_fit_the_legend(look, long_tail):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(23), 2)
    embedding = Embedding(
        title="x",
        part="test",
        classes=list(long_tail),
        labels=labels,
        counts=np.array(list(long_tail.values())),
        features={"x": rng.normal(size=(46, 4))},
    )
    look(draw_embedding(embedding), apart=False)


def test_of_many_classes_the_groups_are_drawn(look):
    rng = np.random.default_rng(0)
    made = Embedding(
        title="skin · plain · test images",
        part="test",
        classes=[f"class {k}" for k in range(60)],
        labels=np.arange(60),
        counts=np.full(60, 2),
        features={"ce": rng.normal(size=(60, 4))},
        groups=["head"] * 20 + ["tail"] * 30 + [""] * 10,
    )
    texts = look(draw_embedding(made))
    assert {"1 head (20 / 40)", "2 tail (30 / 60)", "3 in no group (10 / 20)"} <= set(texts)
    assert "Groups stand for the 60 classes." in " ".join(texts)
