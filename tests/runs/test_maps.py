"""Pictures of what spoke for an answer."""

import numpy as np
from PIL import Image

from lmdbench.runs.maps import beside


def test_an_image_stands_beside_the_same_under_its_map():
    """Where the map is 0 the image is as it was; where it is 1, .55 of the colour covers it."""
    image = np.full((4, 4, 3), 100, dtype=np.uint8)
    values = np.zeros((4, 4))
    values[:, 3] = 1
    found = np.asarray(beside(image, values))
    assert found.shape == (4, 8, 3)
    assert (found[:, :7] == 100).all()
    brightest = np.array([252, 255, 164])  # the last colour of inferno
    np.testing.assert_allclose(found[0, 7], 0.45 * 100 + 0.55 * brightest, atol=1.5)


def test_predict_draws_them_and_replaces_nothing(lmdbench, trained_run, toy_folder, tmp_path):
    images = [toy_folder / "round-0.png", toy_folder / "rare-0.png"]
    words = ("predict", trained_run, *images, "--maps", tmp_path / "maps", "--quiet")
    outcome = lmdbench(*words)
    assert outcome.code == 0, outcome.err
    assert outcome.out.endswith("maps (Grad-CAM of the answer)\n")
    drawn = sorted((tmp_path / "maps").iterdir())
    assert [path.name for path in drawn] == ["1-round-0.png", "2-rare-0.png"]
    with Image.open(drawn[0]) as picture:
        assert picture.size == (448, 224)
    again = lmdbench(*words)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "there is something in it" in again.err
    assert lmdbench(*words, "--force").code == 0
