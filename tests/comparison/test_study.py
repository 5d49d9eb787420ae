"""What a table of finished runs says of a study like it, on runs of a known law."""

import numpy as np
import pytest

from lmdbench import api
from lmdbench.comparison.study import law_of_table
from lmdbench.core.errors import UserError
from lmdbench.evaluation.simulation import TableLaw, TableSimulation

LAW = TableLaw((900, 500, 300, 200), (0.9, 0.75, 0.6, 0.5), 4, 5, 0.02, persistence=0.6, own=0.4)
METHODS = ("ce", "crt", "lws", "lmd")


def logits_of(right: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, 4), the largest of each image's label where it is ``right``, else of the next class."""
    return np.eye(4)[np.where(right, labels, (labels + 1) % 4)]


def table_of(fake_run, law, seeds=range(5)):
    simulation = TableSimulation(law)
    right = simulation.draw(np.random.default_rng(0))
    for method, runs in zip(METHODS, right, strict=True):
        for seed in seeds:
            test = (simulation.labels, logits_of(runs[seed], simulation.labels))
            directory = fake_run(method, seed=seed, test=test)
    (table,) = api.compare(directory.parents[3], metrics="balanced_accuracy").tables
    return table


def test_law_of_a_table_is_the_one_it_was_drawn_by(fake_run):
    images, law = law_of_table(table_of(fake_run, LAW))
    assert images.images == images.counts == law.counts == LAW.counts
    assert images.sizes == (60, 20, 10, 2)
    assert (law.methods, law.seeds) == (4, 5)
    assert law.recalls == pytest.approx(LAW.recalls, abs=0.05)
    assert law.noise == pytest.approx(LAW.noise, rel=0.3)
    assert np.mean(law.lasting) == pytest.approx(0.6, abs=0.07)
    assert law.own == pytest.approx(0.4, abs=0.2)  # SD of .07 from table to table


def test_a_table_of_single_seeds_tells_nothing_of_seeds(fake_run):
    with pytest.raises(UserError, match="no row has two seeds"):
        law_of_table(table_of(fake_run, LAW, seeds=[0]))
