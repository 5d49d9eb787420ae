"""``run.json``: the record that every run directory holds. Only this module names its keys."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from lmdbench.core.errors import Damaged, UserError
from lmdbench.core.files import read_json, write_json
from lmdbench.core.schema import fits

T = TypeVar("T")

FORMAT = 1  # of the run directory
FILE = "run.json"
MOVED_ASIDE = ".old-"  # in the name of a directory that --force moved out of the way
FOLDER = re.compile(rf"seed\d+-[0-9a-f]{{8}}(?=$|{re.escape(MOVED_ASIDE)})")  # of a run
SEAL = "record"  # among a record's digests, that of all else that it says

# Ways of the same training with less of a GPU's memory, in the order in which they are tried
LESS_MEMORY = ("images streamed", "plain execution")

Selection = Literal["last", "best"]
Precision = Literal["mixed", "float32"]

# The parts of the code behind a run's numbers, in the order of its ``digests``
CODE_PARTS = ("method", "loop", "views", "samplers", "backbone")
WEIGHTS = "weights"  # beside them, of the file of a library's published weights
# Beside them, of what began a run that went on with another: all code, images, ancestor's model
BEGUN = ("begun", "begun_store", "begun_ancestor")


@dataclass(frozen=True)
class RunSpec:
    """Everything that makes a run's result what it is, and nothing else.

    Paths, device, workers and launcher are left out on purpose: the same science has the same id.
    """

    method: str
    method_version: int
    settings: Mapping[str, Any]
    selection: Selection
    ancestor: str | None  # id of the run it starts from
    dataset: str
    results_name: str  # tells a user's own data sets apart, which all are "folder"
    split: Mapping[str, Any]  # name, seed, imbalance_factor, fingerprint
    seed: int
    backbone: str
    weights: str
    image_size: int
    precision: Precision  # as requested; what it came to is recorded elsewhere
    tuning: str = "full"  # what of the encoder is trained; came later than the others
    # Of a run on training and validation images together: the run that it repeats, its epochs, and
    # under ``chosen`` the settings that it chose on validation images, where it chose any
    refit: Mapping[str, Any] | None = None

    @cached_property
    def id(self) -> str:
        return spec_id(self.identity)

    @property
    def identity(self) -> dict[str, Any]:
        """All of it by name, but for what came later and has its default, so that older runs keep
        their ids."""
        # Not by asdict, whose copies take longer than all else where thousands of runs are planned.
        values = {name: getattr(self, name) for name in SPEC}
        return {k: v for k, v in values.items() if k not in LATER or v != LATER[k]}

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings of a refit that the run which it repeats chose on validation images."""
        return dict((self.refit or {}).get("chosen", {}))

    @property
    def folder(self) -> str:
        return f"seed{self.seed}-{self.id[:8]}"


@dataclass(frozen=True)
class AncestorRecord:
    """The run that a run started from."""

    method: str
    id: str
    directory: str = ""  # where it lay then; empty where that is not told
    usual: bool | None = None  # the method starts there by itself; None: not recorded


