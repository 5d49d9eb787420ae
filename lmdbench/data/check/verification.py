"""Whether a data set's tables, images and stores are what they should be. Reads, writes nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes
from lmdbench.core.words import count, listed, some
from lmdbench.data.dataset import Dataset, Split, sha256_lines
from lmdbench.data.folder.walk import images_below, images_in
from lmdbench.data.reading import read_records, read_remarks, read_split
from lmdbench.data.sources import RELEASED_SPLIT, File
from lmdbench.data.splits.availability import locate, record_files
from lmdbench.data.splits.spec import DEFAULT_SEED
from lmdbench.data.store.contrast import SIDE, nearly_constant
from lmdbench.data.store.decoding import decode, decoder, open_rgb, reason, whole_images
from lmdbench.data.store.files import (
    MARK,
    StoreFiles,
    read_finished,
    read_unfinished,
    store_folders,
    store_name,
)
from lmdbench.data.store.hashing import default_workers, in_parallel
from lmdbench.data.store.looking import KnownLooks, is_of, look_at, scale_in
from lmdbench.data.store.resolutions import spread
from lmdbench.data.store.scale import USUAL, Scale, common_scale
from lmdbench.data.store.survey import (
    Survey,
    asked_scale,
    remembered_survey,
    values_of,
    why_of,
)
from lmdbench.data.tables import read_table

EXAMPLES = 3
COMPARED = 200  # images that are compared with each store, if no number is asked for
# Part → the released table of it; the id column is one of those below.
RELEASED = {"train": "training.csv", "validation": "validation.csv", "test": "testing.csv"}
ID_COLUMNS = ("image", "Video file")

State = Literal["ok", "note", "problem"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finding:
    """What one check found. A note is neither right nor wrong. ``facts``: its numbers, as JSON."""

    check: str
    state: State
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def verify(
    dataset: Dataset,
    cache: Path,
    sizes: Sequence[int] = (),
    sample: int | None = None,
    progress: Progress = lambda *_: None,
    compared: int | None = COMPARED,
) -> Iterator[Finding]:
    """The checks that apply to the data set, one after the other.

    ``sizes``: the stores to check, all that are there if empty. ``sample``: how many images are
    decoded, ``compared``: how many are compared with each store; None for all. Raises UserError for
    tables that cannot be read.
    """
    records = read_records(dataset)
    located = locate(dataset, record_files(dataset))
    files, missing = located.files, located.missing
    there = [image for image in files if image not in missing]
    if dataset.official_digest:
        yield check_tables(dataset, records)
    yield from (Finding("read as", "note", remark) for remark in read_remarks(dataset))
    if located.told:
        yield Finding("names", "problem" if missing else "note", located.told)
    yield check_classes(dataset, records)
    yield check_presence(dataset, records, missing)
    if there:
        yield check_strangers(dataset, files)
    if released := released_tables(dataset):
        yield check_released(dataset, released)
    if there:
        chosen = [files[there[p]] for p in spread(len(there), _number(sample, there))]
        survey = _survey(dataset, {image: files[image] for image in there}, chosen, cache)
        if isinstance(survey, str):
            yield Finding("pictures", "problem", survey)
            survey = Survey({})
        yield from check_images(chosen, len(there), dataset.side_range, progress, survey.scale)
        yield from check_pictures(survey, chosen)
    if dataset.vectors is None:
        yield from check_stores(dataset, files, there, cache, sizes, compared, progress)


def check_tables(dataset: Dataset, records: pd.DataFrame) -> Finding:
    facts = {"images": len(records), "official": dataset.is_official(records)}
    rows = f"{count(len(records), 'image')} listed"
    if facts["official"]:
        return Finding("tables", "ok", f"{rows}, the official ones in their order", facts)
    text = f"{rows}, but not the official ones, or in another order: the split is not the published"
    return Finding("tables", "problem", text, facts)


def check_classes(dataset: Dataset, records: pd.DataFrame) -> Finding:
    """Class counts, against those that are known of the data set."""
    counts = {str(label): int(n) for label, n in records["label"].value_counts().items()}
    expected = dict(dataset.class_sizes)
    off = {
        label: [counts.get(label, 0), expected.get(label, 0)]
        for label in sorted({*counts, *expected})
        if expected and counts.get(label, 0) != expected.get(label, 0)
    }
    facts = {"counts": counts, "differing": off}
    if off:
        named = listed(
            [f"{label} {n:,} instead of {wanted:,}" for label, (n, wanted) in off.items()]
        )
        return Finding("classes", "problem", named, facts)
    text = f"{len(counts)}, from {max(counts.values()):,} to {count(min(counts.values()), 'image')}"
    return Finding("classes", "ok", f"{text}{', as known' if expected else ''}", facts)


def check_presence(
    dataset: Dataset, records: pd.DataFrame, missing: Mapping[str, object]
) -> Finding:
    """Whether the images are there, class by class."""
    total, labels = len(records), records["label"]
    lacking = labels[[str(image) in missing for image in labels.index]].value_counts()
    per_class = {str(label): int(n) for label, n in lacking.items()}
    facts = {"present": total - len(missing), "missing": len(missing), "missing_of": per_class}
    if not missing:
        return Finding("images", "ok", f"all {total:,} are there", facts)
    text = f"{total - len(missing):,} of {total:,} are there"
    if dataset.makes_images:
        return Finding("images", "note", f"{text}; they are made on first use", facts)
    sizes = labels.value_counts()
    named = listed([f"{label} {n:,} of {sizes[label]:,}" for label, n in per_class.items()])
    return Finding("images", "problem", f"{text}; missing: {named}", facts)


def check_strangers(dataset: Dataset, files: Mapping[str, Path]) -> Finding:
    """Image files that lie with the others and that no table knows."""
    known = {os.path.abspath(file) for file in files.values()}
    strangers = [path for path in _image_files(dataset, known) if path not in known]
    facts = {"unknown": len(strangers), "examples": strangers[:EXAMPLES]}
    if not strangers:
        return Finding("other files", "ok", "no image there that the table does not know", facts)
    names = ", ".join(map(os.path.basename, strangers[:EXAMPLES]))
    text = f"{count(len(strangers), 'image file')} not in the table, such as {names}: not used"
    return Finding("other files", "note", text, facts)


def _image_files(dataset: Dataset, known: set[str]) -> Iterator[str]:
    """Image files in the folder that holds all known ones, or in theirs where those lie apart."""
    common = os.path.commonpath([os.path.dirname(path) for path in known])
    inside = Path(common).is_relative_to(os.path.abspath(dataset.image_root))
    tops = [common] if inside else sorted({os.path.dirname(path) for path in known})
    for top in tops:
        with suppress(UserError):  # a folder beside that may not be read
            names = images_below(Path(top)) if inside else images_in(Path(top))
            yield from (os.path.normpath(os.path.join(top, name)) for name in names)


def released_tables(dataset: Dataset) -> dict[str, Path]:
    """Part → where `lmdbench data download` puts the released table of it; empty where no table is
    released beside the data set's own."""
    if dataset.downloads is None or dataset.root is None:
        return {}
    home = dataset.downloads.home(dataset.root)
    targets = {source.target for source in dataset.downloads.sources if isinstance(source, File)}
    named = {part: f"{RELEASED_SPLIT}/{table}" for part, table in RELEASED.items()}
    return {part: home.place(target) for part, target in named.items() if target in targets}


