"""A damaged checkpoint is never trained on from: the run begins anew, by itself."""

import io
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch

from lmdbench.core.errors import Damaged
from lmdbench.runs.checkpoint import read_checkpoint

WORDS = ("--set", "epochs=30")
FIRST_LAYER = "model.head.weight"


def command(toy_folder: Path, results: Path) -> list[object]:
    return [
        *(sys.executable, "-m", "lmdbench", "run", "--method", "ce", "--dataset", "folder"),
        *("--data-root", toy_folder, "--backbone", "small", "--image-size", "24"),
        *("--results", results, "--quiet", *WORDS),
    ]


@pytest.fixture(scope="module")
def killed(copies, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run that was killed after a checkpoint."""
    results = tmp_path_factory.mktemp("killed") / "results"
    process = copies.popen(command(toy_folder, results))
    while process.poll() is None and not list(results.glob("*/*/ce/seed*/checkpoint.pt")):
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not list(results.glob("*/*/ce/seed*/done")), "it was too quick"
    return results


@pytest.fixture(scope="module")
def whole(copies, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the same run, undisturbed."""
    results = tmp_path_factory.mktemp("once") / "results"
    assert copies.popen(command(toy_folder, results)).wait() == 0
    (done,) = results.glob("*/*/ce/seed*/done")
    return done.parent


def flip_a_weight(path: Path) -> None:
    """Change one bit of a tensor, which torch loads all the same."""
    content = bytearray(path.read_bytes())
    weights = torch.load(io.BytesIO(content), weights_only=True)["method"][FIRST_LAYER]
    content[content.index(weights.numpy().tobytes()[:64]) + 6] ^= 0x40
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["method"][FIRST_LAYER], weights)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def to_folder(path: Path) -> None:
    path.unlink()
    (path / "inner").mkdir(parents=True)


def changed(**what: object):
    def change(path: Path) -> None:
        torch.save({**torch.load(path, weights_only=True), **what}, path)

    return change


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "a bit": flip_a_weight,
    "text": lambda path: path.write_text("hello"),
    "a folder": to_folder,
    "another run's": changed(run="0" * 64),
    "unfitting": changed(optimizers={}),
    "no checkpoint": lambda path: torch.save([1], path),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_run_begins_anew_and_nothing_is_lost(toy_run, killed, whole, tmp_path, damage):
    shutil.copytree(killed, tmp_path / "results")
    (checkpoint,) = (tmp_path / "results").glob("*/*/ce/seed*/checkpoint.pt")
    DAMAGES[damage](checkpoint)
    outcome = toy_run("ce", *WORDS)
    assert outcome.code == 0, outcome.err
    (line,) = (line for line in outcome.err.splitlines() if "damaged" in line)
    assert f"ce seed 0: {checkpoint}: damaged" in line
    assert "trained from its beginning" in line
    directory = checkpoint.parent
    assert line in (directory / "run.log").read_text()
    assert len(list(directory.glob("checkpoint.pt.damaged-*"))) == 1
    for name in ("predictions.npz", "model.safetensors"):
        assert (directory / name).read_bytes() == (whole / name).read_bytes()
    epochs = (directory / "history.csv").read_text().splitlines()
    assert len(epochs) == 31


def test_a_checkpoint_of_the_version_before_is_gone_on_with(toy_run, killed, whole, tmp_path):
    shutil.copytree(killed, tmp_path / "results")
    (checkpoint,) = (tmp_path / "results").glob("*/*/ce/seed*/checkpoint.pt")
    saved = torch.load(checkpoint, weights_only=True)
    del saved["run"]
    torch.save(saved, checkpoint)
    outcome = toy_run("ce", *WORDS)
    assert outcome.code == 0, outcome.err
    assert "resumed after epoch" in (checkpoint.parent / "run.log").read_text()
    assert (checkpoint.parent / "predictions.npz").read_bytes() == (
        whole / "predictions.npz"
    ).read_bytes()


def test_every_changed_byte_of_a_tensor_is_found(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"run": "a", "method": torch.arange(64.0)}, path)
    content = path.read_bytes()
    assert read_checkpoint(path, "a")["run"] == "a"
    begin = content.index(torch.arange(64.0).numpy().tobytes())
    for place in range(begin, begin + 256, 5):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        )
        with pytest.raises(Damaged, match=r"checkpoint.pt: damaged \(ValueError: the bytes of"):
            read_checkpoint(path, "a")
