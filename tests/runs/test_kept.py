"""What is kept of a run's weights, and what can be done with it: ``keep_weights``."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lmdbench.core.errors import Damaged, UserError
from lmdbench.runs.options import RunOptions
from lmdbench.runs.prediction import load_run
from lmdbench.runs.record import read_record
from lmdbench.runs.state import run_state
from lmdbench.runs.whole import damage

CPU = torch.device("cpu")
SHORT = ("--set", "epochs=1", "--set", "ce.epochs=1")


def finished(results: Path, method: str) -> Path:
    (directory,) = (path.parent for path in results.glob(f"*/*/{method}/seed*/done"))
    return directory


def kept(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.safetensors")}


@pytest.fixture
def crt(toy_run, tmp_path):
    """A run of crt, whose encoder is that of its ce, that kept so much of its weights."""

    def make(keeps: str) -> Path:
        results = tmp_path / keeps
        done = toy_run("crt", *SHORT, "--results", results, "--keep-weights", keeps)
        assert done.code == 0, done.err
        return finished(results, "crt")

    return make


def test_heads_and_the_encoder_they_share_are_the_whole_model(crt):
    whole, heads = crt("all"), crt("heads")
    assert (kept(whole), kept(heads)) == ({"model.safetensors"}, {"heads.safetensors"})
    assert whole.name == heads.name  # the same science
    model = (whole / "model.safetensors").read_bytes()
    digests = read_record(heads).digests
    assert digests["model"] == hashlib.sha256(model).hexdigest()
    assert (heads / "heads.safetensors").stat().st_size < len(model) / 2
    assert run_state(heads) == "finished"
    ce = heads.parents[1] / "ce"
    assert kept(next(ce.iterdir())) == {"model.safetensors"}  # what it starts from keeps all
    pixels = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8)
    one, other = (load_run(directory, CPU).logits(pixels) for directory in (whole, heads))
    np.testing.assert_array_equal(one, other)


def test_heads_without_their_encoder_are_refused_in_a_line(crt, lmdbench):
    heads = crt("heads")
    (ce,) = (heads.parents[1] / "ce").iterdir()
    pruned = lmdbench("results", "prune", "--weights", "--results", heads.parents[3], "--yes")
    assert pruned.code == 0, pruned.err
    assert kept(ce), "they are needed"
    (ce / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"whose encoder it shares, has no weights any more.*force"):
        load_run(heads, CPU)


def test_heads_that_are_cut_short_make_a_finished_run_damaged(crt):
    heads = crt("heads")
    path = heads / "heads.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert run_state(heads) == "damaged"
    assert damage(heads) == f"{path}: damaged, not as long as its header says, or without one"


def test_damaged_heads_are_told(crt):
    heads = crt("heads")
    content = bytearray((heads / "heads.safetensors").read_bytes())
    content[-1] ^= 1
    (heads / "heads.safetensors").write_bytes(content)
    with pytest.raises(Damaged, match=r"heads.safetensors: damaged, its SHA-256"):
        load_run(heads, CPU)


def test_a_run_that_kept_nothing_counts_and_can_start_nothing(toy_run, lmdbench, tmp_path):
    assert toy_run("ce", "--set", "epochs=1", "--keep-weights", "none").code == 0
    directory = finished(tmp_path / "results", "ce")
    assert not kept(directory)
    assert read_record(directory).digests["model"]
    assert "weights not kept" in lmdbench("results", "list", "--results", tmp_path / "results").out
    refused = toy_run("crt", *SHORT)
    assert refused.code == 2
    last = refused.err.strip().splitlines()[-1]
    assert "its weights were not kept (keep_weights = none); train it here" in last
    again = toy_run("ce", "--set", "epochs=1", "--keep-weights", "all")
    assert again.code == 0
    assert not kept(directory), "it is finished"


def test_heads_of_a_trained_encoder_are_no_model(toy_run, tmp_path):
    assert toy_run("ce", "--set", "epochs=1", "--keep-weights", "heads").code == 0
    directory = finished(tmp_path / "results", "ce")
    names = load_file(directory / "heads.safetensors")
    assert names
    assert not [name for name in names if name.startswith("model.encoder.")]
    with pytest.raises(UserError, match="without the encoder that it trained"):
        load_run(directory, CPU)


def test_other_words_are_refused(toy_run):
    with pytest.raises(UserError, match="keep_weights"):
        RunOptions(keep_weights="some")
    assert toy_run("ce", "--keep-weights", "some").code == 2


@pytest.mark.usefixtures("quick_workers")
def test_what_a_sweep_starts_others_from_keeps_all(lmdbench, toy_folder, tmp_path):
    results, path = tmp_path / "results", tmp_path / "few.toml"
    path.write_text(
        'datasets = ["folder"]\nmethods = ["ce", "crt"]\nseeds = 0\n'
        f'[run]\nbackbone = "small"\nimage_size = 24\ndata_root = "{toy_folder}"\n'
        '[settings.all]\nepochs = 1\n[resources]\nkeep_weights = "none"\n'
    )
    plan = lmdbench("sweep", "plan", path, "--results", results)
    assert "none of each run are kept, but all of the 1 run that others start from" in plan.out
    outcome = lmdbench("sweep", "launch", path, "--results", results, "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert kept(finished(results, "ce")) == {"model.safetensors"}
    assert not kept(finished(results, "crt"))