def check_released(dataset: Dataset, tables: Mapping[str, Path]) -> Finding:
    """Whether the released tables hold the images of the split that is made here."""
    absent = [path for path in tables.values() if not path.is_file()]
    if absent:
        text = f"not there to compare with, {absent[0]}; `lmdbench data download` fetches it"
        return Finding("released split", "note", text, {"compared": False})
    try:
        split = read_split(dataset, None, DEFAULT_SEED)
        differing = {part: _differences(split, part, path) for part, path in tables.items()}
    except UserError as error:
        return Finding("released split", "problem", str(error), {"compared": False})
    differing = {part: text for part, text in differing.items() if text}
    facts = {"compared": True, "split": split.label, "differing": differing}
    if differing:
        named = "; ".join(f"{part} {text}" for part, text in differing.items())
        return Finding("released split", "problem", f"split {split.label}: {named}", facts)
    text = f"the same images in train, validation and test as split {split.label}"
    return Finding("released split", "ok", text, facts)


def _differences(split: Split, part: str, path: Path) -> str:
    """What a released table lists otherwise; empty if nothing."""
    table = read_table(path, [])
    column = next((name for name in ID_COLUMNS if name in table.columns), None)
    if column is None:
        return f"has no column {' or '.join(map(repr, ID_COLUMNS))} in {path.name}"
    listed = table.unique(column)
    if sha256_lines(sorted(listed)) == split.parts[part].fingerprint:
        return ""
    ours = set(map(str, split.parts[part].ids))
    return (
        f"lacks {len(set(listed) - ours):,} of {path.name} and has {len(ours - set(listed)):,} more"
    )


