"""What the documentation shows is what works."""

import csv
import html
import importlib.util
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from lmdbench.core.registry import KINDS
from lmdbench.evaluation.metrics import balanced_accuracy
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.training.method import built_in_methods

DOCS = Path(__file__).resolve().parents[1] / "docs"


# Page → the files whose code it shows
SHOWN = {
    "adding-a-method": ("label_smoothing.py", "late_balance.py"),
    "adding-a-backbone": ("narrow_net.py",),
    "adding-a-data-set": ("clinic.py",),
    "adding-an-executor": ("one_by_one.py",),
    "adding-a-plot": ("accuracy_calibration.py",),
    "adding-a-logger": ("json_lines.py",),
    "adding-a-metric": ("jaccard.py", "sure_but_wrong.py"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_worked_examples_stand_in_the_page_as_they_are_in_the_files(name):
    page = (DOCS / f"{name}.md").read_text()
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    files = [DOCS / "examples" / file for file in SHOWN[name]]
    code = [file.read_text().split('"""', 2)[2].strip() for file in files]
    assert [block.strip() for block in shown] == code


def test_the_worked_example_runs_as_a_plugin(toy_run):
    plugin = DOCS / "examples" / "label_smoothing.py"
    words = ("--plugin", plugin, "--set", "epochs=1", "--set", "smoothing=0.2")
    outcome = toy_run("label-smoothing", *words)
    assert outcome.code == 0, outcome.err
    assert "balanced accuracy" in outcome.out.lower()


def test_its_settings_are_shown_and_checked(toy_run, lmdbench):
    plugin = DOCS / "examples" / "label_smoothing.py"
    shown = lmdbench("methods", "show", "label-smoothing", "--plugin", plugin)
    assert "smoothing" in shown.out
    assert "share of the probability" in shown.out
    assert "CVPR 2016" in shown.out
    wrong = toy_run("label-smoothing", "--plugin", plugin, "--set", "smothing=0.2")
    assert wrong.code == 2
    assert "Did you mean smoothing?" in wrong.err
    for value, bound in ((-3, "at least 0"), (1.5, "at most 1")):
        wrong = toy_run("label-smoothing", "--plugin", plugin, "--set", f"smoothing={value}")
        assert (wrong.code, bound in wrong.err) == (2, True)


def test_the_example_with_two_samplers_learns_from_the_balanced_ones_late(toy_run, tmp_path):
    plugin = DOCS / "examples" / "late_balance.py"
    words = ("--plugin", plugin, "--set", "epochs=4", "--set", "after=0.5")
    outcome = toy_run("late-balance", *words)
    assert outcome.code == 0, outcome.err
    (history,) = tmp_path.glob("results/*/*/late-balance/*/history.csv")
    losses = [float(row["loss"]) for row in csv.DictReader(history.open())]
    assert min(losses[2:]) > 1.3 * losses[1]  # a second term


@pytest.mark.parametrize("method", ["ce", "ride"])
def test_the_example_of_a_backbone_is_trained(toy_run, tmp_path, method):
    words = ("--plugin", DOCS / "examples" / "narrow_net.py", "--backbone", "narrow")
    outcome = toy_run(method, *words, "--set", "epochs=1")
    assert outcome.code == 0, outcome.err
    (record,) = tmp_path.glob(f"results/*/*/{method}/*/run.json")
    spec = json.loads(record.read_text())["spec"]
    assert (spec["backbone"], spec["settings"]["lr"]) == ("narrow", 0.05)


def test_a_method_that_needs_stages_is_told_as_the_page_says(
    toy_run, lmdbench, tmp_path, toy_folder
):
    plugin = tmp_path / "plain_net.py"
    example = (DOCS / "examples" / "narrow_net.py").read_text().replace('"narrow"', '"plain"')
    plugin.write_text(example.replace("NarrowNet", "PlainNet").replace("def stages", "def parts"))
    words = ("--plugin", plugin, "--backbone", "plain")
    assert toy_run("ce", *words, "--dry-run").code == 0
    told = toy_run("ride", *words, "--dry-run")
    assert told.code == 2
    page = " ".join((DOCS / "adding-a-backbone.md").read_text().split())
    assert told.err.strip() in page
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(
        f'methods = ["ride"]\nplugins = ["plain_net.py"]\n[run]\nbackbone = "plain"\n'
        f'[[datasets]]\nname = "folder"\ndata_root = "{toy_folder}"\n'
    )
    planned = lmdbench("sweep", "plan", sweep, "--results", tmp_path / "results")
    assert (planned.code, "the stages of a PlainNet are not known" in planned.err) == (2, True)


def test_the_plot_of_the_page_is_listed_and_drawn(lmdbench, fake_run, tmp_path):
    plugin = DOCS / "examples" / "accuracy_calibration.py"
    listed = lmdbench("plot", "--plugin", plugin)
    assert (
        "\naccuracy-calibration  accuracy against calibration error, a point a run\n" in listed.out
    )
    for seed in (0, 1):
        fake_run("ce", seed)
        fake_run("lmd", seed, skill=2.0)
    words = ("--results", tmp_path / "results", "--output", tmp_path / "figure.svg")
    drawn = lmdbench("plot", "accuracy-calibration", "--plugin", plugin, *words)
    assert (drawn.code, drawn.err) == (0, f"written: {tmp_path / 'figure.svg'}\n")
    assert (tmp_path / "figure.svg").stat().st_size > 10_000
    near = lmdbench("plot", "accuracy-calibratoin", "--plugin", plugin)
    assert "Did you mean accuracy-calibration?" in near.err


def test_the_example_of_a_logger_hears_of_a_run(toy_run, tmp_path):
    words = ("--log", "json-lines", "--plugin", DOCS / "examples" / "json_lines.py")
    outcome = toy_run("crt", *words, "--set", "epochs=2", "--set", "ce.epochs=1")
    assert outcome.code == 0, outcome.err
    (file,) = tmp_path.glob("results/*/*/crt/*/events.jsonl")
    begin, *epochs, scores = map(json.loads, file.read_text().splitlines())
    assert (begin["method"], begin["seed"], begin["epochs"]) == ("crt", 0, 2)
    history = list(csv.DictReader((file.parent / "history.csv").open()))
    assert [(line["epoch"], line["loss"]) for line in epochs] == [
        (int(row["epoch"]), pytest.approx(float(row["loss"]))) for row in history
    ]
    test = load_predictions(file.parent / "predictions.npz")["test"]
    expected = balanced_accuracy(test.labels, test.logits)
    assert scores["balanced_accuracy"] == pytest.approx(expected)
    near = toy_run("ce", *words[2:], "--log", "json-line")
    assert (near.code, "Did you mean json-lines?" in near.err) == (2, True)


def test_a_wrong_logger_is_told_as_the_page_says(toy_run, tmp_path):
    plugin = tmp_path / "json_lines.py"
    example = (DOCS / "examples" / "json_lines.py").read_text()
    plugin.write_text(example.replace("def epoch(self, history)", "def epoch(self)"))
    outcome = toy_run("ce", "--plugin", plugin)
    assert outcome.code == 2
    page = (DOCS / "adding-a-logger.md").read_text()
    assert outcome.err.strip().replace(f"{tmp_path}/", "") in page


@pytest.fixture
def compared(fake_run, tmp_path):
    """Results of ce and lmd, two seeds each, with twenty test images of each of four classes."""
    labels = np.repeat(np.arange(4), 20)
    record = {"class_counts": {"train": [60, 20, 10, 2], "test": [20] * 4}}
    for seed in (0, 1):
        for method, skill in (("ce", 1.0), ("lmd", 2.0)):
            noise = np.random.default_rng(seed).normal(size=(80, 4))
            fake_run(method, seed, test=(labels, noise + skill * np.eye(4)[labels]), record=record)
    return tmp_path / "results"


def test_the_example_of_a_metric_is_compared(lmdbench, compared):
    plugin = DOCS / "examples" / "jaccard.py"
    words = ("--plugin", plugin, "--metric", "jaccard", "--metric", "balanced_accuracy")
    outcome = lmdbench("compare", "--results", compared, *words, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    (block,) = json.loads(outcome.out)["blocks"]
    for row in block["rows"]:
        expected = []
        for run in row["runs"]:
            test = load_predictions(Path(run["directory"]) / "predictions.npz")["test"]
            expected.append(jaccard_score(test.labels, test.logits.argmax(axis=1), average="macro"))
        cell = row["scores"]["jaccard"]
        assert cell["by_seed"] == pytest.approx(expected)
        assert cell["interval"]["low"] < cell["mean"] < cell["interval"]["high"]
    cell = block["rows"][0]["scores"]["jaccard"]
    assert cell["difference"]["low"] < cell["difference"]["value"] < 0
    assert 0 < cell["p_corrected"] < 1
    assert any("of Jaccard index: test images by a bootstrap" in note for note in block["notes"])
    table = lmdbench("compare", "--results", compared, *words).out
    assert "Tested: Jaccard index against lmd" in table
    csv_lines = lmdbench("compare", "--results", compared, *words, "--format", "csv").out
    lines = [line for line in csv.DictReader(csv_lines.splitlines()) if line["metric"] == "jaccard"]
    assert all(float(line["low"]) < float(line["mean"]) for line in lines)


def test_a_metric_is_unknown_without_its_plugin(lmdbench, compared):
    outcome = lmdbench("compare", "--results", compared, "--metric", "jaccard")
    assert outcome.code == 2
    assert outcome.err.startswith("lmdbench: unknown metric 'jaccard'.")
    assert outcome.err.endswith("That of a plug-in needs --plugin FILE.py.\n")


@pytest.mark.parametrize("metric", ["jaccard", "sure-but-wrong"])
def test_the_examples_of_metrics_are_plotted_and_reported(lmdbench, compared, tmp_path, metric):
    plugin = DOCS / "examples" / f"{metric.replace('-', '_')}.py"
    words = ("--results", compared, "--plugin", plugin, "--metric", metric)
    for command in (("plot", "forest"), ("report",)):
        file = tmp_path / f"{command[-1]}.{'svg' if 'plot' in command else 'html'}"
        outcome = lmdbench(*command, *words, "--output", file)
        assert outcome.code == 0, outcome.err
        text = html.unescape(file.read_text())
        assert {"jaccard": "Jaccard index", "sure-but-wrong": "Wrong at 90 %"}[metric] in text
        if command == ("report",):
            assert ("by a bootstrap within classes" in text) == (metric == "jaccard")
            assert ("where lower is better" in text) == (metric != "jaccard")


def test_a_run_and_its_predictions_are_scored_with_the_metric(
    lmdbench, toy_run, trained_run, toy_folder
):
    words = ("--plugin", DOCS / "examples" / "jaccard.py")
    outcome = toy_run("ce", "--set", "epochs=1", *words)
    assert outcome.code == 0, outcome.err
    assert re.search(r"Jaccard index +−?\d+\.\d", outcome.out)
    outcome = lmdbench("predict", trained_run, "folder", "--data-root", toy_folder, *words)
    assert outcome.code == 0, outcome.err
    assert re.search(r"Jaccard index +\d+\.\d", outcome.out)


def test_a_wrong_metric_is_told_as_the_page_says(lmdbench, tmp_path):
    plugin = tmp_path / "jaccard.py"
    example = (DOCS / "examples" / "jaccard.py").read_text()
    plugin.write_text(example.replace('index"', 'index", lower_is_better=True'))
    outcome = lmdbench("compare", "--plugin", plugin)
    assert outcome.code == 2
    page = " ".join((DOCS / "adding-a-metric.md").read_text().split())
    assert outcome.err.strip().replace(f"{tmp_path}/", "") in page


def test_the_sweep_of_the_whole_field_has_every_method(lmdbench, tmp_path):
    file = DOCS / "examples" / "whole-field.toml"
    outcome = lmdbench("sweep", "plan", file, "--results", tmp_path / "results")
    assert outcome.code == 0, outcome.err
    listed = set(tomllib.loads(file.read_text())["methods"])
    assert listed == {m.name for m in built_in_methods()} | {"late-balance"}


def test_the_page_on_frozen_encoders_says_of_every_method_whether_it_can():
    page = (DOCS / "frozen.md").read_text()
    listed = page[page.index("**Which methods?**") : page.index("**LMD's calibration**")]
    can, cannot = (set(re.findall(r"`([a-z0-9-]+)`", part)) for part in listed.split("Refused"))
    methods = {m.name: m for m in built_in_methods()}
    assert can | cannot == set(methods)
    assert not [name for name in can if methods[name].needs_images or len(methods[name].views) > 1]
    refused = {n for n, m in methods.items() if m.needs_images or len(m.views) > 1}
    assert refused <= cannot


SWEEPS = ["short-isic2019", "short-newer-isic2019", "short-hyper-kvasir", "longer-isic2019"]


@pytest.mark.parametrize("name", SWEEPS)
def test_the_sweeps_of_the_evidence(lmdbench, tmp_path, test_data, name):
    words = ("--data-root", test_data, "--results", tmp_path / "results", "--json")
    outcome = lmdbench("sweep", "plan", DOCS / "examples" / f"{name}.toml", *words)
    assert outcome.code == 0, outcome.err
    planned = {run["method"] for run in json.loads(outcome.out)["runs"] if run["asked_for"]}
    assert planned <= {m.name for m in built_in_methods()}  # the methods that there were then


def test_the_page_of_the_methods_is_what_the_methods_say():
    spec = importlib.util.spec_from_file_location("page_of_methods", DOCS / "page_of_methods.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    same = script.page() == (DOCS / "methods.md").read_text(encoding="utf-8")
    assert same, "docs/methods.md is not up to date: run `python docs/page_of_methods.py`"


def test_a_sampler_and_a_view_of_ones_own_train_a_method(toy_run):
    """The example of the page on what can be added."""
    plugin = DOCS / "examples" / "square_root.py"
    outcome = toy_run("ce-square-root", "--plugin", plugin, "--set", "epochs=1")
    assert outcome.code == 0, outcome.err
    page = (DOCS / "adding.md").read_text()
    (shown,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown.strip() == plugin.read_text().split('"""', 2)[2].strip()


def test_the_page_on_what_can_be_added_names_every_kind():
    page = (DOCS / "adding.md").read_text()
    assert set(re.findall(r"`lmdbench list ([a-z]+)`", page)) == set(KINDS)


def test_the_page_on_results_shows_commands_that_work(lmdbench, fake_run, tmp_path):
    """Each on runs that it fits, in the page's order."""
    results = tmp_path / "results"
    ce = fake_run("ce", dataset="isic2019", record={"synthetic": False})
    for rounds in (2, 5):
        fake_run("lmd", ancestor=ce, settings={"rounds": rounds}, skill=2.0)
    fake_run("focal", state="failed.txt")
    text = (DOCS / "results.md").read_text()
    commands = re.findall(r"^lmdbench (results .*)$", text, re.MULTILINE)
    for command in commands:
        command = command.partition(" > ")[0].replace("49a72221", ce.name.partition("-")[2])
        outcome = lmdbench(*command.split(), "--results", results)
        asks = command.split()[1] == "remove" and "--yes" not in command
        assert outcome.code == (2 if asks else 0), (command, outcome.err)
        assert not asks or "there is no terminal to ask on" in outcome.err
    assert {command.split()[1] for command in commands} == {"list", "remove", "prune"}
