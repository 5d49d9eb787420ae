"""An image file's content as pixels of the size that was asked for: the one recipe there is."""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

FORMATS = ("JPEG", "JPEG2000", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # names of Pillow
# Endings of files that are read beside those that Pillow knows for these formats
OTHER_ENDINGS = (".mpo",)  # JPEG with a second picture behind, as some cameras write it


@functools.cache
def readable_endings() -> frozenset[str]:
    """The endings of files that are images by their names, lower-case and with the dot."""
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset({ending for ending, name in known if name in FORMATS} | {*OTHER_ENDINGS})


def decode(content: bytes, size: int) -> np.ndarray:
    """An image file's content as (3, size, size) uint8 RGB.

    The orientation that the camera noted is applied, then a plain antialiased bilinear resize (the
    aspect ratio is not kept). Grey is repeated, 16 bits are scaled to 8, what is transparent is
    black. Raises ValueError with the reason, or what Pillow raises, for what cannot be read whole.
    """
    return resized(open_rgb(content), size)


def resized(rgb: Image.Image, size: int) -> np.ndarray:
    """An RGB image as (3, size, size) uint8."""
    rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))


def open_rgb(content: bytes) -> Image.Image:
    """An image file's content at its own size, as ``decode`` reads it. Raises as ``decode``."""
    if not content:
        raise ValueError("empty file")
    Image.init()  # else only the commonest formats are known
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"{image.width}×{image.height} pixels, more than {limit:,}")
    image.load()
    with suppress(Exception):  # a broken EXIF block says nothing about the pixels
        image = ImageOps.exif_transpose(image)
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Eight-bit RGB of an image in any mode."""
    if image.mode == "RGB":
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"pixels in mode {image.mode}, of unknown range")
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("RGB")


@contextmanager
def whole_images() -> Iterator[None]:
    """Around work that decodes in threads: what is cut short is an error, and Pillow is quiet."""
    Image.init()  # here, not in several threads at once
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def decoder() -> str:
    """The versions of what decides on the pixels, for files that must not mix them."""
    return f"Pillow {Image.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}"


def reason(error: Exception) -> str:
    """Why a file could not be read, in a few words on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = re.sub(r"\s*<_io\.BytesIO[^>]*>", "", text or type(error).__name__)
    return " ".join(text.split())