def _survey(
    dataset: Dataset, there: Mapping[str, Path], chosen: Sequence[Path], cache: Path
) -> Survey | str:
    """What is remembered of the images that are there, or else seen in the chosen ones; or why it
    can't be told."""
    try:
        known = remembered_survey(dataset, there, cache)
        if known is not None:
            return known
        names = [str(path) for path in chosen]
        seen = dict(
            zip(names, look_at(chosen, names, KnownLooks(), default_workers()), strict=True)
        )
        asked = asked_scale(dataset)
        return Survey(seen, common_scale(values_of(seen), asked), why_of(asked))
    except UserError as error:
        return str(error)


def check_pictures(survey: Survey, chosen: Sequence[Path]) -> Iterator[Finding]:
    """What is particular about the pictures; of contrast the chosen ones alone are looked at, where
    no store tells of all."""
    if survey.constant is None:
        constant = _nearly_constant(chosen, survey.scale)
        survey = replace(survey, constant=constant, size=SIDE)
    for text in survey.lines:
        yield Finding("pictures", "note", text, {"nearly_constant": list(survey.constant or ())})


def _nearly_constant(files: Sequence[Path], scale: Scale) -> list[str]:
    def one(position: int) -> bool:
        try:
            pixels = decode(read_bytes(files[position]), SIDE, scale)
        except Exception:  # told by ``check_images``
            return False
        return bool(nearly_constant(pixels[None], [0]))

    found = _threads(one, len(files), lambda *_: None)
    return [str(files[position]) for position in sorted(found) if found[position]]


def check_images(
    files: Sequence[Path],
    total: int,
    side_range: tuple[int, int] | None,
    progress: Progress = lambda *_: None,
    scale: Scale = USUAL,
) -> Iterator[Finding]:
    """Decode the chosen files, among ``total``, as a run would; and look at their sides."""

    def one(position: int) -> tuple[int, int] | str:
        try:
            return open_rgb(read_bytes(files[position]), scale).size
        except Exception as error:  # Pillow's plug-ins raise errors of every kind
            return reason(error)

    results = _threads(one, len(files), progress)
    failed = {str(files[p]): text for p, text in results.items() if isinstance(text, str)}
    sides = [size for size in results.values() if not isinstance(size, str)]
    among = f"{len(files):,} of {total:,}" if len(files) < total else f"all {total:,}"
    facts: dict[str, Any] = {"tried": len(files), "of": total, "unreadable": failed}
    if failed:
        named = some([f"{path} ({why})" for path, why in failed.items()], EXAMPLES)
        tried = among if len(files) < total else f"the {total:,}"
        text = f"{len(failed):,} of {tried} tried cannot be read: {named}"
        if len(failed) > EXAMPLES:
            text += ", all listed by --json"
        yield Finding("decoding", "problem", text, facts)
    else:
        yield Finding("decoding", "ok", f"{among} images tried, each is whole", facts)
    if side_range is None or not sides:
        return
    shortest, longest = min(map(min, sides)), max(map(max, sides))
    low, high = side_range
    outside = sum(min(size) < low or max(size) > high for size in sides)
    facts = {"shortest": shortest, "longest": longest, "outside": outside, "range": [low, high]}
    here = f"sides from {shortest:,} to {longest:,} pixels"
    if outside:
        text = f"{here}, the official ones' are {low:,} to {high:,}: {outside:,} of {len(sides):,} "
        yield Finding("resolution", "problem", f"{text}images are not the official files", facts)
    else:
        yield Finding("resolution", "ok", f"{here}, within the official {low:,} to {high:,}", facts)