@dataclass(frozen=True)
class Imported:
    """Where a run came from that was not trained here.

    ``archive``: from, sha256 and date. ``predictions``: the same, with the values, zeros and parts
    that were in the files, and what was stated of the training.
    """

    archive: Mapping[str, Any] | None = None
    predictions: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run as its directory tells of it; None: not recorded, or not yet known.

    ``others`` and ``others_of_spec``: what a newer version wrote beside, by key.
    """

    id: str
    spec: RunSpec
    results_name: str
    split_label: str
    ancestor: AncestorRecord | None = None
    classes: list[str]
    class_counts: Mapping[str, list[int]]  # part → images of each class
    groups: Mapping[str, list[str]]
    group_rule: str | None = None  # how the groups came to be, in words
    ordered_classes: list[str] | None = None  # grades, the lowest first
    backbone: Mapping[str, Any] | None = None  # of a library's, what that says; see Origin.record
    costs: Mapping[str, Mapping[str, float]] | None = None  # true class → predicted class → cost
    split_notes: list[str] | None = None
    data_notes: list[str] | None = None  # how tables and folders were understood; None: as usual
    partial: Mapping[str, Any] | None = None  # see Partial.record
    synthetic: bool | None = None
    changed_settings: Mapping[str, Any] = field(default_factory=dict)  # by the user
    # The CODE_PARTS, BEGUN, the store, the ancestor's and its own model, frozen features; where
    # its heads alone are kept, these, and the model of the ancestor whose encoder it shares; its
    # predictions and history, and the SEAL
    digests: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    # Of what began it, where they were others; several with commas between
    begun_versions: Mapping[str, Any] | None = None
    git_commit: str | None = None
    device: str | None = None
    threads: int | None = None
    # Of a GPU: memory_mib, capability, driver, cuda, cudnn, tf32_convolutions, tf32_products,
    # cudnn_benchmark, cudnn_deterministic, deterministic
    gpu: Mapping[str, Any] | None = None
    # Values of pictures of more than 8 bits that are black and white; None: those of 16 bits
    intensity_scale: str | None = None
    validate_every: int | None = None
    started: str | None = None
    attempts: int | None = None
    finished: str | None = None
    seconds: float | None = None
    peak_memory_mib: float | None = None  # of a GPU, what tensors took; else of the process
    peak_reserved_mib: float | None = None  # of a GPU, what torch held for them
    execution: str | None = None  # as chosen: plain or compiled
    # What that came to: training, evaluation, calibration → plain, compiled or graphs; several
    # with commas between
    executed: Mapping[str, str] | None = None
    # What it did without where a GPU's memory ran out; see LESS_MEMORY
    fallbacks: list[str] | None = None
    preparing_seconds: float | None = None
    precision_used: str | None = None
    parameters: int | None = None  # of what is saved
    trained_parameters: int | None = None
    epochs: int | None = None
    selected_epoch: int | None = None
    kept_weights: str | None = None  # heads or none; None: all
    imported: Imported = field(default_factory=Imported)
    others: Mapping[str, Any] = field(default_factory=dict)
    others_of_spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> dict[str, str]:
        """The digests of the code that the run was made by, of the file of the published weights it
        began with, and of what began it where that was another; parts that nobody recorded are left
        out. Of an ancestor's other model it says no more than that it was another, as every seed
        has its own."""
        parts = (*CODE_PARTS, WEIGHTS, *BEGUN)
        code = {part: self.digests[part] for part in parts if self.digests.get(part)}
        return {part: "another" if part == "begun_ancestor" else code[part] for part in code}

    @property
    def was_imported(self) -> bool:
        return self.imported != Imported()

    @property
    def folder(self) -> str:
        return f"seed{self.spec.seed}-{self.id[:8]}"

    @property
    def key(self) -> str:
        """The directory of the run below the results."""
        return f"{self.results_name}/{self.split_label}/{self.spec.method}/{self.folder}"

    def to_json(self) -> dict[str, Any]:
        """The record as it is written, sealed."""
        content = asdict(self)
        others = content.pop("others")
        content["spec"] = {k: content["spec"][k] for k in self.spec.identity}
        content["spec"] |= content.pop("others_of_spec")
        imported = {k: v for k, v in content["imported"].items() if v is not None}
        content["imported"] = imported or None
        known = {k: v for k, v in content.items() if v is not None or k in NULLS}
        # as JSON reads it again, so that the seal holds whatever kinds of keys there were
        written: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **known, **others}))
        written["digests"][SEAL] = seal(written)
        return written

    def write(self, directory: Path) -> None:
        write_json(directory / FILE, self.to_json())

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, checked: bool = False) -> RunRecord:
        """Raises ValueError, which says what is wrong behind the name of the file.

        ``checked``: the content was a record before, and need not be looked at again.
        """
        known = {k: v for k, v in content.items() if k != "format" and v is not None}
        others = {key: known.pop(key) for key in [*known] if key not in KEYS}
        others_of: dict[str, Mapping[str, Any]] = {}
        for key in NEEDED:
            if key not in known:
                raise ValueError(f"lacks {key!r}")
        for name, kind in NESTED.items():
            if isinstance(known.get(name), dict):
                known[name], others_of[name] = _nested(name, kind, known[name], checked)
        record = cls(**known, others=others, others_of_spec=others_of.get("spec", {}))
        return record if checked else _checked(record)


SPEC = tuple(f.name for f in fields(RunSpec))
LATER = {f.name: f.default for f in fields(RunSpec) if f.default is not MISSING}
NESTED = {"spec": RunSpec, "ancestor": AncestorRecord, "imported": Imported}
KEYS = tuple(f.name for f in fields(RunRecord) if not f.name.startswith("others"))
NEEDED = tuple(f.name for f in fields(RunRecord) if f.default is f.default_factory is MISSING)
NULLS = ("ancestor", "partial", "git_commit")  # recorded also where there is none


def _nested(
    name: str, kind: type, content: Mapping[str, Any], checked: bool
) -> tuple[Any, Mapping[str, Any]]:
    """The object that a part of a record is of, and what of it has no place there."""
    own = {f.name: f for f in fields(kind)}
    for key, one in own.items():
        if key not in content and one.default is MISSING:
            raise ValueError(f"{name} lacks {key!r}")
    others = {key: value for key, value in content.items() if key not in own}
    nested = kind(**{k: v for k, v in content.items() if k in own})
    return (nested if checked else _checked(nested)), others


def _checked(thing: T) -> T:
    """Raises ValueError for a dataclass with values of another kind than its fields say."""
    for name, kind in _kinds(type(thing).__name__):
        value = getattr(thing, name)
        number = {int, float} & {kind, *get_args(kind)} and value is not None
        if number and (type(value) not in (int, float) or not 0 <= value < math.inf):
            raise ValueError(f"its {name} is {value!a:.40}, no number from 0 on")
        if not fits(kind, value):
            raise ValueError(f"damaged, its {name} cannot be what a run has")
    return thing


@cache
def _kinds(name: str) -> tuple[tuple[str, Any], ...]:
    """The types of a class's fields; for a word of a newer version any text will do."""
    hints = get_type_hints(globals()[name])
    return tuple((key, str if get_origin(kind) is Literal else kind) for key, kind in hints.items())


