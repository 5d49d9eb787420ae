"""An image file's content as pixels of the size that was asked for: the one recipe there is."""

from __future__ import annotations

import functools
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

from lmdbench.core.errors import UserError
from lmdbench.data.store import deep, dicom
from lmdbench.data.store.png import without_metadata
from lmdbench.data.store.scale import USUAL, Refused, Scale

FORMATS = ("JPEG", "JPEG2000", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # names of Pillow
# Endings of files that are read beside those that Pillow knows for these formats; the first: JPEG
# with a second picture behind, as some cameras write it
OTHER_ENDINGS = (".mpo", *dicom.ENDINGS)
WITH_ALPHA = ("LA", "PA", "RGBA", "RGBa")
BOUND, MOST_PIXELS = "LMDBENCH_MAX_PIXELS", 1_000_000_000
ALONE_FROM = 60_000_000  # pixels from which on one picture is decoded at a time, for the memory
LONGEST_REASON = 200  # letters
_one_at_a_time = threading.RLock()


@functools.cache
def readable_endings() -> frozenset[str]:
    """The endings of files that are images by their names, lower-case and with the dot."""
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset({ending for ending, name in known if name in FORMATS} | {*OTHER_ENDINGS})


def decode(content: bytes, size: int, scale: Scale = USUAL) -> np.ndarray:
    """An image file's content as (3, size, size) uint8 RGB.

    The orientation that the camera noted is applied, then a plain antialiased bilinear resize (the
    aspect ratio is not kept). Grey is repeated, more than 8 bits come to 8 by ``scale`` where the
    file does not say its range, what is transparent is black, unless all of it is. Of several
    pictures in a file the first is read. Raises ValueError with the reason, or what Pillow raises,
    for what cannot be read whole.
    """
    return resized(open_rgb(content, scale), size)


def resized(rgb: Image.Image, size: int) -> np.ndarray:
    """An RGB image as (3, size, size) uint8."""
    rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))


def open_rgb(
    content: bytes, scale: Scale = USUAL, draft: tuple[int, int] | None = None
) -> Image.Image:
    """An image file's content at its own size, as ``decode`` reads it. Raises as ``decode``.

    ``draft``: sides that are enough, for a look at what may be decoded smaller at once.
    """
    if dicom.is_dicom(content):
        return dicom.picture(content, scale, most_pixels()).convert("RGB")
    try:
        return _open_rgb(content, scale, draft)
    except Exception:
        bare = without_metadata(content)
        if bare is None:
            raise
    return _open_rgb(bare, scale, draft)


def _open_rgb(content: bytes, scale: Scale, draft: tuple[int, int] | None) -> Image.Image:
    image: Image.Image = (header := opened(content))
    with _one_at_a_time if image.width * image.height >= ALONE_FROM else nullcontext():
        if draft is not None:
            image.draft("RGB", draft)
        scale, inverted = deep.scale_of(content, header, scale), deep.is_inverted(header)
        if scale != USUAL and deep.is_deep_colour(header):
            image = deep.colour(content, header, scale)
        image.load()
        deep.refuse_wrapped(image)
        with suppress(Exception):  # a broken EXIF block says nothing about the pixels
            image = ImageOps.exif_transpose(image)
        rgb = to_rgb(image, scale)
        return ImageOps.invert(rgb) if inverted else rgb


def opened(content: bytes) -> ImageFile.ImageFile:
    """An image file's header, by Pillow. Raises ValueError for what is none, and too large."""
    if not content:
        raise ValueError("empty file")
    Image.init()  # else only the commonest formats are known
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(_other_kind(content)) from None
    deep.refuse_misread(image)
    _refuse_above(image.size)
    return image


def _other_kind(content: bytes) -> str:
    """Why a file is not one of an image that is read here."""
    if content.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "a TIFF of a kind that Pillow can't read; save it in 8 or 16 bits, grey or RGB"
    if content[4:8] == b"ftyp":
        return f"{content[8:12].decode('latin-1').strip()}, which is not read; save it as PNG"
    return "not an image"


def _refuse_above(sides: tuple[int, int]) -> None:
    limit = most_pixels()
    if sides[0] * sides[1] > limit:
        raise Refused(
            f"{sides[0]}×{sides[1]} pixels, more than {limit:,}; {BOUND} sets another bound"
        )


def most_pixels() -> int:
    """The bound on an image's pixels, $LMDBENCH_MAX_PIXELS. Raises UserError for what is none."""
    text = os.environ.get(BOUND) or str(MOST_PIXELS)
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UserError(f"{BOUND}={text}: give the most pixels of an image, such as {MOST_PIXELS}")
    return int(text)


def header(file: Path) -> tuple[tuple[int, int], str]:
    """Width and height in pixels of an image file, and its format, by its header alone. Raises
    as ``decode``."""
    with file.open("rb") as stream:
        head = stream.read(dicom.PREAMBLE + len(dicom.MAGIC))
        if dicom.is_dicom(head):
            return dicom.sides(dicom.read(head + stream.read())), "DICOM"
        stream.seek(0)
        try:
            with Image.open(stream, formats=FORMATS) as image:
                return image.size, image.format or "unknown"
        except Exception:
            stream.seek(0)
            bare = without_metadata(stream.read())
            if bare is None:
                raise
    with Image.open(io.BytesIO(bare), formats=FORMATS) as image:
        return image.size, image.format or "unknown"


def to_rgb(image: Image.Image, scale: Scale = USUAL) -> Image.Image:
    """Eight-bit RGB of an image in any mode. Raises ValueError for values beyond the scale."""
    if image.mode == "RGB":
        return image
    if deep.is_deep_grey(image):
        image = deep.grey(image, scale)
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        if is_blank(image):
            return image.convert("RGB")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("RGB")


def is_blank(rgba: Image.Image) -> bool:
    """Whether nothing of a picture would be seen: some programs write an alpha of zeros."""
    return rgba.getchannel("A").getextrema() == (0, 0)


@contextmanager
def whole_images() -> Iterator[None]:
    """Around work that decodes in threads: what is cut short is an error, and Pillow is quiet and
    leaves the bound on pixels to us."""
    most_pixels()
    Image.init()  # here, not in several threads at once
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = bound


def decoder() -> str:
    """The versions of what decides on the pixels, for files that must not mix them."""
    return f"Pillow {Image.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}"


def reason(error: Exception) -> str:
    """Why a file could not be read, in a few words on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = re.sub(r"\s*<_io\.BytesIO[^>]*>", "", text or type(error).__name__)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"
