"""Where a table's numbers come from: its runs, its methods, its audit, its data set's citations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lmdbench.comparison.results import Link, Run, RunGroup, setting_text
from lmdbench.core.errors import UserError
from lmdbench.core.words import listed
from lmdbench.data.check import audit as audits
from lmdbench.data.dataset import DATASETS
from lmdbench.reporting.page.sources import About
from lmdbench.runs.record import RunRecord
from lmdbench.runs.sources import PLUGINS

SHORT = 8  # digits of an id or digest
UNKNOWN = "–"
LIBRARIES = ("torch", "torchvision", "numpy", "python")  # beside lmdbench's own version


@dataclass(frozen=True)
class RunFacts:
    """A run on disk, in words; what it did not record is a dash."""

    label: str
    seed: int
    id: str
    directory: str  # below the results
    started_from: str
    device: str
    precision: str
    executed: str
    lmdbench: str
    libraries: str
    commit: str
    finished: str
    seconds: float | None
    peak_mib: float | None
    attempts: str
    digests: str


@dataclass(frozen=True)
class MethodFacts:
    """A row's method: what it is, and the settings of every stage."""

    label: str
    name: str
    about: About
    origin: str  # in words, where it is no method of this program
    stages: tuple[tuple[str, tuple[tuple[str, str, bool], ...]], ...]  # name, settings (changed?)


def run_facts(results: Path, table: RunGroup) -> list[RunFacts]:
    """Every run behind a table's rows, fold by fold."""
    return [
        _run_facts(results, row.label, member)
        for row in table.rows
        for run in row.runs
        for member in run.members
    ]


def _run_facts(results: Path, label: str, run: Run) -> RunFacts:
    record = run.record
    versions, digests = record.versions, record.digests
    ancestor = record.ancestor
    seconds = record.seconds
    peak = record.peak_memory_mib
    try:
        directory = run.directory.relative_to(results).as_posix()
    except ValueError:
        directory = run.directory.name
    return RunFacts(
        label=label,
        seed=run.seed,
        id=run.id[:SHORT],
        directory=directory,
        started_from=f"{ancestor.method} {ancestor.id[:SHORT]}" if ancestor else UNKNOWN,
        device=str(record.device or UNKNOWN),
        precision=str(record.precision_used or UNKNOWN),
        executed=", ".join(f"{work} {how}" for work, how in (record.executed or {}).items()),
        lmdbench=versions.get("lmdbench", UNKNOWN),
        libraries=", ".join(f"{k} {versions[k]}" for k in LIBRARIES if k in versions) or UNKNOWN,
        commit=str(record.git_commit or UNKNOWN)[:SHORT],
        finished=_day(record.finished),
        seconds=float(seconds) if isinstance(seconds, (int, float)) else None,
        peak_mib=float(peak) if isinstance(peak, (int, float)) else None,
        attempts=str(record.attempts or UNKNOWN),
        digests=", ".join(f"{k} {str(v)[:SHORT]}" for k, v in digests.items() if v) or UNKNOWN,
    )


def _day(text: Any) -> str:
    try:
        return datetime.fromisoformat(str(text)).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return UNKNOWN


def method_facts(table: RunGroup, about: Mapping[str, About]) -> list[MethodFacts]:
    """The methods of a table's rows. ``about``: name → what it says of itself."""
    facts = []
    for row in table.rows:
        origin = ""
        if row.runs[0].predictions_from:
            origin = "Imported predictions: trained by other code, of which lmdbench knows nothing."
        elif row.method not in about:
            origin = _kept_source(row.runs[0].members[0]) or (
                "Not among the methods installed here, so its source is not known."
            )
        stages = tuple((link.method, _settings(link)) for link in row.chain)
        facts.append(
            MethodFacts(row.label, row.method, about.get(row.method, About()), origin, stages)
        )
    return facts


def _kept_source(run: Run) -> str:
    """Where the source of a plug-in's method is, in words; empty where none was kept."""
    folder = run.directory / PLUGINS
    files = sorted(path.relative_to(run.directory).as_posix() for path in folder.rglob("*.py"))
    if not files:
        return ""
    return f"Of a plug-in that is not here; its source is kept as {listed(files)} of each run."


def _settings(link: Link) -> tuple[tuple[str, str, bool], ...]:
    return tuple(
        (name, setting_text(value), name in link.changed)
        for name, value in (link.settings or {}).items()
    )


@dataclass(frozen=True)
class AuditFacts:
    """An audit in sentences, and by class where something is shared."""

    clean: bool
    verdict: str
    test: int  # images
    leaking: Mapping[str, int]  # what is shared with training → test images that share one
    sentences: tuple[str, ...]
    by_class: tuple[tuple[str, int, int, int], ...]  # class, shared, test images, of them affected
    of_what: str  # what is shared in ``by_class``


