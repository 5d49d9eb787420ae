"""Whether a run's record and predictions are what they say: what can be recomputed is."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes
from lmdbench.data.dataset import DATASETS, PARTS, sha256_lines, split_label
from lmdbench.evaluation.predictions import ARRAYS, Predictions, load_predictions
from lmdbench.runs.record import RunRecord, read_record
from lmdbench.runs.whole import HISTORY
from lmdbench.sharing.archive import MOST_OF_A_FILE
from lmdbench.sharing.shared import shared_record

READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
UNSHOWN = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories that move a terminal's cursor or break it


@dataclass(frozen=True)
class CheckedRun:
    """A run that passed: its record, its predictions by part."""

    record: RunRecord
    parts: Mapping[str, Predictions]

    @property
    def fingerprint(self) -> str:
        return str(self.record.spec.split["fingerprint"])

    @cached_property
    def images(self) -> dict[str, str]:
        """What every run of one split fingerprint must agree in: name → a digest."""
        classes = self.record.classes
        counts = self.record.class_counts
        found = {
            "classes": sha256_lines(classes),
            "numbers of images": sha256_lines(str(counts[part]) for part in PARTS),
        }
        for part, predictions in self.parts.items():
            rows = zip(predictions.ids, predictions.labels, strict=True)
            found[f"{part} images"] = sha256_lines(
                sorted(f"{image}\t{classes[label]}" for image, label in rows)
            )
        return found


def check_run(directory: Path) -> CheckedRun:
    """The run in a directory, if nothing in it contradicts itself.

    Its record and predictions are what was written; its label follows from its split; its
    predictions have the classes, and of each part the images of each class, that its record counts,
    all of them with finite logits; its history is a table. Raises UserError, naming the file,
    otherwise.
    """
    record = read_record(directory)
    where = directory / "run.json"
    try:
        problem = _problem(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where}: damaged ({type(error).__name__}: {error})") from error
    if problem:
        raise UserError(f"{where}: {problem}")
    path = directory / "predictions.npz"
    _refuse_lies(path)
    parts = load_predictions(path, sha256=record.digests.get("predictions"))
    if problem := _problem_of(parts, record):
        raise UserError(f"{path}: {problem}")
    _check_history(directory / HISTORY, record.digests.get("history"))
    return CheckedRun(record, parts)


def check_alike(run: CheckedRun, others: CheckedRun, names: tuple[str, str]) -> None:
    """Raises UserError where runs of one split fingerprint are of other images after all."""
    here, there = run.images, others.images
    for what in here.keys() & there.keys():
        if here[what] != there[what]:
            raise UserError(
                f"{names[0]}: its {what} are not those of {names[1]}, though both say they are of "
                f"the split {run.fingerprint[:12]}"
            )


def same_predictions(ours: Mapping[str, Predictions], theirs: Mapping[str, Predictions]) -> bool:
    """Whether both have the same parts with the same images in order, labels and logits."""
    return ours.keys() == theirs.keys() and all(
        np.array_equal(getattr(ours[part], name), getattr(theirs[part], name))
        for part in ours
        for name in ARRAYS
    )


def _problem(record: RunRecord) -> str | None:
    """What is wrong with a record whose values are of the right kinds; None if nothing is."""
    spec, split, classes = record.spec, record.spec.split, record.classes
    if any(
        unicodedata.category(sign) in UNSHOWN for sign in _signs(shared_record(record).to_json())
    ):
        return "a text in it has control characters"
    if record.others_of_spec:
        return f"its spec has the unknown {', '.join(sorted(record.others_of_spec))}"
    if not re.fullmatch(r"[0-9a-f]{64}", split["fingerprint"]):
        return "its split fingerprint is no SHA-256"
    if split_label(split, partial=bool(record.partial)) != record.split_label:
        return f"its split is not {record.split_label}"
    if spec.results_name != record.results_name:
        return f"it is of {spec.results_name}, not of {record.results_name}"
    above = record.ancestor
    if (above and above.id) != spec.ancestor:
        return "it names another run than its spec to have started from"
    if above and not (re.fullmatch(r"[0-9a-f]{64}", above.id) and "/" not in above.method):
        return "what it started from has no SHA-256 for an id, or no plain name"
    steps = record.key.split("/")
    words = [*steps, *classes, *record.groups, *([above.method] if above else [])]
    if len(steps) != 4 or not all(word.isprintable() and word.strip(". ") for word in words):
        return "a name in it is empty or unprintable"
    if type(spec.seed) is not int:
        return f"its seed is {spec.seed!r}"
    if len(classes) < 2 or len(set(classes)) < len(classes):
        return "its classes are fewer than two, or one is there twice"
    if set(record.class_counts) != set(PARTS):
        return f"its class_counts are not of {', '.join(PARTS)}"
    for part, counts in record.class_counts.items():
        if len(counts) != len(classes) or any(n < 0 for n in counts):
            return f"its {part} class_counts are not {len(classes)} numbers of images"
    grouped = [name for members in record.groups.values() for name in members]
    if unknown := set(grouped) - set(classes):
        return f"its groups have {min(unknown)!r}, which is no class"
    if twice := [name for name in classes if grouped.count(name) > 1]:
        return f"its groups have {twice[0]!r} twice"
    if spec.dataset in DATASETS.names():
        synthetic = DATASETS.get(spec.dataset).synthetic
        if record.synthetic not in (None, synthetic):
            return f"it says that {spec.dataset} is {'real' if synthetic else 'synthetic'}"
    if partial := record.partial:
        int(partial["total"] - partial["missing"])
    source = record.imported.predictions
    if source and not (source["from"].isprintable() and "test" in source["parts"]):
        return "it does not say which parts its imported predictions are of"
    if source and not isinstance(source.get("stated", []), list):
        return "what it says was stated of its imported predictions is no list"
    return None


def _signs(content: Any) -> Iterator[str]:
    """The different characters of each text in JSON content."""
    if isinstance(content, str):
        yield from set(content)
    elif isinstance(content, dict | list):
        for item in content:
            yield from _signs(item)
        if isinstance(content, dict):
            yield from _signs(list(content.values()))


def _problem_of(parts: Mapping[str, Predictions], record: RunRecord) -> str | None:
    """What contradicts the record in predictions; None if nothing does."""
    if "test" not in parts:
        return "has no test predictions"
    for part, predictions in parts.items():
        if part not in ("test", "validation"):
            return f"has predictions of {part!r}"
        if predictions.ids.dtype.kind != "U":
            return f"its {part} image names are no text"
        classes = len(record.classes)
        if predictions.logits.shape[1] != classes:
            return f"has {predictions.logits.shape[1]} logits an image for {classes} classes"
        counts = np.bincount(predictions.labels, minlength=classes)
        if counts.tolist() != record.class_counts[part]:
            return f"its {part} labels are not those that run.json counts"
        if len(np.unique(predictions.ids)) < len(predictions):
            return f"a {part} image is there twice"
        if not np.isfinite(predictions.logits).all():
            return f"its {part} logits are not all finite"
    return None


def _refuse_lies(path: Path) -> None:
    """Raise UserError for arrays larger than their file, for which numpy would make room before it
    finds out, and for those that hold Python objects."""
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            if sum(info.file_size for info in members) > MOST_OF_A_FILE:
                raise ValueError(f"more than {MOST_OF_A_FILE >> 20} MiB")
            for info in members:
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError("packed in another way")
                with file.open(info) as member:
                    shape, _, dtype = READ_HEADER[np.lib.format.read_magic(member)](member)
                    if dtype.hasobject:
                        raise ValueError("Python objects")
                    if member.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
                        raise ValueError("not as large as it says")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: no whole file of plain arrays ({error})") from error


def _check_history(path: Path, sha256: str | None) -> None:
    """Raise UserError for a history that is no table of numbers, or not the one of this SHA-256."""
    try:
        content = read_bytes(path)
        if sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise UserError(f"{path}: damaged, its SHA-256 is not the one in run.json")
        header, *rows = csv.reader(io.StringIO(content.decode()), strict=True)
        for row in rows:
            if len(row) != len(header):
                raise ValueError("rows of different lengths")
            for cell in row:
                float(cell or "nan")
    except FileNotFoundError:  # of imported predictions
        return
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: no table of numbers ({error})") from error
