"""Every kind of damage is found, with its reason."""

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from lmdbench.data.store.damage import damaged_images

SIZE = 16


def encoded(kind: str, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def without_pixels() -> bytes:
    """A PNG whose header is whole and whose pixels end early."""
    whole = encoded("PNG")
    start = whole.index(b"IDAT") - 4
    content = zlib.compress(b"\0" * 10)
    crc = zlib.crc32(b"IDAT" + content).to_bytes(4, "big")
    return whole[:start] + len(content).to_bytes(4, "big") + b"IDAT" + content + crc


BAD = {
    "empty.png": b"",
    "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
    "text.png": b"hello",
    "half.jpg": encoded("JPEG")[:700],
    "half.png": encoded("PNG")[:2000],
    "header.png": encoded("PNG")[:20],
    "crc.png": flipped(encoded("PNG"), 1500),
    "few.png": without_pixels(),
    "zeros.jpg": bytes(5000),
    "half.webp": encoded("WEBP")[:200],
    "half.gif": encoded("GIF")[:300],
    "half.bmp": encoded("BMP")[:300],
    "half.tif": encoded("TIFF")[:300],
    "half.jp2": encoded("JPEG2000")[:150],
}


def test_every_kind_of_damage_is_found_with_its_reason(tmp_path: Path) -> None:
    files = {"good": tmp_path / "good.png", "gone": tmp_path / "gone.png", "folder": tmp_path}
    files["good"].write_bytes(encoded("PNG"))
    for name, content in BAD.items():
        files[name] = tmp_path / name
        files[name].write_bytes(content)
    found = damaged_images("mine", files, SIZE, tmp_path / "cache")
    assert found.keys() == files.keys() - {"good"}
    assert all(why and "\n" not in why for why in found.values())
    assert found["empty.png"] == "empty file"
    assert found["page.jpg"] == "not an image"
    assert found["folder"] == "Is a directory"
