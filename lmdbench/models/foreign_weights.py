"""Files of weights in formats of other programs: which one it is, and what reads it."""

from __future__ import annotations

import re
import zipfile
from contextlib import suppress
from pathlib import Path

LOOKED_AT = 64  # bytes at a file's beginning
FOOTER = bytes.fromhex("57fb808b247547db")  # ends the tables that TensorFlow's checkpoints are in

# What it is, and what reads its arrays
HDF5 = "HDF5, as Keras and TensorFlow write it", "h5py"
ONNX = "ONNX", "onnx.numpy_helper"
CHECKPOINT = "a TensorFlow checkpoint", "tf.train.load_checkpoint"
NUMPY = "NumPy", "numpy.load"

BEGINNINGS = {  # of a file
    rb"\x89HDF\r\n\x1a\n": HDF5,
    rb"\x08\x01\x12": ("a TensorFlow SavedModel", "tf.saved_model.load"),
    rb"\x08[\x02-\x1f]\x12": ONNX,
    rb".{4}TFL3": ("TensorFlow Lite", "tf.lite.Interpreter"),
    rb"\x93NUMPY": NUMPY,
    rb"GGUF": ("GGUF", "gguf.GGUFReader"),
}
MEMBERS = {".weights.h5": ("Keras", "keras.saving.load_model"), ".npy": NUMPY}  # of a zip archive
ENDINGS = {  # of a name, where the content tells nothing
    r"\.onnx": ONNX,
    r"\.(index|meta|data-\d+-of-\d+)": CHECKPOINT,
    r"\.pb": ("a TensorFlow graph", "tf.compat.v1.GraphDef"),
    r"\.msgpack": ("Flax", "flax.serialization.msgpack_restore"),
}


def foreign_format(path: Path) -> str:
    """What format of another program a file of weights is in, and the way from there to one that is
    read, in words; empty for none that is known."""
    found = _by_content(path) or _by_name(path)
    if found is None:
        return ""
    what, reader = found
    return (
        f"{what}, not torch's or safetensors' format: read its arrays by {reader}, name and shape "
        "them as the backbone's state_dict() does, and save them by safetensors.torch.save_file"
    )


def foreign_beside(path: Path) -> str:
    """The same of what a path names that is no file: a TensorFlow checkpoint's files begin so, and
    a SavedModel is a folder."""
    files = (path.with_name(f"{path.name}.index"), path / "saved_model.pb")
    return next((foreign_format(file) for file in files if file.is_file()), "")


def _by_content(path: Path) -> tuple[str, str] | None:
    with path.open("rb") as file:
        start = file.read(LOOKED_AT)
        file.seek(max(0, path.stat().st_size - len(FOOTER)))
        if file.read() == FOOTER:
            return CHECKPOINT
    for beginning, found in BEGINNINGS.items():
        if re.match(beginning, start, re.DOTALL):
            return found
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        for member, found in MEMBERS.items():
            if any(name.endswith(member) for name in archive.namelist()):
                return found
    return None


def _by_name(path: Path) -> tuple[str, str] | None:
    return next((f for ending, f in ENDINGS.items() if re.search(f"{ending}$", path.name)), None)
