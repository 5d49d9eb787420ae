"""A search as a whole: its trials planned, its choices made and written."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.splits.spec import SplitSpec
from lmdbench.evaluation.predictions import Predictions, save_predictions
from lmdbench.runs.request import RunContext
from lmdbench.sweep.config.file import Entry, Resources, Sweep, read_sweep
from lmdbench.sweep.config.written import sweep_text
from lmdbench.sweep.status import look
from lmdbench.sweep.tune.study import (
    Search,
    chosen_plans,
    joined,
    judge,
    plan_study,
    settings_text,
    write_chosen,
    write_sweeps,
    write_trials,
)


def silent(_text):
    pass


@pytest.fixture
def sweep(toy_folder):
    setup = RunContext("folder", toy_folder, backbone="small", image_size=24)
    entries = (
        Entry("ce", settings={"epochs": "1"}),
        Entry("focal", settings={"epochs": "1"}, label="Focal, ours"),
        Entry("crt", settings={"lr": "0.1", "weight_decay": "0.0", "ce.epochs": "1"}),
    )
    return Sweep("toy", "toy.toml", (setup,), entries, (0, 1), Resources())


@pytest.fixture
def study(sweep, tmp_path):
    return plan_study(sweep, Search(trials=3), tmp_path / "results", tmp_path / "cache", silent)


def finish(node, right):
    """A run as if it had been trained, with so many of its validation images predicted right."""
    run = node.run
    split = run.context.prepared.split
    run.directory.mkdir(parents=True)
    replace(run.describe(), digests=run.code).write(run.directory)
    labels = np.asarray(split.parts["validation"].labels)
    logits = np.eye(len(split.classes))[
        np.where(np.arange(len(labels)) < right, labels, labels - 1)
    ]
    part = Predictions(np.asarray(split.parts["validation"].ids), labels, logits)
    save_predictions(run.directory / "predictions.npz", {"validation": part})
    (run.directory / "done").touch()


def fail(node):
    node.run.directory.mkdir(parents=True)
    node.run.describe().write(node.run.directory)
    (node.run.directory / "failed.txt").write_text("Diverged: loss is nan\n\nTraceback\n")


def outcome(study, *rights):
    """The trials of each method in their order: images right, or None for one that failed."""
    (place,) = study.places
    for row, numbers in zip(place.methods, rights, strict=True):
        for trial, right in zip(row, numbers, strict=True):
            for node in place.runs(trial):
                fail(node) if right is None else finish(node, right)
    return judge(study, look(study.plan))


def test_trials_share_stage_1_and_what_has_nothing_to_search_has_one(study):
    (place,) = study.places
    assert [len(row) for row in place.methods] == [3, 3, 1]
    keys = [node.key for row in place.methods for trial in row for node in place.runs(trial)]
    assert len(keys) == len(set(keys)) == 7
    assert set(study.plan.nodes) == set(keys)  # crt starts from the first trial of ce
    (crt,) = place.runs(place.methods[2][0])
    assert crt.needs == place.runs(place.methods[0][0])[0].key


def test_another_method_or_more_trials_plan_the_same_runs_again(sweep, study, tmp_path):
    more = replace(sweep, entries=(Entry("lws"), *sweep.entries))
    wider = plan_study(more, Search(trials=5), tmp_path / "results", tmp_path / "cache", silent)
    assert set(study.plan.nodes) < set(wider.plan.nodes)


def test_nothing_is_chosen_before_all_trials_of_a_method_are_over(study):
    (place,) = study.places
    for trial in place.methods[0][:2]:
        finish(*place.runs(trial), 4)
    (choices,) = judge(study, look(study.plan))
    assert [choice.pending for choice in choices] == [True, True, True]
    assert [choice.chosen for choice in choices] == [None, None, None]


def test_the_best_is_chosen_and_a_failed_trial_is_spent(study):
    (choices,) = outcome(study, [4, 5, 8], [6, None, 6], [3])
    assert [choice.chosen for choice in choices] == [2, 0, 0]
    assert choices[0].used.validation.score == 1
    assert choices[1].results[1].fate == "failed"
    assert choices[1].results[1].notes == ("Diverged: loss is nan",)


def test_the_rule_is_the_one_asked_for(study):
    patient = replace(study, search=replace(study.search, rule="one-se"))
    (choices,) = outcome(patient, [4, 5, 8], [4, 5, 4], [3])
    assert [choice.chosen for choice in choices] == [2, 0, 0]


def test_what_starts_from_a_failed_run_has_failed_too(study):
    (place,) = study.places
    fail(*place.runs(place.methods[0][0]))
    (choices,) = judge(study, look(study.plan))
    assert choices[2].results[0].fate == "failed"
    assert "ce trial 0 seed 0" in choices[2].results[0].notes[0]
    assert choices[2].chosen is None
    assert not choices[2].pending


def test_trials_of_changed_code_are_refused(study, rewrite_record):
    (place,) = study.places
    (node,) = place.runs(place.methods[0][0])
    finish(node, 4)
    rewrite_record(node.run.directory, lambda record: record["digests"].update(method="other"))
    with pytest.raises(UserError, match=r"code of ce has changed.*trials-folder.*redo-changed"):
        judge(study, look(study.plan))


def test_choices_become_a_sweep_file_that_reads_back_as_the_same_sweep(study, tmp_path):
    found = outcome(study, [4, 5, 8], [6, None, 6], [3])
    write_sweeps(study)
    (plan,) = chosen_plans(study, found)
    write_chosen(study, plan.sweep)
    path = study.folder / f"chosen-{study.places[0].slug}.toml"
    assert str(path) == plan.sweep.source
    again = read_sweep(str(path), None)
    assert again == plan.sweep
    assert again.seeds == (0, 1)
    assert [entry.label for entry in again.entries] == [None, "Focal, ours", None]
    assert again.entries[0].settings == study.places[0].methods[0][2].tried.settings
    assert again.entries[1] == study.sweep.entries[1]
    text = path.read_text()
    assert text.startswith(
        "# Chosen by validation balanced accuracy from the trials of toy.toml:\n"
    )
    assert "3 trials, rule best, trial seeds 0, tune seed 0" in text.splitlines()[1]
    trials = read_sweep(str(study.folder / f"trials-{study.places[0].slug}.toml"), None)
    assert trials == study.places[0].plan.sweep


def test_a_trial_of_the_sweeps_seed_and_its_stage_1_are_not_trained_again(study, tmp_path):
    found = outcome(study, [4, 5, 8], [6, None, 6], [3])
    plan = joined(chosen_plans(study, found), "chosen", "toy")
    done = [
        (one.node.run.spec.method, one.node.run.spec.seed)
        for one in look(plan).runs.values()
        if one.state == "done"
    ]
    assert len(plan.nodes) == 8  # three methods and crt's stage 1, with two seeds
    assert sorted(done) == [("ce", 0), ("ce", 0), ("crt", 0), ("focal", 0)]


def test_what_was_tried_is_a_table(study):
    found = outcome(study, [4, 5, 8], [6, None, 6], [3])
    write_sweeps(study)
    rows = list(csv.DictReader(write_trials(study, found).open()))
    assert len(rows) == 7
    assert [row["chosen"] for row in rows] == ["no", "no", "yes", "yes", "no", "no", "yes"]
    assert [row["state"] for row in rows].count("failed") == 1
    assert rows[4]["note"] == "Diverged: loss is nan"
    assert rows[4]["validation_balanced_accuracy"] == ""
    assert [float(rows[n]["validation_balanced_accuracy"]) for n in (0, 2)] == [0.5, 1]
    assert rows[0]["settings"] == "lr=0.01 weight_decay=0.0"
    assert rows[2]["settings"] == settings_text(found[0][0].results[2])
    directory = study.plan.results / rows[2]["directory"]
    assert json.loads((directory / "run.json").read_text())["id"] == rows[2]["id"]


def test_set_ups_that_differ_in_more_than_data_set_and_split_have_files_of_their_own(
    sweep, tmp_path
):
    (setup,) = sweep.setups
    both = replace(sweep, setups=(setup, replace(setup, image_size=32)))
    study = plan_study(both, Search(trials=1), tmp_path / "results", tmp_path / "cache", silent)
    first, second = (place.slug for place in study.places)
    assert first.startswith("folder-toy")
    assert second == f"{first}-1"


def test_a_split_without_validation_images_is_refused(sweep, toy_folder, tmp_path):
    lines = (toy_folder / "labels.csv").read_text().replace(",validation", ",train").splitlines()
    table = [line.split(",") for line in lines]
    listed = tmp_path / "no-validation.csv"
    listed.write_text("\n".join(f"{image},{part}" for image, _, part in table) + "\n")
    bare = replace(sweep, setups=(replace(sweep.setups[0], split=SplitSpec(name=str(listed))),))
    with pytest.raises(UserError, match="no validation images"):
        plan_study(bare, Search(), tmp_path / "results", tmp_path / "cache", silent)


def test_a_written_sweep_reads_back_whatever_it_holds(toy_folder, tmp_path):
    plugin = tmp_path / "my plugin.py"
    plugin.write_text(
        "from lmdbench.training.samplers import InstanceSampler, register_sampler\n"
        'register_sampler("of-my-plugin")(lambda labels: InstanceSampler(labels))\n'
    )
    setups = (
        RunContext("demo", toy_folder, SplitSpec(imbalance_factor=50.0, seed=3)),
        RunContext(
            "folder",
            toy_folder,
            SplitSpec("kfold", folds=3, fold=1, groups="rank:1,2,1"),
            allow_missing=True,
            backbone="small",
            weights="none",
            image_size=32,
            selection="best",
            precision="float32",
        ),
    )
    entries = (
        Entry(
            "lmd", "ce", {"calibration": "real", "head_lr": "1e-05", "ce.epochs": "3"}, 'a "b" é'
        ),
        Entry("lmd", None, {"through_head": "false", "rrl.schedule": "cosine"}),
    )
    resources = Resources(
        on="slurm",
        gpus=(0, 1),
        runs_per_job=4,
        patience=5.0,
        time_minutes=90,
        setup=("module load cuda", "source env"),
        use_srun=False,
        sbatch={"partition": "gpu", "gpus-per-node": 1, "mail-type": False, "brand-new": "x"},
    )
    sweep = Sweep(
        "all.of-it_1", str(tmp_path / "s.toml"), setups, entries, (0, 2), resources, (plugin,)
    )
    (tmp_path / "s.toml").write_text(sweep_text(sweep, "One line\nand another"))
    assert read_sweep(sweep.source, Path("/elsewhere")) == sweep