def spec_id(spec: Mapping[str, Any]) -> str:
    """A run's id: SHA-256 of its specification in canonical JSON, 64 hexadecimal digits."""
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def seal(content: Mapping[str, Any]) -> str:
    """SHA-256, in the same way, of all that a record in JSON says but for this digest."""
    digests = {key: value for key, value in content["digests"].items() if key != SEAL}
    return spec_id({**content, "digests": digests})


def read_record(directory: Path) -> RunRecord:
    """``run.json`` of a run directory.

    Raises UserError, naming the file, if it is absent or of another format, and Damaged if it can't
    be what was written.
    """
    return record_of(directory, read_content(directory))


def read_content(directory: Path) -> dict[str, Any]:
    """The same as JSON has it."""
    path = directory / FILE
    if not path.exists():
        raise UserError(f"{path}: no such file; move {directory.name} away or run it again")
    content = read_json(path)
    if not isinstance(content, dict):
        raise Damaged(f"{path}: damaged, no JSON object; move {directory.name} away")
    if "format" not in content:
        raise Damaged(f"{path}: damaged, no record of a run; move {directory.name} away")
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path} was written by another version of lmdbench (format {content.get('format')!a}; "
            f"this one reads {FORMAT}): use that version, or another --results folder"
        )
    return content


def record_of(directory: Path, content: Mapping[str, Any]) -> RunRecord:
    """The record that a directory's ``run.json`` holds. Raises Damaged for what is none, what is
    not as it was written, and that of another run than the directory is named after."""
    try:
        record = RunRecord.from_json(content)
        if why := _other_than_written(record, content) or _of_another(record, directory):
            raise ValueError(f"damaged, {why}")
    except ValueError as error:
        raise Damaged(
            f"{directory / FILE}: {error}; move {directory.name} away or run it again"
        ) from error
    return record


def _other_than_written(record: RunRecord, content: Mapping[str, Any]) -> str:
    """Why a record can't be as it was written; empty if it can. Those of older versions have no
    seal."""
    id_ = spec_id(content["spec"])
    if record.id != id_:
        return f"its id is {record.id[:8]}, but its spec comes to {id_[:8]}"
    if SEAL in record.digests and record.digests[SEAL] != seal(content):
        return "it was changed since it was written: its SHA-256 is not the one in it"
    return ""


def _of_another(record: RunRecord, directory: Path) -> str:
    """Of which run a record is, where its directory is named after another; empty if it is not."""
    named = FOLDER.match(directory.name)
    return f"it is of {record.folder}" if named and named[0] != record.folder else ""
