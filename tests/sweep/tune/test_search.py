"""Which settings are tried, how they are judged, and what is chosen."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core.errors import UserError
from lmdbench.core.settings import Uniform, describe
from lmdbench.evaluation.metrics import balanced_accuracy
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.sweep.config.file import Entry
from lmdbench.sweep.tune.search import (
    Validation,
    best,
    difference_error,
    get_rule,
    one_se,
    read_validation,
    searched,
    trials,
    validation_score,
)
from lmdbench.training.method import METHODS, Method, register_method


def defaults(method):
    return {
        name: setting.default for name, setting in describe(METHODS.get(method).Settings).items()
    }


def drawn(method, draws, seed=0, **entry):
    made = trials(Entry(method, **entry), defaults(method), draws, seed)
    assert [trial.number for trial in made] == list(range(len(made)))
    assert not made[0].drawn
    return [dict(trial.drawn) for trial in made[1:]]


# Trials


# All but those whose settings are fitted, or chosen on validation by their definition.
SEARCHED = [name for name in METHODS.names() if name not in ("ncm", "tau-norm")]


@given(st.sampled_from(SEARCHED), st.integers(1, 6), st.integers(0, 5))
def test_more_draws_leave_the_earlier_ones_as_they_are(method, draws, seed):
    longer = drawn(method, draws + 2, seed)
    assert drawn(method, draws, seed) == longer[:draws]
    assert drawn(method, draws, seed + 1) != longer[:draws]


@given(st.sampled_from(["focal", "lmd", "rrl"]), st.integers(0, 5))
def test_draws_depend_on_method_and_label_but_on_no_setting_beside(method, seed):
    free = drawn(method, 3, seed)
    fixed = drawn(method, 3, seed, settings={"weight_decay": "0.5"})
    assert fixed == [{k: v for k, v in one.items() if k != "weight_decay"} for one in free]
    assert drawn(method, 3, seed, label="mine") != free


def test_every_method_is_tried_equally_often():
    for method in SEARCHED:
        assert len(drawn(method, 7)) == 7


def test_what_the_file_fixes_is_not_searched():
    entry = Entry("lmd", settings={"lmd.head_lr": "1e-4", "fdc_weight": "0", "rrl.lr": "0.1"})
    assert set(searched(entry)) == {"ridge", "encoder_lr", "weight_decay"}
    (_, trial) = trials(entry, defaults("lmd"), 1, 0)
    assert set(trial.tried.settings) == {*entry.settings, "ridge", "encoder_lr", "weight_decay"}
    assert trial.tried.settings["rrl.lr"] == "0.1"


def test_a_method_with_nothing_to_search_has_its_one_trial():
    entry = Entry("ce", settings={"lr": "0.1", "weight_decay": "0"})
    assert [trial.tried for trial in trials(entry, defaults("ce"), 7, 0)] == [entry]


def test_multiples_are_of_the_default_in_the_set_up():
    made = trials(Entry("lmd"), {**defaults("lmd"), "head_lr": 0.1}, 20, 0)
    rates = [float(trial.drawn["head_lr"]) for trial in made[1:]]
    assert 0.01 <= min(rates) < 0.1 < max(rates) <= 1


def test_rates_of_another_optimiser_are_multiples_of_the_default():
    usual = {**defaults("ce"), "optimizer": "adamw", "lr": 1e-4, "weight_decay": 0.05}
    for trial in trials(Entry("ce"), usual, 20, 0)[1:]:
        assert 1e-5 <= float(trial.drawn["lr"]) <= 1e-3
        assert 0.005 <= float(trial.drawn["weight_decay"]) <= 0.5


def test_a_range_beyond_the_bounds_is_named(request):
    @register_method("test-out-of-bounds")
    class OutOfBounds(Method):
        @dataclass(frozen=True, kw_only=True)
        class Settings(Method.Settings):
            momentum: Annotated[float, Uniform(-1, 0.9)] = 0.9

        def loss(self, batch): ...

    request.addfinalizer(lambda: METHODS._things.pop("test-out-of-bounds"))
    with pytest.raises(UserError, match=r"range of test-out-of-bounds.momentum, -1 to 0.9: .*-1"):
        drawn("test-out-of-bounds", 1)


# Judging


def test_the_score_is_balanced_accuracy_on_validation_images(fake_run):
    directory = fake_run("ce", skill=1.5)
    part = load_predictions(directory / "predictions.npz")["validation"]
    expected = balanced_accuracy(part.labels, part.logits)
    assert 0.2 < expected < 1
    assert validation_score(directory) == pytest.approx(expected)


def test_seeds_of_a_trial_are_averaged(fake_run):
    directories = [fake_run("ce", seed=seed) for seed in range(3)]
    mean = np.mean([validation_score(directory) for directory in directories])
    assert read_validation(directories).score == pytest.approx(mean)


def rewritten(path: Path, change) -> None:
    """The archive with ``change`` made to each member's bytes; None leaves it out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            changed = change(name, content)
            if changed is not None:
                archive.writestr(name, changed)


