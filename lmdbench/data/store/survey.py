"""What is particular about the pictures of a data set, and in which lines a user is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.files import patiently
from lmdbench.core.words import count, some
from lmdbench.data.dataset import Dataset
from lmdbench.data.reading import image_root, read_records
from lmdbench.data.store.contrast import LEVELS
from lmdbench.data.store.files import read_finished, store_folders, store_name
from lmdbench.data.store.hashing import KnownHashes, default_workers, hash_files, signature_of
from lmdbench.data.store.looking import KnownLooks, Look, look_at
from lmdbench.data.store.scale import (
    BITS,
    USUAL,
    Scale,
    Values,
    common_scale,
    number,
    of_bits,
)

NAMED = 3  # images that a line names
# Why a scale is what it is
FEWEST = (
    "by all pictures of the data set; bit_depth or intensity_range in dataset.toml says otherwise"
)
GIVEN = "as the data set says"


@dataclass(frozen=True)
class Survey:
    """``looks``: image id → what is particular about it. ``scale``: of the data set's pictures of
    more than 8 bits, and ``why`` it is that. ``constant``: the nearly constant ones, as prepared at
    ``size`` pixels; None: not looked at."""

    looks: Mapping[str, Look] = field(repr=False)
    scale: Scale = USUAL
    why: str = FEWEST
    constant: Sequence[str] | None = None
    size: int = 0

    @property
    def lines(self) -> tuple[str, ...]:
        """What a user should know, a line each; none where nothing is particular."""
        return tuple(filter(None, (*_of_values(self), *_of_reading(self), _of_contrast(self))))


def _of_values(survey: Survey) -> list[str]:
    values = [one.values for one in survey.looks.values() if one.values is not None]
    if not values:
        return []
    low, high = min(one.low for one in values), max(one.high for one in values)
    verb = "holds" if len(values) == 1 else "hold"
    held = f"{verb} values from {number(low, ',')} to {number(high, ',')}"
    read = f"read as {_depth(survey.scale)}: {survey.scale.words} ({survey.why})"
    return [f"{count(len(values), 'picture')} of more than 8 bits {held}, {read}"]


def _depth(scale: Scale) -> str:
    signs = {of_bits(n): f"{n} bits" for n in BITS}
    signs |= {of_bits(n, signed=True): f"{n} bits with a sign" for n in BITS}
    return signs.get(scale, "given" if scale.clips else "floats")


def _of_reading(survey: Survey) -> list[str]:
    """Pictures that are not read as most, by kind."""
    dicom = {image: one for image, one in survey.looks.items() if one.dicom}
    kinds: Mapping[str, Callable[[Look], bool]] = {
        "transparent everywhere, read without alpha": lambda one: one.blank,
        "whose low values are white, inverted": lambda one: one.inverted,
        "with more pictures in the file, of which the first is read": lambda one: one.more,
    }
    lines = [_dicom([*dicom.values()], survey.scale)] if dicom else []
    for words, applies in kinds.items():
        found = [image for image, one in survey.looks.items() if applies(one)]
        if found:
            lines.append(f"{count(len(found), 'picture')} {words}: {some(found, NAMED)}")
    return lines


def _dicom(looks: Sequence[Look], scale: Scale) -> str:
    windows = Counter(one.dicom for one in looks)
    total, without = windows.total(), windows.pop("none", 0)
    told = f"{count(total, 'DICOM file')}, rescaled as each says"
    if scale.clips:
        return f"{told}; windows are not used, {scale.words}"
    used = f"each in its own window ({count(len(windows), 'different one')})" if windows else ""
    lacking = f"{without:,} without a window, over all their bits can hold" if without else ""
    return ", ".join(filter(None, (told, used, lacking)))


def _of_contrast(survey: Survey) -> str:
    if not survey.constant:
        return ""
    pictures = f"{len(survey.constant):,} of {count(len(survey.looks), 'picture')}"
    return (
        f"{pictures} nearly constant, within {LEVELS} of 256 grey levels at {survey.size} px "
        f"(blank, or of fewer bits than they are read as): {some(survey.constant, NAMED)}"
    )


def why_of(asked: Scale | None) -> str:
    return FEWEST if asked is None else GIVEN


def asked_scale(dataset: Dataset) -> Scale | None:
    """What a data set says of its pictures of more than 8 bits, if anything. Raises UserError."""
    bits, ends = dataset.bit_depth, dataset.intensity_range
    if bits is not None and ends is not None:
        raise UserError(f"data set {dataset.name}: give bit_depth or intensity_range, not both")
    if bits is not None:
        return of_bits(bits)
    return None if ends is None else Scale(float(ends[0]), float(ends[1]), clips=True)


def table_files(dataset: Dataset) -> dict[str, Path]:
    """Image id → file of every image of a data set's table, there or not."""
    root = image_root(dataset)
    return {str(image): root / file for image, file in read_records(dataset)["file"].items()}


