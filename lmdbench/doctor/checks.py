"""Whether a machine has what lmdbench needs, one line a thing: fine, or what to do."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from lmdbench.core.cores import usable_cores
from lmdbench.core.errors import UserError
from lmdbench.core.files import temporary_path
from lmdbench.core.words import count, listed, size, some
from lmdbench.version import __version__

State = Literal["ok", "note", "problem"]

LITTLE_MEMORY = 4e9  # bytes, with which training of a ResNet-50 on a CPU gets into trouble
LITTLE_DISK = 5e9  # bytes: weights, a store of 25,000 images at 224 px takes 4 GB
ANSWER_SECONDS = 10.0  # that a queue or a compiler may take to answer
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")

# Extra of lmdbench → the packages it brings, and what they are for
EXTRAS = {
    "offline": (("efficientnet_lite_pytorch",), "backbones whose weights come by pip"),
    "timm": (("timm",), "timm's backbones by name"),
    "tensorboard": (("tensorboard",), "--log tensorboard"),
    "tracking": (("mlflow", "wandb"), "--log mlflow and --log wandb"),
    "dicom": (("pydicom",), "DICOM images"),
    "parquet": (("pyarrow",), "files of features in Parquet"),
}


@dataclass(frozen=True)
class Check:
    """What one check found. A note says what is not there and not everybody needs."""

    name: str
    state: State
    text: str


def examine(results: Path, data_root: Path | None, cache: Path | None) -> Iterator[Check]:
    """All checks, in the order in which a user meets what they are about. ``cache``: None where
    there is no place for one. Nothing is left behind."""
    yield python()
    yield from training()
    yield processors()
    yield memory()
    yield folder("results", results, "--results or LMDBENCH_RESULTS")
    if cache is None:
        yield Check("cache", "problem", "no home folder to keep it in: set LMDBENCH_CACHE to one")
    else:
        yield folder("cache", cache, "LMDBENCH_CACHE")
    yield folder("temporary", Path(tempfile.gettempdir()), "TMPDIR")
    yield from datasets(data_root, cache)
    yield weights()
    yield slurm()
    yield latex()
    yield from extras()


def python() -> Check:
    where = Path(__file__).resolve().parents[1]
    return Check("python", "ok", f"{platform.python_version()}, lmdbench {__version__} in {where}")


def training() -> Iterator[Check]:
    """torch, and what it trains on."""
    if not installed("torch"):
        yield Check(
            "torch",
            "note",
            "not installed: results can be read; to train, pip install torch torchvision",
        )
        return
    import torch

    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU alone"
    yield Check("torch", "ok", f"{torch.__version__}, built {built}")
    yield device()


def device() -> Check:
    """The GPUs that training will find, or why it finds none."""
    import torch

    from lmdbench.core.environment import unused_gpu
    from lmdbench.core.gpus import NoGpu, gpus, none_shown

    try:
        visible = gpus()
    except NoGpu as error:
        return Check("device", "problem", str(error))
    if why := unused_gpu():
        return Check("device", "problem", why)
    if not torch.cuda.is_available():
        if visible:
            return Check(
                "device", "problem", f"{count(len(visible), 'GPU')}, and torch can use none"
            )
        return Check("device", "note", f"no GPU ({none_shown()}): training is on the CPU")
    found = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    text = listed([f"{one.name}, {one.total_memory / 2**30:.0f} GiB" for one in found])
    if shutil.which("cc") or shutil.which("gcc") or shutil.which("clang"):
        return Check("device", "ok", text)
    return Check(
        "device",
        "note",
        f"{text}; no C compiler, so steps are not compiled: install gcc for full speed",
    )


def processors() -> Check:
    there, usable = os.cpu_count() or 1, usable_cores()
    limit = f" of the machine's {there}" if usable < there else ""
    return Check("processors", "ok", f"{usable}{limit}")


def memory() -> Check:
    """What is free, of the machine or of the container."""
    free = free_memory()
    if free is None:
        return Check("memory", "note", "how much is free can't be told on this system")
    if free < LITTLE_MEMORY:
        return Check(
            "memory",
            "note",
            f"{size(free)} free: large networks will not fit; a smaller --set batch_size helps",
        )
    return Check("memory", "ok", f"{size(free)} free")


def free_memory() -> float | None:
    """Bytes that a process may still take; None where that can't be told."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
        found.append(1024.0 * int(line.split()[1]))
    with suppress(OSError, ValueError):  # "max" is no number
        most = int(CGROUP_MEMORY.read_text())
        found.append(most - int(CGROUP_MEMORY.with_name("memory.current").read_text()))
    return min(found, default=None)