def without_test(name, content):
    return None if name.startswith("test_") else content


def with_test_scrambled(name, content):
    return content[:200] + content[:199:-1] if name.startswith("test_") else content


@pytest.mark.parametrize("change", [without_test, with_test_scrambled])
def test_no_test_data_is_looked_at(fake_run, change):
    directory = fake_run("ce", skill=1.5)
    before = validation_score(directory)
    rewritten(directory / "predictions.npz", change)
    assert validation_score(directory) == before


def test_not_even_the_bytes_of_test_arrays_are_read(fake_run):
    """Their checksums are wrong, which reading them would find."""
    directory = fake_run("ce", skill=1.5)
    before = validation_score(directory)
    path = directory / "predictions.npz"
    with zipfile.ZipFile(path) as archive:
        places = [item.header_offset for item in archive.infolist() if "test_" in item.filename]
    content = bytearray(path.read_bytes())
    for place in places:
        content[place + 60 : place + 160] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(UserError):
        load_predictions(path, ["test"])
    assert validation_score(directory) == before


# Choosing


def validation(*classes):
    """Right (1) or wrong (0) on the images of each class."""
    labels = np.repeat(np.arange(len(classes)), [len(right) for right in classes])
    return Validation(labels, np.concatenate(classes).astype(float))


def test_standard_error_by_hand():
    a = validation([1, 0, 0, 0], [1])
    b = validation([1, 1, 1, 0], [1])
    # Class 0: d = 0, 1, 1, 0: (2 + 2)/6, of 4 images. Class 1: d = 0: (0 + 2)/3, of 1.
    assert difference_error(a, b) == pytest.approx(np.sqrt(4 / 6 / 4 + 2 / 3) / 2)
    assert difference_error(a, b) == difference_error(b, a)


def test_standard_error_of_many_images_is_that_of_mcnemar():
    rng = np.random.default_rng(0)
    right = rng.random((2, 4000)) < [[0.6], [0.7]]
    a, b = validation(right[0]), validation(right[1])
    usual = np.sqrt(np.sum(right[0] != right[1])) / 4000
    assert difference_error(a, b) == pytest.approx(usual, rel=1e-2)


def test_best_takes_the_earlier_of_equal_ones_and_none_that_failed():
    low, high = validation([1, 0], [0]), validation([1, 1], [0])
    other_high = validation([0], [1, 0, 1, 0])
    assert best([low, high, high]) == 1
    assert best([low, other_high, low]) == 0
    assert best([None, low, high]) == 2


def many(share, images=100):
    return [1] * round(share * images) + [0] * round((1 - share) * images)


def test_one_se_keeps_the_defaults_unless_a_draw_is_clearly_better():
    # Two of 100 images were gained: v = (2 + 2)/102, SE = √(v/100) = .0198 < .02.
    defaults, slightly = validation(many(0.5)), validation(many(0.52))
    assert difference_error(defaults, slightly) == pytest.approx(0.01980, abs=1e-5)
    assert one_se([defaults, validation(many(0.51))]) == 0
    assert one_se([defaults, slightly]) == 1
    assert one_se([defaults, slightly, validation(many(0.8)), validation(many(0.7))]) == 2
    assert one_se([defaults, None, validation(many(0.3))]) == 0
    assert best([defaults, validation(many(0.51))]) == 1


def test_one_image_of_a_tail_class_persuades_one_se_of_nothing():
    defaults, lucky = validation(many(0.5), [0]), validation(many(0.5), [1])
    assert lucky.score - defaults.score == pytest.approx(0.5)
    assert one_se([defaults, lucky]) == 0
    assert best([defaults, lucky]) == 1


def test_one_se_without_the_defaults_takes_the_best():
    assert one_se([None, validation([0, 1]), validation([1, 1])]) == 2


def test_an_unknown_rule_lists_those_there_are():
    with pytest.raises(UserError, match=r"unknown rule 'bst'. Did you mean best\?.*one-se"):
        get_rule("bst")
