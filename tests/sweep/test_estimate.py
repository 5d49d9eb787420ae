"""How long runs will take, from finished ones."""

import json
from dataclasses import replace

import pytest

from lmdbench.runs.record import RunRecord
from lmdbench.runs.request import Contexts, RunContext, RunRequest
from lmdbench.sweep.estimate import Estimate, estimate, finished_records, kind_of


@pytest.fixture
def planned(tmp_path):
    """A run of the demo data set: 1,032 training images at imbalance factor 100."""
    contexts = Contexts(tmp_path / "results", tmp_path / "cache", files=False)

    def planned(method="ce", seed=0, factor=100.0, size=None, starts_from=None, **settings):
        from lmdbench.data.splits.spec import SplitSpec

        setup = RunContext("demo", split=SplitSpec(imbalance_factor=factor), image_size=size)
        texts = {key.replace("__", "."): str(value) for key, value in settings.items()}
        return RunRequest(setup, method, seed, texts, starts_from).plan(contexts.of(setup))

    return planned


def finished(run, seconds, device="GPU A", epochs=None):
    """Its record as it is read back."""
    facts = {"seconds": seconds, "device": device, "epochs": epochs or run.length}
    record = replace(run.describe(), **facts).to_json()
    return RunRecord.from_json(json.loads(json.dumps(record)))


def images(run):
    return int(run.context.prepared.split.counts("train").sum())


def test_runs_that_differ_in_the_seed_give_their_median(planned):
    records = [finished(planned(seed=seed), 10.0 * seed) for seed in (1, 2, 6)]
    assert estimate([planned(seed=7)], records) == [
        Estimate(20.0, "GPU A", "3 finished runs of ce")
    ]


def test_one_run_is_one_run(planned):
    (guess,) = estimate([planned(seed=7)], [finished(planned(), 3.5)])
    assert guess == Estimate(3.5, "GPU A", "1 finished run of ce")


def test_nothing_alike_gives_nothing(planned):
    records = [finished(planned("crt"), 10.0), finished(planned(size=32), 10.0)]
    assert estimate([planned()], records) == [None]
    assert estimate([], records) == []


def test_other_epochs_and_images_are_scaled(planned):
    few, many = planned(epochs=5, factor=500.0), planned(epochs=40, factor=20.0)
    (guess,) = estimate([many], [finished(few, 10.0)])
    assert guess.seconds == pytest.approx(10.0 * 8 * images(many) / images(few))
    assert guess.source == "1 finished run of ce scaled"


def test_rounds_count_as_epochs(planned):
    (guess,) = estimate([planned("lmd", rounds=30)], [finished(planned("lmd", rounds=10), 4.0)])
    assert guess.seconds == pytest.approx(12.0)


def test_the_same_settings_go_before_others(planned):
    records = [
        finished(planned(batch_size=32), 100.0),
        finished(planned(epochs=10, lr=0.3), 1.0),
        finished(planned(epochs=10), 3.0),
    ]
    (guess,) = estimate([planned(epochs=20)], records)
    source = "1 finished run of ce scaled"
    assert guess == Estimate(pytest.approx(6.0), "GPU A", source, scaled=True)
    (other,) = estimate([planned(epochs=20, lr=1)], records[1:2])
    assert other.seconds == pytest.approx(2.0)
    assert other.source == "1 finished run of ce with other settings, scaled"


def test_the_most_frequent_device_counts(planned):
    records = [
        finished(planned(seed=1), 100.0, "cpu"),
        finished(planned(seed=2), 4.0, "GPU B"),
        finished(planned(seed=3), 6.0, "GPU B"),
    ]
    (guess,) = estimate([planned()], records)
    assert guess == Estimate(5.0, "GPU B", "2 finished runs of ce")


def test_a_calibration_stands_between_the_same_kind_and_scaling(planned):
    run = planned()
    measured = {kind_of(run): Estimate(7.0, "GPU C", "a measurement of ce")}
    scaled = finished(planned(epochs=2), 1.0)
    assert estimate([run], [scaled], measured) == list(measured.values())
    (guess,) = estimate([run], [scaled, finished(planned(seed=3), 9.0)], measured)
    assert guess.seconds == 9.0


def test_kinds_differ_in_all_but_the_seed(planned):
    assert kind_of(planned(seed=1)) == kind_of(planned(seed=2))
    others = [planned(lr=1), planned(factor=50.0), planned(size=32), planned("focal"), planned()]
    assert len({kind_of(run) for run in others}) == len(others)
    # What it starts from takes its own time.
    assert kind_of(planned("crt")) == kind_of(planned("crt", ce__epochs=3))


def test_records_are_those_of_finished_runs(fake_run, tmp_path):
    timed = {"seconds": 5.0, "epochs": 100, "device": "GPU A"}
    fake_run(seed=0, record=timed)
    fake_run(seed=1, record=timed, state=None)
    fake_run(seed=2)  # without a time
    damaged = fake_run(seed=3, record=timed)
    (damaged / "run.json").write_text("{")
    aside = fake_run(seed=4, record=timed)
    aside.rename(aside.with_name(f"{aside.name}.old-20250101"))
    found = finished_records(tmp_path / "results")
    assert [record.spec.seed for record in found] == [0]
    assert finished_records(tmp_path / "nothing") == []


def test_records_of_real_runs_are_understood(toy_run, toy_folder, tmp_path):
    """A run's own record is of the kind that its plan says."""
    assert toy_run("ce", "--set", "epochs=1").code == 0
    contexts = Contexts(tmp_path / "results", tmp_path / "cache", files=False)
    setup = RunContext("folder", toy_folder, backbone="small", image_size=24)
    run = RunRequest(setup, "ce", 5, {"epochs": "1"}).plan(contexts.of(setup))
    records = finished_records(tmp_path / "results")
    assert estimate([run], records) == [
        Estimate(records[0].seconds, records[0].device, "1 finished run of ce")
    ]
