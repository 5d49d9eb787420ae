"""Files of models on the Hugging Face Hub: placed by hand, in its cache, or fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch.hub

from lmdbench.core.errors import UserError
from lmdbench.core.folders import expanded
from lmdbench.models.weights import file_sha256

SITE = "https://huggingface.co"
BLOB = re.compile(r"[0-9a-f]{64}")  # a file's name in the cache: its SHA-256
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", re.ASCII)  # with a revision


def weights_folder() -> Path:
    """Where torch keeps weights, and files are looked for that were placed by hand."""
    return expanded(torch.hub.get_dir()) / "checkpoints"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, which may have one of several ``names`` there.

    ``stem``: what it is called where somebody placed it by hand, but for its ending.
    """

    repository: str
    names: Sequence[str]
    stem: str
    revision: str | None = None

    @property
    def by_hand(self) -> list[Path]:
        """Where it may have been placed, in the order of ``names``."""
        return [weights_folder() / f"{self.stem}{Path(name).suffix}" for name in self.names]

    @property
    def url(self) -> str:
        return f"{SITE}/{self.repository}/resolve/{self.revision or 'main'}/{self.names[0]}"

    def find(self) -> Path | None:
        """The file, if it is on this machine. Raises UserError where it is damaged."""
        for path in self.by_hand:
            if path.is_file():
                return path
        from huggingface_hub import try_to_load_from_cache

        for name in self.names:
            found = try_to_load_from_cache(self.repository, name, revision=self.revision)
            if isinstance(found, str):
                return _whole(Path(found))
        return None

    def fetch(self) -> Path:
        """The file, fetched into the Hub's cache where it is not on this machine. Raises UserError,
        which says where it can be had and where to put it."""
        if (found := self.find()) is not None:
            return found
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
        from huggingface_hub.utils.logging import set_verbosity_error

        set_verbosity_error()  # else each try that fails is told of in two lines
        for name in self.names:
            try:
                return Path(hf_hub_download(self.repository, name, revision=self.revision))
            except LocalEntryNotFoundError as error:
                raise self._unreachable("no connection to the Hugging Face Hub") from error
            except EntryNotFoundError:
                continue
            except Exception as error:  # of several libraries below it
                raise self._unreachable(_why(error)) from error
        raise self._unreachable(f"it has none of {', '.join(self.names)}")

    def _unreachable(self, why: str) -> UserError:
        return UserError(
            f"could not download {self.names[0]} of {self.repository} ({why}): fetch {self.url} "
            f"and put it there as {self.by_hand[0]}, or pass --weights FILE or --weights none"
        )


def _whole(path: Path) -> Path:
    """A file of the cache, whose name there is its SHA-256 where it is large. Raises UserError
    where that is not what it holds."""
    blob = path.resolve()
    if BLOB.fullmatch(blob.name) and file_sha256(blob) != blob.name:
        raise UserError(
            f"weights {path}: damaged (its SHA-256 is not {blob.name[:12]}…, as it is named); "
            f"delete {blob}, and it is downloaded again"
        )
    return path


def _why(error: Exception) -> str:
    """Why the Hub gave no file, in words."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return "its authors ask you to agree to terms on its page, and then to `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or not for you"
    first = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {first[:120]}"
