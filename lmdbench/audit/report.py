"""An audit as facts, and as files beside the results: what leaks in a split, and how much."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmdbench.audit import leaks
from lmdbench.data.dataset import Dataset, Split
from lmdbench.errors import UserError
from lmdbench.files import disk_errors, read_json, write_json, write_text

if TYPE_CHECKING:
    from lmdbench.audit.pictures import Found

FORMAT = 1
FOLDER = "audit"  # below the results of a data set and split
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


def audit_folder(results: Path, dataset: Dataset, split: Split) -> Path:
    """Where the audit of a split is kept."""
    return results / dataset.results_name / split.label / FOLDER


def audit_tables(dataset: Dataset, split: Split) -> Findings:
    """What the tables tell: shared ids and lesions, overall and by class, and small classes."""
    groups = {str(image): group for image, group in dataset.records()["group"].items()}
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


def audit_pictures(split: Split, found: Found, evidence: str) -> Findings:
    """What the pictures tell: pairs of parts that show the same, and labels that contradict each
    other. ``evidence``: what they were found by, in words."""
    home = {image: name for name, part in split.parts.items() for image in part.ids.tolist()}
    label = {
        image: split.classes[c]
        for part in split.parts.values()
        for image, c in zip(part.ids.tolist(), part.labels.tolist(), strict=True)
    }
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
        "partial": split.partial and str(split.partial),
        **{name: dict(findings.facts) for name, findings in parts.items()},
    }


def save(folder: Path, facts: Mapping[str, Any], parts: Mapping[str, Findings]) -> dict[str, Any]:
    """Write an audit, each file whole or not at all, and return its facts.

    What an earlier audit of the same split found in the pictures is kept where this one did not
    look at them. Raises UserError where nothing can be written.
    """
    kept = dict(facts)
    earlier = load(folder)
    if earlier is not None and earlier["split"]["fingerprint"] == facts["split"]["fingerprint"]:
        kept = {**{name: earlier[name] for name in LISTS if name in earlier}, **kept}
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, file in LISTS.items():
        if name in parts:
            write_text(folder / file, csv_text(parts[name].rows))
        elif name not in kept:  # of another split, which this folder held before
            (folder / file).unlink(missing_ok=True)
            (folder / SHEET).unlink(missing_ok=True)
    write_json(folder / FACTS, kept)
    return kept


def csv_text(rows: pd.DataFrame) -> str:
    text = io.StringIO()
    rows.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


def load(folder: Path) -> dict[str, Any] | None:
    """``audit.json`` of a folder, None if there is none or it is of another format."""
    try:
        facts = read_json(folder / FACTS)
    except UserError:
        return None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        return None
    return facts


def leaked_test_images(folder: Path, fingerprint: str) -> frozenset[str] | None:
    """The test images that share something with training or validation images, by every list of the
    audit in a folder. None if there is no audit of the split with that fingerprint."""
    facts = load(folder)
    if facts is None or facts["split"]["fingerprint"] != fingerprint:
        return None
    found: set[str] = set()
    for name, file in LISTS.items():
        if name in facts:
            found |= test_images(_read_list(folder / file))
    return frozenset(found)


def test_images(rows: pd.DataFrame) -> set[str]:
    """The test images among the rows of an audit: each shares its key with another part."""
    return set(rows.loc[rows["part"] == "test", "image"])


def _read_list(path: Path) -> pd.DataFrame:
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); do the audit again") from error
    if list(rows.columns[: len(COLUMNS)]) != COLUMNS:
        raise UserError(f"{path}: its columns are not {', '.join(COLUMNS)}; do the audit again")
    return rows
