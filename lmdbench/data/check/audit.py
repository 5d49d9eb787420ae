"""An audit as facts, and as files beside the results: what leaks in a split, and how much."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, read_json, read_text, write_json, write_text
from lmdbench.core.words import count
from lmdbench.data.check import leaks
from lmdbench.data.dataset import Dataset, Split, sha256_lines
from lmdbench.data.reading import read_records, read_remarks

if TYPE_CHECKING:
    from lmdbench.data.check.pictures import SimilarPictures

FORMAT = 1
FACTS = "audit.json"
SHEET = "near-duplicates.png"
# Part of an audit → the list of the images that it found in two parts of the split.
LISTS = {"tables": "leaks.csv", "pictures": "near-duplicates.csv"}
COLUMNS = ["kind", "key", "image", "part", "label"]


@dataclass(frozen=True)
class Findings:
    """One part of an audit: its facts as plain data, and the rows (``COLUMNS``) of every image that
    lies in two parts by one kind of evidence or another."""

    facts: Mapping[str, Any]
    rows: pd.DataFrame


@dataclass(frozen=True)
class Leaks:
    """Test images that share something with training or validation images; and what was not looked
    at, in words. ``by``: an ``audit`` that was kept, or only the split's ``tables`` now."""

    images: frozenset[str]
    unseen: tuple[str, ...]
    by: Literal["audit", "tables"] = "audit"


def audit_folder(results: Path, results_name: str, label: str, fingerprint: str) -> Path:
    """Where the audit of a split is kept; splits of one label may differ in their fingerprints."""
    return results / results_name / label / f"audit-{fingerprint[:8]}"


def audit_tables(dataset: Dataset, split: Split) -> Findings:
    """What the tables tell: shared ids and lesions, overall and by class, and small classes."""
    groups = {str(image): group for image, group in read_records(dataset)["group"].items()}
    images = leaks.listing(split, groups)
    by_id, by_group = leaks.shared_images(images), leaks.shared_groups(images)
    known = images["group"] != ""
    test = split.counts("test")
    facts = {
        "images": {part: len(split.parts[part]) for part in split.parts},
        "shared_images": shared_facts(by_id, split),
        "groups": {
            "known": int(images.loc[known, "group"].nunique()),
            "images_with": int(known.sum()),
            "images_without": int((~known).sum()),
            "source": dataset.group_source,
            "two_labels": int(leaks.conflicting_labels(images, "group")["group"].nunique()),
        },
        "shared_groups": shared_facts(by_group, split),
        "label_conflicts": int(leaks.conflicting_labels(images, "image")["image"].nunique()),
        "small_classes": [
            {"class": small.label, "test": small.test, "half_width": small.half_width}
            for small in leaks.small_classes(split.classes, test)
        ],
    }
    rows = pd.concat([by_id.rows.assign(kind="image"), by_group.rows.assign(kind="group")])
    return Findings(facts, rows[COLUMNS])


def audit_pictures(split: Split, found: SimilarPictures, evidence: str) -> Findings:
    """What the pictures tell: pairs of parts that show the same, and labels that contradict each
    other. ``evidence``: what they were found by, in words."""
    images = leaks.listing(split, {})
    home, label = (
        dict(zip(images["image"], images[column], strict=True)) for column in ("part", "label")
    )
    rows = pd.DataFrame(
        [
            {
                "kind": "identical" if pair.identical else "near-duplicate",
                "key": f"pair {number}",
                "image": image,
                "part": home[image],
                "label": label[image],
                "agreement": pair.agreement,
                "hash_distance": pair.hash_distance,
                "cosine": pair.cosine,
            }
            for number, pair in enumerate(found.pairs, start=1)
            for image in (pair.first, pair.second)
        ],
        columns=[*COLUMNS, "agreement", "hash_distance", "cosine"],
    )
    labels_of: dict[str, set[str]] = {}
    for image, content in found.contents.items():
        labels_of.setdefault(content, set()).add(label[image])
    twofold = sum(len(labels) > 1 for labels in labels_of.values())
    facts = {
        "evidence": evidence,
        "images": len(found.contents),
        "unreadable": dict(found.unreadable),
        "pairs": len(found.pairs),
        "identical": sum(pair.identical for pair in found.pairs),
        "shared": shared_facts(leaks.Shared(rows), split),
        "pairs_of_two_labels": sum(label[p.first] != label[p.second] for p in found.pairs),
        "identical_files_of_two_labels": twofold,
    }
    return Findings(facts, rows)


