"""DICOM files as pictures, by pydicom: what the scanner stored, rescaled, in the file's own window.

In the order of the standard (PS3.3, C.7.6.3 and C.11): stored values → rescale or modality table →
the file's first window or VOI table, else all that its bits can hold → MONOCHROME1 inverted, so
that high values are white in every picture.
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lmdbench.data.store.scale import Refused, Scale

if TYPE_CHECKING:
    from pydicom import Dataset

ENDINGS = (".dcm", ".dicom", ".ima")
PREAMBLE, MAGIC = 128, b"DICM"  # so many bytes of anything, then these
# How a file begins that lacks both: with an element of group 2 or 8, little endian
FIRST = {2: (0x00, 0x01, 0x02, 0x10), 8: (0x00, 0x01, 0x05, 0x06, 0x08, 0x12, 0x14, 0x16, 0x18)}
BARE = tuple(bytes((group, 0, one, 0)) for group, ones in FIRST.items() for one in ones)
INSTALL = "pip install 'lmdbench[dicom]'"
GREY = ("MONOCHROME1", "MONOCHROME2")


def is_dicom(content: bytes) -> bool:
    """Whether a file is DICOM, by its content."""
    return content[PREAMBLE : PREAMBLE + 4] == MAGIC or content.startswith(BARE)


def picture(content: bytes, scale: Scale, most_pixels: int) -> Image.Image:
    """A DICOM file's picture in eight bits, L or RGB.

    ``scale`` takes the place of the file's own window where it is one that clips. Raises ValueError
    with the reason for what is no single picture, and where packages are missing.
    """
    data = read(content)
    width, height = sides(data)
    if width * height > most_pixels:
        raise Refused(f"{width}×{height} pixels, more than {most_pixels:,} (LMDBENCH_MAX_PIXELS)")
    values = _stored(data)
    if values.ndim == 3:
        return Image.fromarray(_top_byte(values, int(data.BitsStored)))
    grey = _grey(data, values, scale)
    return Image.fromarray(255 - grey if is_inverted(data) else grey)


def read(content: bytes) -> Dataset:
    """The elements of a DICOM file that holds one picture. Raises ValueError."""
    try:
        import pydicom
    except ImportError:
        raise Refused(f"DICOM, which takes pydicom: {INSTALL}") from None
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # it warns of every untidy element
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(io.BytesIO(content), force=True)
    if "Rows" not in data or "Columns" not in data:
        kind = getattr(data.get("SOPClassUID"), "name", "") or "unknown kind"
        raise ValueError(f"DICOM without a picture ({kind})")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(f"DICOM of {frames} frames; write each that counts to a file of its own")
    return data


def sides(data: Dataset) -> tuple[int, int]:
    """Width and height in pixels."""
    return int(data.Columns), int(data.Rows)


def is_inverted(data: Dataset) -> bool:
    """Whether its low values are white."""
    return bool(data.get("PhotometricInterpretation") == "MONOCHROME1")


def window(data: Dataset) -> str:
    """What the file says of brightness and contrast, in words; empty: nothing, or a width that the
    standard has no meaning for, as some programs write it."""
    if data.get("VOILUTSequence"):
        return "a VOI table"
    if data.get("WindowWidth") is None or data.get("WindowCenter") is None:
        return ""
    width, function = _first(data.WindowWidth), data.get("VOILUTFunction") or "LINEAR"
    if width <= 0 or (width < 1 and function == "LINEAR"):
        return ""
    return f"{_first(data.WindowCenter):g}/{width:g}"


def _first(value: Any) -> float:
    return float(value if isinstance(value, float | int | str) else value[0])


def _stored(data: Dataset) -> np.ndarray:
    """Stored values (H, W), or colours (H, W, 3) as RGB."""
    from pydicom.pixels import apply_color_lut, pixel_array

    if "TransferSyntaxUID" not in getattr(data, "file_meta", {}):
        from pydicom.uid import ImplicitVRLittleEndian

        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = pixel_array(data)  # colours become RGB
    except (RuntimeError, NotImplementedError) as error:
        raise _why_not(data, error) from None
    if data.get("PhotometricInterpretation") == "PALETTE COLOR":
        values = apply_color_lut(values, data)
        data.BitsStored = 8 * values.dtype.itemsize
    return values


def _why_not(data: Dataset, error: Exception) -> ValueError:
    """Why pixels can't be unpacked."""
    from pydicom.pixels import get_decoder

    syntax = data.file_meta.TransferSyntaxUID
    try:
        missing = not get_decoder(syntax).is_available
    except NotImplementedError:
        return ValueError(f"DICOM compressed as {syntax.name}, which pydicom can't read")
    if missing:
        way = "pip install 'pylibjpeg[all]' reads it"
        return Refused(f"DICOM compressed as {syntax.name}: {way}")
    why = str(error).splitlines()[-1].strip()
    return ValueError(f"DICOM compressed as {syntax.name}, damaged: {why}")


def _top_byte(values: np.ndarray, bits: int) -> np.ndarray:
    return values if values.dtype == np.uint8 else (values >> max(bits - 8, 0)).astype(np.uint8)


def _grey(data: Dataset, values: np.ndarray, scale: Scale) -> np.ndarray:
    """Stored values (H, W) as uint8, high ones white."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    values = apply_modality_lut(values, data)
    if scale.clips:
        return scale.grey(values)
    if "BitsStored" not in data:
        raise Refused("DICOM of floats, whose range is not known")
    low, high = _range(data)
    if low == high:
        raise ValueError("DICOM with a rescale slope of 0")
    if window(data):
        plain = data.get("PhotometricInterpretation")
        data.PhotometricInterpretation = "MONOCHROME2"  # windows are defined for grey alone
        values = apply_voi_lut(values, data)
        data.PhotometricInterpretation = plain
        if data.get("VOILUTSequence"):
            low, high = 0.0, 2.0 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1
    share = (np.asarray(values, np.float64) - low) / (high - low)
    if not window(data) and low > high:  # a falling rescale turns the range, not the picture
        share = 1 - share
    return (np.clip(share, 0, 1) * 255).round().astype(np.uint8)


def _range(data: Dataset) -> tuple[float, float]:
    """What the smallest and the largest stored value become by the rescale."""
    if data.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(data.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    bits = int(data.BitsStored)
    low, high = 0.0, 2.0**bits - 1
    if data.get("PixelRepresentation"):
        low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    if slope is not None and intercept is not None:
        low, high = low * float(slope) + float(intercept), high * float(slope) + float(intercept)
    return low, high
