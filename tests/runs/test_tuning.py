"""Runs that train a part of their encoder, from the command to tables and predictions."""

import json
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lmdbench.core.randomness import derived_seed
from lmdbench.models.small import SmallNet
from lmdbench.runs.record import read_record

LORA = "lora:rank=2,alpha=4"
SHORT = ("--set", "epochs=1", "--set", "batch_size=8")


@pytest.fixture
def weights(tmp_path, request):
    """A file of weights of the small network, of this test alone."""
    torch.manual_seed(zlib.crc32(request.node.name.encode()))
    path = tmp_path / "weights.pt"
    torch.save(SmallNet().state_dict(), path)
    return path


def directory(outcome):
    assert outcome.code == 0, outcome.err
    (record,) = json.loads(outcome.out)
    return Path(record["directory"])


def test_a_head_is_the_run_of_the_frozen_encoder(toy_run, weights):
    planned = [
        toy_run("ce", *words, "--weights", weights, "--dry-run", "--json")
        for words in (("--tuning", "head"), ("--backbone", "frozen/small"))
    ]
    one, other = (json.loads(outcome.out)[0]["id"] for outcome in planned)
    assert one == other
    again = toy_run(
        *("ce", "--backbone", "frozen/small", "--tuning", "head", "--weights", weights),
        *("--dry-run", "--json"),
    )
    assert json.loads(again.out)[0]["id"] == one


def test_full_is_the_run_that_says_nothing(toy_run):
    ids = [
        json.loads(toy_run("ce", *words, "--dry-run", "--json").out)[0]["id"]
        for words in ((), ("--tuning", "full"), ("--tuning", LORA), ("--tuning", "norm"))
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tuning", "lora:r=2"), "lora takes rank, alpha, targets, not 'r=2'"),
        (("--tuning", "adapter"), "SmallNet has no MLP beside which an adapter could stand"),
        (("--tuning", "last-blocks=9"), "SmallNet has 3 blocks"),
        (
            ("--tuning", "lora", "--backbone", "frozen/small"),
            "the encoder of --backbone frozen/small isn't trained; leave out frozen/",
        ),
        (("--tuning", "head"), "an encoder that isn't trained needs weights"),
    ],
)
def test_what_can_not_be_is_refused_before_it_begins(toy_run, tmp_path, words, message):
    outcome = toy_run("ce", *words)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "results").exists()


def test_a_run_trains_its_part_and_predicts_with_it(toy_run, lmdbench, toy_folder, tmp_path):
    """Two matrices of each convolution and the head: the rest is the network's to the bit."""
    outcome = toy_run("ce", "--tuning", LORA, *SHORT, "--set", "lr=0.5", "--json")
    run = directory(outcome)
    record = read_record(run)
    low_rank = sum(2 * (9 * i + o) for i, o in [(3, 24), (24, 48), (48, 48), (48, 96)])
    head = 4 * 96 + 4
    assert record.spec.tuning == LORA
    assert record.trained_parameters == low_rank + head
    whole = sum(p.numel() for p in SmallNet().parameters()) + record.trained_parameters
    assert record.parameters == whole
    assert f"trains 0.00303 of {whole / 1e6:.3g} M parameters" in outcome.err

    torch.manual_seed(derived_seed(0, "init", 0))
    begun = SmallNet().state_dict()
    state = load_file(run / "model.safetensors")
    conv = "model.encoder.body.layer1.0"
    assert torch.equal(state[f"{conv}.parametrizations.weight.original"], begun["layer1.0.weight"])
    assert state[f"{conv}.parametrizations.weight.0.up"].abs().max() > 0
    running = "layer1.1.running_mean"
    assert torch.equal(state[f"model.encoder.body.{running}"], begun[running])

    predicted = lmdbench("predict", run, toy_folder, "--output", tmp_path / "p.csv")
    assert predicted.code == 0, predicted.err
    assert f"small, tuning {LORA}, 24 px" in predicted.out + predicted.err