def folder(name: str, path: Path, told_by: str) -> Check:
    """Whether a folder can be written to, or made, and how much room is left there. It is not made.
    ``told_by``: what names another one."""
    nearest = path.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        probe = temporary_path(nearest / "probe")
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(nearest).free
    except OSError as error:
        way = f"make it writable, or name another folder by {told_by}"
        return Check(name, "problem", f"{path} can't be written to ({error.strerror}): {way}")
    there = "" if path.exists() else ", made when it is needed"
    if free < LITTLE_DISK:
        return Check(name, "note", f"{path}{there}: {size(free)} free, which is soon full")
    return Check(name, "ok", f"{path}{there}, {size(free)} free")


def datasets(data_root: Path | None, cache: Path | None) -> Iterator[Check]:
    """What is there of each data set that has files of its own."""
    from lmdbench.data.dataset import DATASETS

    wanting = [name for name in DATASETS.names() if DATASETS[name].needs_root]
    if data_root is None or cache is None:
        names = listed([name for name in wanting if name != "folder"])
        yield Check(
            "data", "note", f"not looked for: {names}; say where with --data-root or LMDBENCH_DATA"
        )
        return
    for name in wanting:
        if (check := dataset(name, data_root, cache)) is not None:
            yield check


def dataset(name: str, data_root: Path, cache: Path) -> Check | None:
    """How many of its images are there; None for somebody's own folder, where there is none."""
    from lmdbench.data.check.verification import check_presence
    from lmdbench.data.dataset import open_dataset
    from lmdbench.data.reading import read_records
    from lmdbench.data.splits.availability import locate, record_files

    try:
        data = open_dataset(name, data_root, cache)
        records = read_records(data)
        missing = locate(data, record_files(data)).missing
        found = check_presence(data, records, missing)
    except UserError as error:
        if name == "folder":
            return None
        way = f"`lmdbench data download {name}`"
        said = "" if way in str(error) else f"; {way} fetches it"
        return Check(name, "note", f"{error}{said}")
    if found.state == "ok":
        return Check(name, "ok", found.text)
    there, known = found.facts["present"], len(records)
    if there == 0:
        way = f"`lmdbench data download {name}` fetches them"
        return Check(name, "note", f"none of its {count(known, 'image')} is there: {way}")
    way = f"`lmdbench data verify {name}` says which; --allow-missing goes on with these"
    return Check(name, "note", f"{there:,} of {count(known, 'image')} are there: {way}")


def weights() -> Check:
    """Which pretrained weights lie in the caches of torch and of Hugging Face."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    torchs = Path(os.environ.get("TORCH_HOME") or home / "torch") / "hub" / "checkpoints"
    hub = Path(os.environ.get("HF_HOME") or home / "huggingface") / "hub"
    cached = [path.name for path in _listed(torchs) if path.suffix in (".pth", ".pt")]
    cached += [
        path.name.removeprefix("models--").replace("--", "/")
        for path in _listed(hub)
        if path.name.startswith("models--")
    ]
    if not cached:
        return Check(
            "weights",
            "note",
            f"none cached in {torchs} or {hub}: they are downloaded when first used; without "
            "internet, put them there, or give --weights FILE",
        )
    return Check("weights", "ok", f"cached: {some(cached, 6)}")


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def slurm() -> Check:
    if shutil.which("sbatch") is None:
        return Check("slurm", "note", "no sbatch: sweeps run on this machine, --executor local")
    said = _answer("sinfo", "--noheader", "--format=%P %a %D")
    if said.problem:
        return Check("slurm", "problem", f"sinfo {said.problem}: ask who runs the cluster")
    partitions = [line.split() for line in said.lines]
    text = listed([f"{name} ({nodes} nodes, {state})" for name, state, nodes in partitions])
    return Check("slurm", "ok", f"partitions {text}")


def latex() -> Check:
    if shutil.which("pdflatex") is None:
        return Check("latex", "note", "no pdflatex: tables for papers are written all the same")
    return Check("latex", "ok", "pdflatex is there")


def extras() -> Iterator[Check]:
    """What is installed for things that not everybody needs."""
    for extra, (packages, purpose) in EXTRAS.items():
        absent = [name for name in packages if not installed(name)]
        if absent:
            way = f'for {purpose}: pip install "lmdbench[{extra}]"'
            yield Check(extra, "note", f"{listed(absent)} not installed; {way}")
        else:
            yield Check(extra, "ok", listed([f"{name} {_version(name)}" for name in packages]))


def installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _version(package: str) -> str:
    """As the distribution of that name says it, else those that bring the package: to find them all
    files of all distributions are gone through, which takes a second."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    names = metadata.packages_distributions().get(package, [])
    return " or ".join(sorted({metadata.version(name) for name in names}))


@dataclass(frozen=True)
class Answer:
    """What a program printed; ``problem``: why it did not."""

    lines: list[str]
    problem: str = ""


def _answer(*command: str) -> Answer:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer([], f"gave no answer in {ANSWER_SECONDS:.0f} s")
    except OSError as error:
        return Answer([], f"can't be started ({error.strerror})")
    if done.returncode != 0:
        words = (done.stderr.strip() or "it said nothing").splitlines()[0]
        return Answer([], f"fails ({words})")
    return Answer(done.stdout.splitlines())
