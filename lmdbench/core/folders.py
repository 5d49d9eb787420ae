"""Where things lie, unless somebody says otherwise; also where there is no home folder."""

from __future__ import annotations

import getpass
import logging
import os
from contextlib import suppress
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.system import user_id

HOME_CACHE = "~/.cache/lmdbench"
# Variables by which libraries are told where their own files go → the folder's name, in the user's
# cache (~/.cache) as in lmdbench's own
LIBRARIES = {"HF_HOME": "huggingface", "MPLCONFIGDIR": "matplotlib", "TORCH_HOME": "torch"}
# The same of compilers: what one run compiled serves the next, also on other nodes
COMPILERS = {
    "TORCHINDUCTOR_CACHE_DIR": "compiled/inductor",
    "TRITON_CACHE_DIR": "compiled/triton",
}


def expanded(path: str | Path) -> Path:
    """A path with the home folder put for ~. Raises UserError where there is no such folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(
            f"{path}: there is no home folder to put for ~ (no HOME, and no such user on this "
            "machine); give the whole path"
        ) from None


def default_cache() -> Path:
    """Where files may be made: $LMDBENCH_CACHE or ~/.cache/lmdbench.

    Raises UserError where there is neither.
    """
    given = os.environ.get("LMDBENCH_CACHE")
    if not given and not has_home():
        raise UserError(
            "there is no home folder to keep prepared images in (no HOME, and no entry of this "
            "user in /etc/passwd); set LMDBENCH_CACHE to a folder that can be written"
        )
    return expanded(given or HOME_CACHE)


def default_results() -> Path:
    """Where runs lie: $LMDBENCH_RESULTS or ./results."""
    return expanded(os.environ.get("LMDBENCH_RESULTS") or "results")


def has_home() -> bool:
    """Whether the system can tell this user's home folder."""
    return not os.path.expanduser("~").startswith("~")


def settle_libraries() -> None:
    """Give libraries what they look up of the user, in a container whose user has no entry in
    /etc/passwd: a name, and places in the cache for what has none in the home folder and can have
    none there. Compilers have theirs in the cache wherever it can be written."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = f"user{user_id()}"
    if not os.access(os.path.expanduser("~"), os.W_OK):
        # It looks its fonts up each time then, and would say so in a paragraph.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with suppress(UserError):
        cache = default_cache().absolute()
        settled = {name: folder for name, folder in LIBRARIES.items() if not _has_place(folder)}
        if _writable(cache):
            settled |= COMPILERS
        for name, folder in settled.items():
            os.environ.setdefault(name, str(cache / folder))


def _has_place(folder: str) -> bool:
    """Whether a folder of this name is in the user's own cache, or can be made there."""
    if not has_home():
        return False
    place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / folder
    return place.is_dir() or _writable(place)


def _writable(folder: Path) -> bool:
    """Whether it can be written in, or made if it is not there."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(there, os.W_OK)
