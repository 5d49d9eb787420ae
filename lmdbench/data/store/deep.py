"""Pictures of more than 8 bits as Pillow opens them, and what they hold of it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from lmdbench.data.store.png import significant_bits
from lmdbench.data.store.scale import USUAL, Refused, Scale, Values, extremes

SIZES = b"\xff\x4f\xff\x51"  # how a JPEG 2000 codestream begins: its sizes and precision follow
PRECISION_AT = 42  # bytes from there: bits less one, and whether they have a sign
# Raw modes of Pillow that keep the upper bytes of colours → those that keep the lower
LOWER = {"16B": "16L", "16L": "16B", "16N": "16B"}
GREY_ALPHA = "LA;16B"  # four bytes a pixel, as RGBA has
BITS_TAG, PHOTOMETRIC_TAG, MOST_TAG, PLANES_TAG, SIGN_TAG = 258, 262, 281, 284, 339  # of TIFF
WHITE_IS_ZERO = 0  # of the second
SIGNED = 2  # of the last


def is_deep_grey(image: Image.Image) -> bool:
    """Whether a picture is of whole numbers above 8 bits, or of floats."""
    return image.mode == "F" or image.mode.startswith("I")


def is_deep_colour(image: Image.Image) -> bool:
    """Whether colours (or grey with alpha) have 16 bits, of which Pillow keeps the upper 8. Only
    before the picture is loaded."""
    return _lower(_raw_mode(image)) is not None


def is_inverted(image: Image.Image) -> bool:
    """Whether zero is white and Pillow leaves it so, as in TIFF of more than 8 bits."""
    tags = getattr(image, "tag_v2", {})
    return is_deep_grey(image) and tags.get(PHOTOMETRIC_TAG) == WHITE_IS_ZERO


def refuse_misread(image: Image.Image) -> None:
    """Raises ValueError for a TIFF that Pillow would read wrongly: 16-bit colours plane by plane,
    and 8 bits with a sign."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(BITS_TAG, ())
    if tags.get(PLANES_TAG) == 2 and len(bits) > 1 and max(bits) > 8:
        raise ValueError(f"colours of {max(bits)} bits in separate planes; write them interleaved")
    if SIGNED in tags.get(SIGN_TAG, ()) and max(bits, default=1) <= 8:
        raise ValueError("whole numbers of 8 bits with a sign; write them in 16, or without one")


def refuse_wrapped(image: Image.Image) -> None:
    """Raises ValueError for a loaded TIFF of 32 bits without a sign whose upper half Pillow takes
    for values below 0."""
    tags = getattr(image, "tag_v2", {})
    unsigned = image.mode == "I" and tags and SIGNED not in tags.get(SIGN_TAG, ())
    if unsigned and np.asarray(image).min() < 0:
        raise ValueError("values of 2,147,483,648 or more; write them in 16 bits, or as floats")


def is_scaled(content: bytes, image: ImageFile) -> bool:
    """Whether the file says that it holds fewer than 16 bits, or another range, and Pillow scales
    its whole numbers up to 16. Only before the picture is loaded."""
    if image.mode == "F":
        return False
    if image.format == "PPM":
        return bool(image.tile) and image.tile[0][0] != "raw"
    at = content.find(SIZES) if image.format == "JPEG2000" else -1
    return at >= 0 and content[at + PRECISION_AT] & 0x7F != 15


def scale_of(content: bytes, image: ImageFile, scale: Scale) -> Scale:
    """That of the data set, or of 16 bits where the file says itself what it holds."""
    return USUAL if is_scaled(content, image) else scale


def grey(image: Image.Image, scale: Scale) -> Image.Image:
    """A deep grey picture in eight bits. Raises ValueError as ``Scale.grey``."""
    values = np.asarray(image)
    if image.mode == "F" and scale == USUAL:
        extremes(values)  # where some are no numbers, that is why
        raise Refused("floats of unknown range")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return Image.fromarray(scale.grey(values))


def colour(content: bytes, image: ImageFile, scale: Scale) -> Image.Image:
    """A deep coloured picture, not loaded yet, in eight bits by both bytes of its values."""
    values = _colours(content, image)
    bands = _without_alpha(values)
    levels = [scale.grey(np.ascontiguousarray(values[..., band])) for band in range(bands)]
    if bands < values.shape[2]:
        alpha = np.ascontiguousarray(values[..., bands])
        within = int(alpha.max()) <= scale.high and not scale.clips
        levels.append((scale if within else USUAL).grey(alpha))
    result = Image.fromarray(np.dstack(levels))
    result.info = image.info
    return result


def values_in(content: bytes, image: ImageFile) -> Values | None:
    """What a deep picture, not loaded yet, holds; None where the file itself says its range."""
    if is_scaled(content, image):
        return None
    stated, floats = _stated(content, image), image.mode == "F"
    values = np.asarray(image) if is_deep_grey(image) else _colours(content, image)
    refuse_wrapped(image)
    if values.ndim == 3:
        values = values[..., : _without_alpha(values)]
    return Values(*extremes(values), floats, stated)


def _without_alpha(colours: np.ndarray) -> int:
    """How many of the bands are colours."""
    return int(colours.shape[2] - (colours.shape[2] in (2, 4)))


def _colours(content: bytes, image: ImageFile) -> np.ndarray:
    """Both bytes of a deep coloured picture's values, (H, W, 2 to 4) uint16.

    Pillow keeps the upper one. It is asked a second time for the lower, by the raw mode of the
    other order of bytes.
    """
    raw = _raw_mode(image)
    if raw == GREY_ALPHA:
        four = np.asarray(_loaded_as(image, "RGBA"), dtype=np.uint16)
        return four[..., ::2] << 8 | four[..., 1::2]
    again = Image.open(io.BytesIO(content), formats=[str(image.format)])
    lower = np.asarray(_loaded_as(again, str(_lower(raw))), dtype=np.uint16)
    return np.asarray(image, dtype=np.uint16) << 8 | lower


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", ())
    if image.mode not in ("RGB", "RGBA", "LA") or not tiles:
        return ""
    args: Any = tiles[0][3]
    return str(args[0] if isinstance(args, tuple) else args)


def _lower(raw: str) -> str | None:
    """The raw mode that gives the lower bytes; None for those of 8 bits, or premultiplied."""
    if raw == GREY_ALPHA:
        return "RGBA"
    mode, _, order = raw.partition(";")
    return f"{mode};{LOWER[order]}" if order in LOWER and mode in ("RGB", "RGBA", "RGBX") else None


def _loaded_as(image: ImageFile, raw: str) -> Image.Image:
    """A picture loaded by another raw mode than its own."""
    for number, tile in enumerate(image.tile):
        args: Any = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
        image.tile[number] = type(tile)._make((*tile[:3], args))
    if image.mode == "LA":
        image._mode = "RGBA"
    image.load()
    return image


def _stated(content: bytes, image: ImageFile) -> int:
    """The bits that a file says are used, of up to 16; 0 where it says none."""
    tags = getattr(image, "tag_v2", {})
    bits = significant_bits(content) if image.format == "PNG" else 0
    if image.format == "TIFF" and max(tags.get(BITS_TAG, (16,))) < 16:
        bits = max(tags[BITS_TAG])
    elif image.format == "TIFF" and MOST_TAG in tags:
        most = tags[MOST_TAG]
        bits = int(max(most) if isinstance(most, tuple) else most).bit_length()
    return bits if bits <= 16 else 0
