"""How long runs will take, told from finished ones."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lmdbench.comparison.results import read_results
from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, read_json, write_json
from lmdbench.runs.plan import LENGTHS, PlannedRun
from lmdbench.runs.record import RunRecord, RunSpec

FORMAT = 1
CALIBRATIONS = "calibrations.json"  # in a sweep's folder


@dataclass(frozen=True)
class Estimate:
    """Of one run on one device of this name. ``source``: what it was told from, for a reader.

    ``scaled``: from runs of another kind, which is rough.
    """

    seconds: float
    device: str
    source: str
    scaled: bool = False


@dataclass(frozen=True)
class Kind:
    """What a run's time depends on, in texts that are equal for alike runs.

    ``exact``: all but the seed. ``settings``: the same on other images or for another number of
    epochs. ``method``: with other settings, too. ``work``: epochs × training images.
    """

    exact: str
    settings: str
    method: str
    work: float


def estimate(
    planned: Sequence[PlannedRun],
    finished: Iterable[RunRecord],
    calibrations: Mapping[str, Estimate] | None = None,
) -> list[Estimate | None]:
    """How long each run takes; None where nothing like it is known.

    ``finished``: their records; ``calibrations``: by ``kind_of``. The best of these:

    1. the median of finished runs that differ in nothing but the seed;
    2. a calibration of the same kind;
    3. finished runs of the method with backbone, image size and precision the same, and settings if
       possible, scaled by epochs (rounds) × training images. That is rough: a part of the time goes
       into validation, into checkpoints and, for LMD, into virtual features, whose number does not
       follow the training images, so that a smaller data set is estimated too fast, a larger one
       too slow.

    Where they worked on several devices, those of the most frequent one count.
    """
    known: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for record in finished:
        kind = _kind_of_record(record)
        row = record.seconds or 0.0, kind.work, str(record.device)
        for text in {kind.exact, kind.settings, kind.method}:
            known[text].append(row)
    return [_estimate(run, known, calibrations or {}) for run in planned]


def _estimate(
    run: PlannedRun,
    known: Mapping[str, list[tuple[float, float, str]]],
    calibrations: Mapping[str, Estimate],
) -> Estimate | None:
    kind, name = _kind_of_run(run), run.spec.method
    if kind.exact in known:
        device, rows = _of_one_device(known[kind.exact])
        return Estimate(median(s for s, _ in rows), device, _runs(rows, name))
    if kind.exact in calibrations:
        return calibrations[kind.exact]
    for text, how in ((kind.settings, "scaled"), (kind.method, "with other settings, scaled")):
        if text in known:
            device, rows = _of_one_device(known[text])
            seconds = kind.work * median(s / work for s, work in rows)
            return Estimate(seconds, device, f"{_runs(rows, name)} {how}", scaled=True)
    return None


def finished_records(results: Path) -> list[RunRecord]:
    """The record of every finished run in a results folder that says how long it took."""
    try:
        runs = read_results(results).runs
    except UserError:  # no record can be read: `status` tells of it
        return []
    records = (run.record for run in runs)
    return [r for r in records if None not in (r.seconds, r.epochs, r.device)]


def load_calibrations(path: Path) -> dict[str, Estimate]:
    """By ``kind_of``; none where the file is absent or of another version.

    Raises UserError, naming the file, if it is damaged.
    """
    if not path.exists():
        return {}
    content = read_json(path)
    try:
        if content["format"] != FORMAT:
            return {}
        return {kind: Estimate(**found) for kind, found in content["calibrations"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged; delete it, and measure again") from error


def save_calibrations(path: Path, calibrations: Mapping[str, Estimate]) -> None:
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    found = {kind: asdict(estimate) for kind, estimate in calibrations.items()}
    write_json(path, {"format": FORMAT, "calibrations": found})


def kind_of(run: PlannedRun) -> str:
    """The same text for runs that differ in nothing but the seed."""
    return _kind_of_run(run).exact


def _kind_of_run(run: PlannedRun) -> Kind:
    split, spec = run.context.prepared.split, run.spec
    counts = {part: split.counts(part).tolist() for part in ("train", "validation")}
    return _kind(spec, counts, run.length)


def _kind_of_record(record: RunRecord) -> Kind:
    counts = {part: record.class_counts[part] for part in ("train", "validation")}
    return _kind(record.spec, counts, record.epochs)


def _kind(spec: RunSpec, counts: Mapping[str, Sequence[int]], length: int | None) -> Kind:
    of = ("method", "backbone", "tuning", "image_size", "precision")
    method = {key: getattr(spec, key) for key in of}
    others = {k: v for k, v in spec.settings.items() if k not in LENGTHS}
    return Kind(
        exact=_text({**method, "settings": spec.settings, **counts}),
        settings=_text({**method, "settings": others}),
        method=_text(method),
        work=max(length or 0, 1) * sum(counts["train"]),
    )


def _text(facts: Mapping[str, Any]) -> str:
    return json.dumps(dict(facts), sort_keys=True, separators=(",", ":"))


def _of_one_device(
    rows: Sequence[tuple[float, float, str]],
) -> tuple[str, list[tuple[float, float]]]:
    ((device, _),) = Counter(device for _, _, device in rows).most_common(1)
    return device, [(seconds, work) for seconds, work, on in rows if on == device]


def _runs(rows: Sequence[Any], method: str) -> str:
    return f"{len(rows)} finished run{'s' if len(rows) > 1 else ''} of {method}"