def audit_facts(results: Path, table: RunGroup) -> list[tuple[str, AuditFacts]]:
    """The audits kept beside the results for a table's split, or for each of its folds: the split's
    label and what was found. Empty where none was made."""
    audits_kept = []
    members = {
        (m.record.split_label, m.spec.split["fingerprint"]): m
        for row in table.rows
        for run in row.runs
        for m in run.members
    }
    for (label, fingerprint), run in sorted(members.items(), key=lambda item: item[0]):
        name = str(run.record.results_name)
        facts = audits.load(audits.audit_folder(results, name, label, fingerprint), fingerprint)
        if facts is not None:
            audits_kept.append((str(label), _in_sentences(facts)))
    return audits_kept


def _in_sentences(facts: Mapping[str, Any]) -> AuditFacts:
    tables, groups = facts["tables"], facts["tables"]["groups"]
    lines = [_shared("images", tables["shared_images"])]
    conflicts = tables["label_conflicts"]
    lines.append(f"Images with two labels: {conflicts or 'none'}.")
    if groups["known"]:
        lines.append(_shared("lesions (or patients)", tables["shared_groups"]))
        lines.append(
            f"{groups['known']:,} lesions (or patients) are known; "
            f"{groups['images_without']:,} images have none."
        )
    else:
        lines.append("Lesions (or patients) in two parts: unknown, no table names them.")
    shared, what = tables["shared_groups"], "lesions"
    if tables["shared_images"]["shared"]:
        shared, what = tables["shared_images"], "images"
    if pictures := facts.get("pictures"):
        lines.append(_shared("near-duplicate pairs of pictures", pictures["shared"]))
        lines.append(f"{pictures['images']:,} images were compared by {pictures['evidence']}.")
        if not shared["shared"]:
            shared, what = pictures["shared"], "near-duplicate pairs"
    by_class = tuple(
        (label, n["shared"], n["test"], n["test_with_train"])
        for label, n in shared["by_class"].items()
    )
    evidence = {"an id": tables["shared_images"], "a lesion (or patient)": tables["shared_groups"]}
    if pictures:
        evidence["a picture"] = pictures["shared"]
    clean = audits.is_clean(facts)
    unseen = ", ".join(audits.unseen(facts))
    verdict = "Not clean" if not clean else f"Clean as far as was looked: {unseen}"
    if clean and not unseen:
        verdict = "Clean"
    return AuditFacts(
        clean,
        verdict,
        tables["shared_images"]["test"],
        {thing: found["test_with_train"] for thing, found in evidence.items()},
        tuple(lines),
        by_class if shared["shared"] else (),
        what,
    )


def leaks_sentence(audits: Sequence[AuditFacts]) -> str:
    """How many test images share what with training, over all folds; empty if none does."""
    test = sum(audit.test for audit in audits)
    things = dict.fromkeys(thing for audit in audits for thing in audit.leaking)
    sums = {thing: sum(audit.leaking.get(thing, 0) for audit in audits) for thing in things}
    words = [f"{100 * n / test:.1f} % share {thing}" for thing, n in sums.items() if n]
    return f"Of the test images {' and '.join(words)} with training images" if words else ""


def _shared(things: str, shared: Mapping[str, Any]) -> str:
    if not shared["shared"]:
        return f"{things.capitalize()} in two parts: none."
    between = ", ".join(f"{n:,} {pair}" for pair, n in shared["between"].items() if n)
    return (
        f"{things.capitalize()} in two parts: {shared['shared']:,} ({between}). "
        f"{shared['test_with_train']:,} of {shared['test']:,} test images "
        f"({100 * (shared['share_of_test'] or 0):.1f} %) share one with training."
    )


@dataclass(frozen=True)
class DatasetFacts:
    """A data set: what it is, and whom to cite."""

    name: str
    title: str = ""
    source: str = ""
    licence: str = ""
    citation: tuple[str, ...] = ()


def dataset_facts(records: Iterable[RunRecord]) -> list[DatasetFacts]:
    """The data sets of runs, each once; of one's own only the name is known."""
    kinds = {record.results_name: record.spec.dataset for record in records}
    facts = []
    for name, kind_name in kinds.items():
        try:
            kind = DATASETS.get(kind_name)
        except UserError:  # of a plug-in that is not loaded
            facts.append(DatasetFacts(name))
            continue
        if name != kind_name:  # one's own: title and source are in its description
            facts.append(DatasetFacts(name, "Images of one's own"))
            continue
        facts.append(DatasetFacts(name, kind.title, kind.source, kind.licence, kind.citation))
    return facts


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds is None:
        return UNKNOWN
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def compute(runs: Sequence[RunFacts]) -> str:
    """What a table's runs took, in a sentence."""
    seconds = [run.seconds for run in runs if run.seconds is not None]
    if not seconds:
        return "No computing time is recorded."
    devices = dict.fromkeys(run.device for run in runs if run.device != UNKNOWN)
    peaks = [run.peak_mib for run in runs if run.peak_mib is not None]
    peak = f", at most {max(peaks) / 1024:.1f} GiB of memory" if peaks else ""
    n = f"{len(seconds)} run{'s' * (len(seconds) != 1)}"
    return (
        f"{n} took {duration(sum(seconds))} on {', '.join(devices) or 'devices unknown'}{peak}. "
        "Stages that several methods start from are counted where they are rows themselves."
    )
