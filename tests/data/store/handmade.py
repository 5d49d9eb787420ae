"""Image files that Pillow does not write, made by hand."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

PLACES = {3: "H", 4: "I"}  # TIFF's types of numbers


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(values: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG of 16 bits of (H, W) grey, or (H, W, 2 to 4) with alpha or colours; ``chunks`` stand
    before the pixels."""
    height, width = values.shape[:2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    content = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows))]
    return b"".join([b"\x89PNG\r\n\x1a\n", *content, chunk(b"IEND", b"")])


def tiff(
    values: np.ndarray,
    *,
    order: str = "<",
    bits: int = 16,
    photometric: int | None = None,
    planes: int = 1,
    packed: bool = False,
    data: bytes | None = None,
) -> bytes:
    """A TIFF of one strip (a strip a plane) of values (H, W) or (H, W, 3), of their own kind.
    ``data``: instead of their bytes."""
    height, width = values.shape[:2]
    samples = 1 if values.ndim == 2 else values.shape[2]
    layout = values if planes == 1 else values.transpose(2, 0, 1)
    raw = layout.astype(values.dtype.newbyteorder(order)).tobytes() if data is None else data
    raw = zlib.compress(raw) if packed else raw
    strips = samples if planes == 2 else 1
    if photometric is None:
        photometric = 1 if samples == 1 else 2
    entries: list[tuple[int, int, list[int]]] = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [bits] * samples),
        (259, 3, [8 if packed else 1]),
        (262, 3, [photometric]),
        (273, 4, [8 + strip * len(raw) // strips for strip in range(strips)]),
        (277, 3, [samples]),
        (278, 4, [height]),
        (279, 4, [len(raw) // strips] * strips),
        (284, 3, [planes]),
        (339, 3, [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * samples),
    ]
    raw += b"\0" * (len(raw) % 2)
    beyond, tags = b"", b""
    for tag, kind, numbers in entries:
        packed_numbers = struct.pack(f"{order}{len(numbers)}{PLACES[kind]}", *numbers)
        if len(packed_numbers) > 4:
            place = struct.pack(f"{order}I", 8 + len(raw) + len(beyond))
            beyond, packed_numbers = beyond + packed_numbers, place
        tags += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + packed_numbers.ljust(4, b"\0")
    begin = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(
        f"{order}I", 8 + len(raw) + len(beyond)
    )
    return begin + raw + beyond + struct.pack(f"{order}H", len(entries)) + tags + b"\0" * 4


def dicom(values: np.ndarray, bits: int = 16, **elements: Any) -> bytes:
    """An uncompressed DICOM of stored values (H, W), or (H, W, 3) uint8. ``elements``: by keyword,
    also in place of those that follow from the values."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = SecondaryCaptureImageStorage
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel = 1 if values.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    if values.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = 8 * values.dtype.itemsize
    data.BitsStored, data.HighBit = bits, bits - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    for name, value in elements.items():
        setattr(data.file_meta if name == "TransferSyntaxUID" else data, name, value)
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()
