"""What a data set downloads: declared as plain data, in the data set's own file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

LMD_CITATION = (
    "The split: Pan, Zhang, Yang, Li, Chen: Long-tailed medical diagnosis with relation-aware "
    "representation learning and iterative classifier calibration. Computers in Biology and "
    "Medicine 188, 109772 (2025), arXiv:2502.03238"
)
LMD_SPLITS = "https://raw.githubusercontent.com/peterlipan/LMD/0d632d3/split"
RELEASED_SPLIT = "released-split"  # the folder that LMD's split lands in, to be compared with


@dataclass(frozen=True)
class File:
    """One file, kept as it is at ``target`` below the data set's folder.

    What makes it trusted is ``sha256``, where it is known, or else its number of ``rows`` (without
    the header; 0 is not checked). ``about`` is its size in bytes, roughly.
    """

    url: str
    target: str
    sha256: str = ""
    rows: int = 0
    about: int = 0


@dataclass(frozen=True)
class Archive:
    """A zip file of images. Of it the images and ``tables`` below the folder ``top`` are unpacked.

    ``images``: how many it holds; ``about``, ``unpacked``: bytes, roughly, for the room on disk.
    The zip file itself is kept beside the folder ``top``.
    """

    url: str
    top: str
    images: int
    about: int
    unpacked: int
    tables: tuple[str, ...] = ()
    endings: tuple[str, ...] = (".jpg",)

    @property
    def target(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name

    def is_image(self, member: str) -> bool:
        path = PurePosixPath(member)
        inside = path.parts[:1] == (self.top,) and not path.name.startswith(".")
        return inside and path.suffix.lower() in self.endings


@dataclass(frozen=True)
class ApiImages:
    """Images that the ISIC Archive hands out one by one.

    ``tables`` name them, in the column ``column``; they land as ``<folder>/<id>.jpg``. One that is
    there under another of the ``endings`` is not fetched. ``about``: bytes of all, roughly.
    """

    tables: tuple[str, ...]
    about: int
    column: str = "image"
    folder: str = "images"
    endings: tuple[str, ...] = (".jpg",)
    url: str = "https://api.isic-archive.com/api/v2/images"

    @property
    def target(self) -> str:
        return self.folder

    def address(self, image: str) -> str:
        return f"{self.url}/{image}/"


Source = File | Archive | ApiImages


@dataclass(frozen=True)
class Home:
    """The folder of a data set's files, and where in it a declared target lies.

    ``dropped`` is a first folder of targets that is left out, where the data root is that folder.
    """

    folder: Path
    dropped: str = ""

    def place(self, target: str) -> Path:
        if self.dropped:
            target = target.removeprefix(f"{self.dropped}/")
        return self.folder / target

    @property
    def work(self) -> Path:
        """Where unfinished files, the claim and the stamp lie."""
        return self.folder / ".download"


@dataclass(frozen=True)
class Downloads:
    """Everything a data set downloads. ``table`` is the file that its look-up searches for."""

    folder: str  # below the data root
    table: str
    sources: tuple[Source, ...]

    def home(self, root: Path) -> Home:
        """Where the files are or will be: the data root itself where it already holds the table."""
        if not (root / self.folder / self.table).is_file():
            if (root / self.table).is_file():
                return Home(root)
            top, *inner = PurePosixPath(self.table).parts
            if inner and root.joinpath(*inner).is_file():
                return Home(root, top)
        return Home(root / self.folder)


def released_split(
    name: str, *, folder: str = f"{RELEASED_SPLIT}/", **sha256: str
) -> tuple[File, ...]:
    """The split tables that LMD's authors released. ``sha256``: part, as they call it → digest."""
    return tuple(
        File(f"{LMD_SPLITS}/{name}/{part}.csv", f"{folder}{part}.csv", digest, about=1_000_000)
        for part, digest in sha256.items()
    )