@dataclass(frozen=True)
class Memory:
    """What is remembered of a data set's image files in the cache."""

    hashes: KnownHashes
    looks: KnownLooks

    @classmethod
    def of(cls, data_set: str, cache: Path) -> Memory:
        """``data_set``: the name of its results."""
        place = str(cache / "stores" / store_name(data_set))
        return cls(KnownHashes(Path(f"{place}.files.csv")), KnownLooks(Path(f"{place}.looks.csv")))

    def look_of(self, file: Path) -> Look | None:
        """None where the file is not there, or was not looked at as it is now."""
        try:
            key = signature_of(file, patiently(file.stat))
        except OSError:
            return None
        return self.looks.looks.get(self.hashes.hashes.get(key, ""))


def scale_of(
    looks: Mapping[str, Look],
    files: Mapping[str, Path],
    memory: Memory,
    workers: int,
    asked: Scale | None,
    everything: Callable[[], Mapping[str, Path]] | None,
) -> Scale:
    """The scale of images (id → look): that of all of their data set's, of which they may be some,
    so that every split has the same. Raises UserError."""
    values = values_of(looks)
    if values and everything is not None:
        more = {image: file for image, file in everything().items() if image not in files}
        paths = list(more.values())
        hashes, _, _ = hash_files(paths, memory.hashes, workers)
        seen = look_at(paths, hashes, memory.looks, workers)
        values |= values_of(dict(zip(more, seen, strict=True)))
    return common_scale(values, asked)


def values_of(looks: Mapping[str, Look]) -> dict[str, Values]:
    return {image: one.values for image, one in looks.items() if one.values is not None}


def take_survey(dataset: Dataset, files: Mapping[str, Path], cache: Path) -> Survey:
    """Look at images (id → file) of a data set, as far as that is not remembered. Raises UserError
    for pictures whose range can't be told."""
    memory, workers = Memory.of(dataset.results_name, cache), default_workers()
    paths, asked = list(files.values()), asked_scale(dataset)
    hashes, _, _ = hash_files(paths, memory.hashes, workers)
    looks = dict(zip(files, look_at(paths, hashes, memory.looks, workers), strict=True))
    scale = scale_of(looks, files, memory, workers, asked, lambda: table_files(dataset))
    return _with_contrast(Survey(looks, scale, why_of(asked)), dataset, cache)


def remembered_survey(dataset: Dataset, files: Mapping[str, Path], cache: Path) -> Survey | None:
    """What is known of images (id → file) without reading any; None where one is not known."""
    memory = Memory.of(dataset.results_name, cache)
    looks = {}
    for image, file in files.items():
        known = memory.look_of(file)
        if known is None:
            return None
        looks[image] = known
    asked, values = asked_scale(dataset), values_of(looks)
    if values:  # the others decide on the scale, too, as far as they are there and whole
        rest = ((i, file) for i, file in table_files(dataset).items() if i not in looks)
        others = {image: look for image, file in rest if (look := memory.look_of(file)) is not None}
        values |= values_of(others)
    scale = common_scale(values, asked)
    return _with_contrast(Survey(looks, scale, why_of(asked)), dataset, cache)


def remembered_lines(
    dataset: Dataset, files: Mapping[str, Path] | None, cache: Path
) -> tuple[str, ...]:
    """The lines of what is remembered of images (id → file), or that they were not looked at; none
    where there are no files."""
    if not files:
        return ()
    try:
        survey = remembered_survey(dataset, files, cache)
    except UserError as error:
        return (str(error),)
    if survey is not None and survey.constant is not None:
        return survey.lines
    unknown = "contrast is" if survey is not None else "bit depth, alpha and contrast are"
    later = f"{unknown} not looked at yet: `lmdbench data prepare {dataset.name}` does"
    return (*(survey.lines if survey is not None else ()), later)


def _with_contrast(survey: Survey, dataset: Dataset, cache: Path) -> Survey:
    """With what a finished store of the same images says of their contrast, if there is one."""
    for folder in store_folders(cache / "stores", store_name(dataset.results_name)):
        found = read_finished(folder)
        if found is None or found.constant is None or not survey.looks.keys() <= {*found.hashes}:
            continue
        constant = [image for image in found.constant if image in survey.looks]
        return replace(survey, constant=constant, size=found.size)
    return survey
