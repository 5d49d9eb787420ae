"""Every method on a GPU that computes nothing: torch's own host code for CUDA raises where devices
are mixed, and captures break where a step waits for the GPU."""

import pytest

from lmdbench.training.method import METHODS, Method, built_in_methods

# Without those that train on images which they choose by numbers: there are none here.
NAMES = [
    method.name for method in built_in_methods() if method.images_an_epoch is Method.images_an_epoch
]
PHASES = {
    "ldam-drw": 2,
    "rrl": 2,
    "ride": 2,
    "shike": 2,
}  # graphs of a training, where they are several


@pytest.fixture(scope="module")
def found(null_gpu):
    return null_gpu("every_method.py", *NAMES)


def test_no_method_fails_or_falls_back(found):
    assert {name: row["error"] for name, row in found.items() if "error" in row} == {}
    assert {name: row["told"] for name, row in found.items() if row["told"]} == {}


def test_no_step_waits_for_the_gpu(found):
    assert {name: row["waits"] for name, row in found.items() if row["waits"]} == {}


def test_steps_of_replayable_methods_are_captured_also_after_a_checkpoint(found):
    for name, row in found.items():
        cls = METHODS.get(name)
        replayed = cls.replayable and cls.epochs != 0
        captured = row["captured"]
        assert all(captured), name
        # The second half of training, gone on with from a checkpoint, has at least its last phase.
        least = PHASES.get(name, 1) + 1
        assert (len(captured) >= least) if replayed else not captured, name
