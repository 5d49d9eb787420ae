"""The chunks of PNG files, where their pixels are sound and what stands beside them is not."""

from __future__ import annotations

from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that decide on the picture; all others are texts, colour profiles, times, animation
OF_PICTURE = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf")


def without_metadata(content: bytes) -> bytes | None:
    """A PNG file's content with the chunks of its picture alone; None if it has no others, is cut
    short, or is no PNG.

    Nothing is unpacked, so that texts and profiles may be of any size.
    """
    pieces = list(_chunks(content))
    kept = [content[start:end] for kind, start, end in pieces if kind in OF_PICTURE]
    whole = bool(pieces) and pieces[-1][0] == b"IEND" and pieces[-1][2] <= len(content)
    return b"".join([SIGNATURE, *kept]) if whole and len(kept) < len(pieces) else None


def significant_bits(content: bytes) -> int:
    """The most bits that a PNG file's sBIT chunk states; 0 where it has none."""
    for kind, start, end in _chunks(content):
        if kind == b"sBIT":
            return max(content[start + 8 : end - 4], default=0)
        if kind == b"IDAT":
            break
    return 0


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's kind, and where it begins and ends, with length and checksum."""
    at = len(SIGNATURE) if content.startswith(SIGNATURE) else len(content)
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        yield content[at + 4 : at + 8], at, end
        if content[at + 4 : at + 8] == b"IEND":
            break  # what follows is no part of it
        at = end
