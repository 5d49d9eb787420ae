"""Builds the null GPU: the runtime beside this file, and whatever else of CUDA torch calls."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import torch

HERE = Path(__file__).parent
SOURCE = HERE / "runtime.c"
# Libraries of which torch calls more than anybody needs here: whatever is called says success.
STUBBED = re.compile(r"(?:cublas|cusolver|cusparse|cu(?=[A-Z]))\w+")
SUCCESS = "long {name}(void) {{ return 0; }}\n"


def missing() -> str:
    """Why a null GPU can't be built here; empty if it can."""
    if torch.version.cuda is None:
        return "torch is not built for CUDA"
    if lacking := [tool for tool in ("gcc", "nm") if shutil.which(tool) is None]:
        return f"no {lacking[0]}"
    return "" if _headers() else "no headers of CUDA's runtime beside torch"


def build(folder: Path) -> Path:
    """The library, in a folder, to be preloaded. It takes the place of the driver's, too."""
    (folder / "stubs.c").write_text(_stubs())
    library = folder / "libcuda.so.1"
    flags = ["-shared", "-fPIC", "-O1", "-w", "-fno-builtin", "-lpthread"]
    flags += [f"-Wl,-soname,{library.name}", *(f"-I{header.parent}" for header in _headers())]
    subprocess.run(["gcc", *flags, "-o", library, SOURCE, folder / "stubs.c"], check=True)
    return library


def _headers() -> list[Path]:
    packages = Path(torch.__file__).parents[1]
    return [
        *packages.glob("nvidia/*/include/cuda_runtime_api.h"),
        *packages.glob("triton/backends/nvidia/include/cuda.h"),
    ]


def _stubs() -> str:
    """A function for each that torch calls of the stubbed libraries and the runtime leaves out."""
    names: set[str] = set()
    for library in (Path(torch.__file__).parent / "lib").glob("lib*.so"):
        listing = subprocess.run(
            ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
        )
        names.update(STUBBED.findall(listing.stdout))
    own = set(re.findall(r"^\w+ (\w+)\(", SOURCE.read_text(), flags=re.MULTILINE))
    return "".join(SUCCESS.format(name=name) for name in sorted(names - own))
