"""What Weights & Biases writes for a run, as its own messages read it, and what it costs when its
server is away. Its package is the real one; a server that answers as little as it must stands for
theirs."""

import contextlib
import json
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

from lmdbench.training.loggers import wandb as module

wandb = pytest.importorskip("wandb")
WITH = ("--log", "wandb")
BLOCK = 2**15  # of a file of records, as of LevelDB's logs


@pytest.fixture(autouse=True)
def nobody_logged_in(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    wandb.teardown()  # what it knows of variables it knows from its start


def records(path):
    """The messages of a .wandb file."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def told(directory):
    """Of each attempt at a run: its configuration, history, summary and exit code."""
    wandb.teardown()  # as at the end of the process: then all is in its files
    attempts = []
    for path in sorted(directory.glob("wandb/*run-*/*.wandb")):
        found = {"config": {}, "history": [], "summary": {}, "exit": None}
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                found["run"] = record.run
                for item in record.run.config.update:
                    found["config"][item.key] = json.loads(item.value_json)
            elif kind == "history":
                items = record.history.item
                row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
                found["history"].append(row)
            elif kind == "summary":
                for item in record.summary.update:
                    name = "/".join(item.nested_key) or item.key
                    found["summary"][name] = json.loads(item.value_json)
            elif kind == "exit":
                found["exit"] = record.exit.exit_code
        attempts.append(found)
    return attempts


def run_of(results):
    (directory,) = (path.parent for path in results.glob("*/*/ce/seed*/run.json"))
    return directory


def test_settings_epochs_and_scores_without_any_network(toy_run, tmp_path):
    outcome = toy_run("ce", "--set", "epochs=3", *WITH)
    assert outcome.code == 0, outcome.err
    directory = run_of(tmp_path / "results")
    record = json.loads((directory / "run.json").read_text())
    (found,) = told(directory)
    assert found["config"]["settings"]["epochs"] == 3
    assert found["config"]["method"] == "ce"
    assert found["run"].project == "lmdbench"
    assert found["run"].run_id == f"{record['id'][:16]}-1"
    assert found["run"].run_group == record["id"][:16]
    assert list(found["run"].tags) == [record["results_name"], record["split_label"]]
    history = pd.read_csv(directory / "history.csv")
    for name in ("epoch", "loss", "validation_balanced_accuracy", "seconds"):
        assert [row[name] for row in found["history"]] == pytest.approx(list(history[name]))
    assert [row["_step"] for row in found["history"]] == [1, 2, 3]
    shown = json.loads(toy_run("ce", "--set", "epochs=3", "--json").out)
    assert found["exit"] == 0
    test = found["summary"]["test/balanced_accuracy"]
    assert test == pytest.approx(shown[0]["scores"]["test"]["balanced_accuracy"])
    log = (directory / "run.log").read_text()
    assert f"wandb: offline; `wandb sync {directory}/wandb/offline-run-" in log


def test_nothing_of_the_machine_or_the_code_is_told(toy_run, tmp_path):
    assert toy_run("ce", "--set", "epochs=1", *WITH).code == 0
    (path,) = run_of(tmp_path / "results").glob("wandb/*run-*/*.wandb")
    kinds = {record.WhichOneof("record_type") for record in records(path)}
    assert not kinds & {"stats", "output", "output_raw", "artifact", "files"}
    assert not [*path.parent.glob("files/*")]
    (run,) = [record.run for record in records(path) if record.HasField("run")]
    assert run.host == ""
    assert not run.git.remote_url


def test_a_run_that_fails_says_why(toy_run, tmp_path):
    assert toy_run("ce", "--set", "epochs=2", "--set", "lr=1e30", *WITH).code == 1
    (found,) = told(run_of(tmp_path / "results"))
    assert found["exit"] == 1
    assert "not finite after epoch 1" in found["summary"]["failed"]


class Server:
    """Answers as Weights & Biases does to one that has a key; ``cut`` it, and nothing answers."""

    def __init__(self):
        self.asked = []
        self.silent = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.answer({})

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if outer.silent.is_set():
                    outer.silent.wait(0)
                    time.sleep(3)
                    return
                outer.asked.append(f"{self.path} {body.decode('latin-1')}")
                project = {"id": "p", "name": "lmdbench", "entity": {"id": "e", "name": "me"}}
                bucket = {"id": "x", "name": "n", "displayName": "n", "description": ""}
                bucket |= {"config": "{}", "sweepName": None, "historyLineCount": 0}
                upsert = {"bucket": {**bucket, "project": project}, "inserted": True}
                viewer = {"id": "v", "entity": "me", "username": "me", "flags": "{}"}
                viewer["teams"] = {"edges": []}
                info = {"cliVersionInfo": {}, "latestLocalVersionInfo": None, "features": []}
                data = {"viewer": viewer, "serverInfo": info, "queryType": {"fields": []}}
                self.answer({"data": {**data, "model": None, "upsertBucket": upsert}})

            def answer(self, content):
                text = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(text)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def cut(self):
        self.silent.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.address)
    wandb.teardown()
    yield server
    server.cut()


def test_online_only_with_a_key_and_a_server(server, monkeypatch, tmp_path):
    assert module.mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    assert module.mode() == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login user password {'b' * 40}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert module.mode() == "online"
    server.cut()
    assert module.mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert module.mode() == "disabled"


def test_a_network_that_goes_away_costs_a_line_and_loses_nothing(
    server, monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setattr(module, "SENT_WITHIN", 1.0)
    spec = {"method": "ce", "seed": 0}
    record = {"id": "0123456789abcdef" * 2, "spec": spec, "results_name": "r", "split_label": "s"}
    log = module.WeightsAndBiases()
    log.begin(record, {"lr": 0.1}, tmp_path)
    assert any("0123456789abcdef-1" in asked for asked in server.asked)
    log.epoch([{"epoch": 1, "loss": 2.0}])
    server.cut()
    begun = time.monotonic()
    log.epoch([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": float("nan")}])
    log.end({"test": {"balanced_accuracy": 0.5, "kappa": None}})
    assert time.monotonic() - begun < 10
    (line,) = [r.getMessage() for r in caplog.records if "not all was sent" in r.getMessage()]
    assert str(tmp_path / "wandb") in line
    (found,) = told(tmp_path)
    assert [row.get("loss") for row in found["history"]] == [2.0, None]