def shared_facts(shared: leaks.Shared, split: Split) -> dict[str, Any]:
    """Counts of what is shared: things, by pairs of parts, test images affected, by class."""
    test = split.counts("test")
    trained = shared.touching("test", "train")
    held = shared.touching("test", "train", "validation")
    total = int(test.sum())
    by_class = {}
    for label, n in zip(split.classes, test.tolist(), strict=True):
        inside = shared.rows[shared.rows["label"] == label]
        by_class[label] = {
            "shared": int(inside["key"].nunique()),
            "test": n,
            "test_with_train": int(trained.loc[trained["label"] == label, "image"].nunique()),
            "test_with_train_or_validation": int(
                held.loc[held["label"] == label, "image"].nunique()
            ),
        }
    affected = [int(rows["image"].nunique()) for rows in (trained, held)]
    return {
        "shared": shared.keys,
        "between": shared.between(),
        "test": total,
        "test_with_train": affected[0],
        "test_with_train_or_validation": affected[1],
        "share_of_test": affected[0] / total if total else None,
        "by_class": by_class,
    }


def is_clean(facts: Mapping[str, Any]) -> bool:
    """Whether nothing is shared between parts and no labels contradict each other.

    Small classes, and lesions with two labels, are worth knowing but no fault of the split.
    """
    pictures = facts.get("pictures") or {}
    tables = facts["tables"]
    return not (
        tables["shared_images"]["shared"]
        or tables["shared_groups"]["shared"]
        or tables["label_conflicts"]
        or pictures.get("pairs")
        or pictures.get("identical_files_of_two_labels")
    )


def describe(dataset: Dataset, split: Split, parts: Mapping[str, Findings]) -> dict[str, Any]:
    """``audit.json``: which split it is of, and the facts of each part of the audit."""
    return {
        "format": FORMAT,
        "dataset": dataset.name,
        "results_name": dataset.results_name,
        "synthetic": dataset.synthetic,
        "split": {
            "label": split.label,
            "name": split.name,
            "seed": split.seed,
            "imbalance_factor": split.imbalance_factor,
            "fingerprint": split.fingerprint,
            **split.details,
        },
        "remarks": [*read_remarks(dataset), *split.notes],
        "partial": split.partial and str(split.partial),
        "lists": {
            LISTS[name]: sha256_lines([csv_text(findings.rows)]) for name, findings in parts.items()
        },
        **{name: dict(findings.facts) for name, findings in parts.items()},
    }


def with_earlier(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts, with what an earlier audit found in the pictures where this one did not look."""
    earlier = load(folder, facts["split"]["fingerprint"]) or {}
    kept = {name: earlier[name] for name in LISTS if name in earlier}
    lists = {LISTS[name]: earlier["lists"][LISTS[name]] for name in kept}
    return {**kept, **facts, "lists": {**lists, **facts["lists"]}}


def save(folder: Path, facts: Mapping[str, Any], parts: Mapping[str, Findings]) -> None:
    """Write an audit: its lists, then the facts that vouch for them. Raises UserError where nothing
    can be written."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, findings in parts.items():
        write_text(folder / LISTS[name], csv_text(findings.rows))
    write_json(folder / FACTS, facts)


def csv_text(rows: pd.DataFrame) -> str:
    text = io.StringIO()
    rows.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


def load(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """``audit.json`` of a folder, None if there is none of the split with that fingerprint."""
    try:
        facts = read_json(folder / FACTS)
        whole = facts["format"] == FORMAT and facts["split"]["fingerprint"] == fingerprint
        return facts if whole and facts["tables"] and facts["lists"] else None
    except (UserError, KeyError, TypeError):
        return None


def kept_leaks(folder: Path, fingerprint: str) -> Leaks | None:
    """What leaks by every list of the audit in a folder, of the split with that fingerprint. None
    if there is none. Raises UserError for an audit that is not as it was left."""
    facts = load(folder, fingerprint)
    if facts is None and (folder / FACTS).exists():
        pictures = ", with --near-duplicates" if (folder / LISTS["pictures"]).exists() else ""
        raise UserError(
            f"{folder / FACTS}: damaged, or of another version; do the audit again{pictures}"
        )
    if facts is None:
        return None
    rows = [_read_list(folder / file, sha256) for file, sha256 in facts["lists"].items()]
    return Leaks(frozenset().union(*map(test_images, rows)), unseen(facts))


def test_images(rows: pd.DataFrame) -> set[str]:
    """The test images among the rows of an audit: each shares its key with another part."""
    return set(rows.loc[rows["part"] == "test", "image"])


def unseen(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What an audit could not look at, or was not asked to, in words."""
    words = [] if facts["tables"]["groups"]["known"] else ["lesions are unknown"]
    if "pictures" not in facts:
        words.append("pictures were not compared (--near-duplicates)")
    elif unreadable := facts["pictures"]["unreadable"]:
        words.append(f"{count(len(unreadable), 'picture')} could not be read")
    return tuple(words)


def _read_list(path: Path, sha256: str) -> pd.DataFrame:
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); do the audit again") from error
    if sha256_lines([text]) != sha256:
        raise UserError(f"{path}: has changed since its audit; do the audit again")
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
