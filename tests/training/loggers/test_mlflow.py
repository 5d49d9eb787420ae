"""What MLflow keeps of a run, as MLflow itself reads it. Its package is the real one."""

import json
import math
import shutil
import socket
import threading
from pathlib import Path

import pandas as pd
import pytest

from lmdbench.training.loggers import mlflow as module

pytest.importorskip("mlflow")
WITH = ("--log", "mlflow")


@pytest.fixture(autouse=True)
def no_server_named(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", *module.DEFAULTS):
        monkeypatch.delenv(name, raising=False)
    for name, value in module.DEFAULTS.items():  # to be taken away again after the test
        monkeypatch.setenv(name, value)


def client_of(results):
    from mlflow import MlflowClient

    return MlflowClient((results / "mlruns").as_uri())


def runs_of(results):
    """Experiment's name → its runs, the first one first."""
    client = client_of(results)
    found = {}
    for one in client.search_experiments():
        runs = client.search_runs([one.experiment_id], order_by=["attributes.start_time"])
        if runs:
            found[one.name] = list(runs)
    return found


def test_settings_epochs_scores_and_files(toy_run, tmp_path):
    outcome = toy_run("crt", "--set", "epochs=3", "--set", "ce.epochs=2", *WITH)
    assert outcome.code == 0, outcome.err
    results = tmp_path / "results"
    client = client_of(results)
    (path,) = results.glob("*/*/crt/seed*/run.json")
    directory, record = path.parent, json.loads(path.read_text())
    ((name, (of_ce, of_crt)),) = runs_of(results).items()
    assert name == record["results_name"]
    assert (of_ce.data.params["method"], of_crt.data.params["method"]) == ("ce", "crt")
    assert of_crt.info.status == "FINISHED"
    assert of_crt.data.tags["run"] == record["id"]
    assert of_crt.data.params["settings.epochs"] == "3"
    assert of_crt.data.params["split"] == record["split_label"]
    history = pd.read_csv(directory / "history.csv").set_index("epoch")
    for column in history:
        points = client.get_metric_history(of_crt.info.run_id, column)
        assert {p.step: p.value for p in points} == dict(history[column].dropna())
    times = [p.timestamp for p in client.get_metric_history(of_crt.info.run_id, "loss")]
    assert times == sorted(times)
    shown = json.loads(toy_run("crt", "--set", "epochs=3", "--set", "ce.epochs=2", "--json").out)
    test = of_crt.data.metrics["test/balanced_accuracy"]
    assert test == pytest.approx(shown[0]["scores"]["test"]["balanced_accuracy"])
    kept = client.download_artifacts(of_crt.info.run_id, "run.json", str(tmp_path))
    assert json.loads(Path(kept).read_text())["id"] == record["id"]
    # What lies beside them disturbs no reader of results.
    before = runs_of(results)
    assert toy_run("ce", "--set", "epochs=2").code == 0
    assert len(runs_of(results)[name]) == len(before[name])


def test_a_store_beside_results_is_no_result(toy_run, lmdbench, tmp_path):
    assert toy_run("ce", "--set", "epochs=1", *WITH).code == 0
    with_store = lmdbench("compare", "--results", tmp_path / "results", "--format", "csv")
    listed = lmdbench("results", "list", "--results", tmp_path / "results")
    shutil.rmtree(tmp_path / "results" / "mlruns")
    without = lmdbench("compare", "--results", tmp_path / "results", "--format", "csv")
    assert (with_store.out, with_store.err) == (without.out, without.err)
    assert "mlruns" not in listed.out + listed.err


def test_a_run_that_fails_says_why(toy_run, tmp_path):
    assert toy_run("ce", "--set", "epochs=2", "--set", "lr=1e30", *WITH).code == 1
    ((run,),) = runs_of(tmp_path / "results").values()
    assert run.info.status == "FAILED"
    assert "not finite after epoch 1" in run.data.tags["failed"]


def started(directory, attempt=1):
    spec = {"method": "ce", "seed": 0, "settings": {"lr": 0.1}}
    record = {"id": "ab" * 16, "spec": spec, "results_name": "toy", "split_label": "s"}
    log = module.MLflow()
    log.begin({**record, "attempts": attempt}, {"lr": 0.1}, directory)
    return log


def test_an_attempt_that_goes_on_has_all_epochs(tmp_path):
    directory = tmp_path / "toy" / "s" / "ce" / "seed0"
    directory.mkdir(parents=True)
    rows = [{"epoch": n, "loss": 1 / n, "seconds": 1.0} for n in (1, 2, 3)]
    first = started(directory)
    first.epoch(rows[:1])
    first.end(None)
    second = started(directory, attempt=2)
    second.epoch(rows[:2])
    second.epoch([*rows[:2], {**rows[2], "validation_balanced_accuracy": math.nan}])
    second.end({"test": {"kappa": None, "balanced_accuracy": 0.5}})
    one, two = runs_of(tmp_path)["toy"]
    assert (one.info.status, two.info.status) == ("KILLED", "FINISHED")
    points = client_of(tmp_path).get_metric_history(two.info.run_id, "loss")
    assert [(p.step, p.value) for p in points] == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    assert two.data.metrics.keys() == {"loss", "seconds", "test/balanced_accuracy"}


def test_workers_that_begin_at_once_share_an_experiment(tmp_path):
    directories = [tmp_path / "toy" / "s" / "ce" / f"seed{n}" for n in range(4)]
    barrier, failed = threading.Barrier(4), []

    def work(directory):
        directory.mkdir(parents=True)
        barrier.wait()
        try:
            started(directory).end(None)
        except Exception as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(one,)) for one in directories]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed
    assert sum(len(runs) for runs in runs_of(tmp_path).values()) == 4


def test_a_server_that_is_away_costs_a_line(toy_run, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert toy_run("ce", "--set", "epochs=1", *WITH).code == 0
    (log,) = (tmp_path / "results").glob("*/*/ce/seed*/run.log")
    assert "logger mlflow: " in log.read_text()
    assert "it is told nothing more of this attempt" in log.read_text()
    assert not (tmp_path / "results" / "mlruns").exists()
