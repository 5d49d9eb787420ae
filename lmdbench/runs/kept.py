"""What is kept of a finished run's weights: all, what is not the encoder, or none.

The SHA-256 of the whole model as it was trained is recorded in any case, under ``model``, so that
what started from it knows it again. Heads alone make a model together with the weights of the run
that they started from, where the encoder was not trained on: the two are held against that digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from lmdbench.core.errors import Damaged, UserError
from lmdbench.core.files import read_file, write_bytes
from lmdbench.runs.record import RunRecord, read_record
from lmdbench.runs.state import ancestor_directory
from lmdbench.runs.whole import HEADS, MODEL, read_weights, suspect

ENCODER = "model.encoder."  # of its tensors, in the names of a method's state

Weights = Mapping[str, Tensor]


def keep(directory: Path, model: Weights, keeps: str, ancestor: Path | None) -> dict[str, str]:
    """Write what is kept of a model. Returns digests for the record: ``model``, of all of it, and
    of heads ``heads``, and ``encoder`` where that is the one of the run in ``ancestor``.

    Raises DiskError.
    """
    content = save(dict(model))
    digests = {"model": hashlib.sha256(content).hexdigest()}
    if keeps == "all":
        write_bytes(directory / MODEL, content)
        return digests
    (directory / MODEL).unlink(missing_ok=True)  # of an attempt that ended while it was finishing
    if keeps == "heads":
        heads = save({name: one for name, one in model.items() if not name.startswith(ENCODER)})
        write_bytes(directory / HEADS, heads)
        digests["heads"] = hashlib.sha256(heads).hexdigest()
        if ancestor is not None and _shares_encoder(model, ancestor):
            digests["encoder"] = str(read_record(ancestor).digests.get("model"))
    return digests


def saved_weights(directory: Path, record: RunRecord, way: str) -> bytes:
    """The whole weights of a finished run: its own, or its heads and the encoder that they share.
    Raises as ``read_weights`` and ``put_together`` do."""
    path = directory / MODEL
    if path.exists() or record.kept_weights != "heads":
        return read_weights(path, record, way)
    return put_together(directory, record, way)


def put_together(directory: Path, record: RunRecord, way: str) -> bytes:
    """The whole weights of a run that kept its heads alone, as it would have kept them.

    Raises Damaged where they are not those that it was trained to (``way``: what to do), and
    UserError where the run whose encoder it shares was trained anew.
    """
    path = directory / HEADS
    heads = read_file(path, Path.read_bytes)
    if hashlib.sha256(heads).hexdigest() != record.digests.get("heads"):
        why = f"{path}: damaged, its SHA-256 is not the one in run.json"
        suspect(directory, why)
        raise Damaged(f"{why}; {way}")
    assert record.ancestor is not None  # of one with an ``encoder``
    above = ancestor_directory(directory, record.ancestor)
    of_above = read_record(above)
    if of_above.digests.get("model") != record.digests.get("encoder"):
        raise UserError(f"{directory}: {above}, whose encoder it shares, was trained anew; {way}")
    encoder = load(read_weights(above / MODEL, of_above, way))
    content = save({**_encoder(encoder), **load(heads)})
    if hashlib.sha256(content).hexdigest() != record.digests.get("model"):
        raise UserError(f"{directory}: its heads and the encoder of {above} do not fit; {way}")
    return content


def _encoder(model: Weights) -> dict[str, Tensor]:
    return {name: one for name, one in model.items() if name.startswith(ENCODER)}


def _shares_encoder(model: Weights, ancestor: Path) -> bool:
    """Whether it has the encoder of the run that it started from, to the last bit."""
    try:
        above = load(read_weights(ancestor / MODEL, read_record(ancestor), ""))
    except (OSError, UserError):
        return False
    return save(_encoder(model)) == save(_encoder(above))