def test_a_second_stage_has_the_tuning_of_the_first(toy_run):
    run = directory(
        toy_run(
            "crt",
            "--tuning",
            LORA,
            *SHORT,
            "--set",
            "ce.epochs=1",
            "--keep-weights",
            "all",
            "--json",
        )
    )
    record = read_record(run)
    above = load_file(next(run.parents[1].glob("ce/seed0-*")) / "model.safetensors")
    own = load_file(run / "model.safetensors")
    encoder = [name for name in own if name.startswith("model.encoder.")]
    assert all(torch.equal(own[name], above[name]) for name in encoder)
    assert any("parametrizations" in name for name in encoder)
    assert record.spec.tuning == LORA
    assert record.trained_parameters == 4 * 96 + 4


def test_a_given_run_must_have_the_same_tuning(toy_run, tmp_path):
    full = directory(toy_run("ce", *SHORT, "--json"))
    outcome = toy_run("crt", "--starts-from", full, "--tuning", LORA, *SHORT)
    assert outcome.code == 2
    assert f"its tuning is full, here it is {LORA}" in outcome.err


def test_lora_of_another_run_is_merged_where_its_weights_are_begun_with(toy_run, tmp_path):
    run = directory(toy_run("ce", "--tuning", LORA, *SHORT, "--set", "lr=0.5", "--json"))
    file = run / "model.safetensors"
    ncm = [
        directory(toy_run("ce", "--backbone", "frozen/small", "--weights", file, *SHORT, "--json"))
    ]
    state = load_file(ncm[0] / "model.safetensors")
    trained = load_file(file)
    conv = "model.encoder.body.layer1.0"
    low = f"{conv}.parametrizations.weight"
    product = trained[f"{low}.0.up"] @ trained[f"{low}.0.down"]
    weight = trained[f"{low}.original"] + (2 * product).view(48, 24, 3, 3)
    assert torch.allclose(state[f"{conv}.weight"], weight, atol=1e-6)


def test_other_tunings_are_other_tables(toy_run, lmdbench, tmp_path):
    for tuning in ("full", "norm", "last-blocks=1"):
        assert toy_run("ce", "--tuning", tuning, *SHORT).code == 0
    outcome = lmdbench("compare", "--results", tmp_path / "results", "--part", "validation")
    assert outcome.code == 0, outcome.err
    for tuning in ("full", "norm", "last-blocks=1"):
        assert f"tuning {tuning}" in outcome.out


def test_from_python_to_an_archive_and_a_page(lmdbench, toy_folder, tmp_path):
    import lmdbench as package

    results = tmp_path / "results"
    runs = package.run(
        *("ce", "folder"),
        data_root=toy_folder,
        backbone="small",
        image_size=24,
        tuning="lora:alpha=4,rank=2",
        settings={"epochs": 1},
        results=results,
        quiet=True,
    )
    assert runs.runs[0].record.spec.tuning == LORA
    archive, theirs, page = tmp_path / "runs.zip", tmp_path / "theirs", tmp_path / "report.html"
    assert lmdbench("results", "export", "--results", results, "--output", archive).code == 0
    imported = lmdbench("results", "import", archive, "--results", theirs)
    assert imported.code == 0, imported.err
    (run,) = theirs.glob("*/*/ce/seed0-*")
    assert read_record(run).spec.tuning == LORA
    assert lmdbench("report", "--results", theirs, "--output", page).code == 0
    assert f"<dt>Tuning</dt><dd>{LORA}</dd>" in page.read_text()


def test_a_list_in_a_sweep_makes_runs_of_each(lmdbench, tmp_path):
    sweep = tmp_path / "sweep.toml"
    text = '{}\nmethods = ["ce"]\n[run]\nbackbone = "small"\ntuning = {}\n'
    sweep.write_text(text.format('datasets = ["demo"]', '["full", "norm", "lora:rank=1"]'))
    planned = lmdbench("sweep", "plan", sweep, "--results", tmp_path / "results", "--json")
    assert planned.code == 0, planned.err
    assert len({run["id"] for run in json.loads(planned.out)["runs"]}) == 3
    sweep.write_text(text.format('datasets = ["demo"]', '"lorra"'))
    refused = lmdbench("sweep", "plan", sweep, "--results", tmp_path / "results")
    assert refused.code == 2
    assert f"{sweep}:5: --tuning lorra: unknown tuning 'lorra'. Did you mean lora?" in refused.err