def check_stores(
    dataset: Dataset,
    files: Mapping[str, Path],
    there: Sequence[str],
    cache: Path,
    sizes: Sequence[int],
    sample: int | None,
    progress: Progress = lambda *_: None,
) -> Iterator[Finding]:
    """The stores of the data set: whole, and equal to what their images' files give."""
    name = store_name(dataset.results_name)
    command = f"`lmdbench data prepare {dataset.name}`"
    for size in sizes or (None,):
        folders = [f for f in store_folders(cache / "stores", name, size) if f.is_dir()]
        for folder in folders:
            stored = read_finished(folder)
            if stored is not None:
                yield check_store(stored, files, there, sample, progress)
            elif (folder / MARK).exists():
                text = f"damaged; {command} makes it anew"
                yield Finding("store", "problem", f"{folder.name}: {text}", {"folder": str(folder)})
            else:
                left = read_unfinished(folder)
                done = 0 if left is None else int(left.done.sum())
                text = f"unfinished, {count(done, 'image')} decoded; {command} goes on"
                facts = {"folder": str(folder), "decoded": done}
                yield Finding("store", "note", f"{folder.name}: {text}", facts)
        if not folders:
            text = "none yet" if size is None else f"none at {size} px"
            state: State = "note" if size is None else "problem"
            yield Finding("store", state, f"{text}; {command} makes it", {"image_size": size})


def check_store(
    stored: StoreFiles,
    files: Mapping[str, Path],
    there: Sequence[str],
    sample: int | None,
    progress: Progress = lambda *_: None,
) -> Finding:
    """Compare a store with the files of a sample of the images that both have."""
    row = {image: position for position, image in enumerate(stored.hashes)}
    both = [image for image in there if image in row]
    chosen = [both[p] for p in spread(len(both), _number(sample, both))]

    def one(position: int) -> str:
        image = chosen[position]
        try:
            content = read_bytes(files[image])
            if not is_of(stored.hashes[image], content):
                return "file"
            pixels = decode(content, stored.size, scale_in(stored.hashes[image]))
        except Exception as error:  # Pillow's plug-ins raise errors of every kind
            return reason(error)
        return "" if np.array_equal(pixels, stored.pixels[row[image]]) else "pixels"

    bad = Counter(filter(None, _threads(one, len(chosen), progress).values()))
    facts = {
        "folder": str(stored.folder),
        "image_size": stored.size,
        "images": len(stored.hashes),
        "of_those_there": len(both),
        "compared": len(chosen),
        "other_files": bad["file"],
        "other_pixels": bad["pixels"],
        "unreadable": bad.total() - bad["file"] - bad["pixels"],
    }
    place = f"{stored.folder.name}: "
    if not bad:
        held = f"has {len(both):,} of the {count(len(there), 'image')} there"
        same = f"{len(chosen):,} compared, all equal to their files"
        return Finding("store", "ok", f"{place}{held}, {same}", facts)
    texts = []
    if bad["file"]:
        texts.append(
            f"{bad['file']:,} made from other content than the file has now (a run does not use "
            f"it; remove {stored.folder} if the files were replaced on purpose)"
        )
    if bad["pixels"]:
        why = f"remove {stored.folder}, it is damaged"
        if stored.decoder != decoder():
            why = f"it was made by {stored.decoder or 'another Pillow'}, here is {decoder()}"
        texts.append(f"{bad['pixels']:,} with other pixels than their file gives ({why})")
    if facts["unreadable"]:
        texts.append(f"{facts['unreadable']:,} whose file cannot be read")
    text = f"{place}of {len(chosen):,} compared, {'; '.join(texts)}"
    return Finding("store", "problem", text, facts)


def _number(sample: int | None, images: Sequence[str]) -> int:
    return len(images) if sample is None else sample


def _threads(one: Callable[[int], Any], number: int, progress: Progress) -> dict[int, Any]:
    done = 0

    def take(chunk: Mapping[int, Any]) -> None:
        nonlocal done
        done += len(chunk)
        progress(done, number)

    with whole_images():
        return in_parallel(one, range(number), default_workers(), take)
