"""A web server with faults on demand, and two drawn data sets that it serves.

Everything is served as a mirror serves it: ``https://host/path`` at ``/host/path``.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lmdbench.download import web

API = "/api.isic-archive.com/api/v2/images"
FILES = "/content.example.org"


@dataclass(frozen=True)
class Fault:
    """How one request is answered instead of as it should be."""

    status: int | None = None  # of an answer that has only ``body``
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None  # bytes of the body after which the connection closes
    without_length: bool = False  # neither Content-Length nor chunks: the end is the connection's
    without_range: bool = False  # the whole file whatever was asked for
    act: Callable[[], None] = lambda: None  # called once headers and bytes up to ``cut`` are sent


PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class Server:
    """Files by path, with faults that requests of a path use up in turn."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}  # path → ETag, else made of the content; "" for none
        self.modified: dict[str, str] = {}  # path → Last-Modified
        self.faults: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []  # path and headers, lower case
        self.times: list[float] = []
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Quiet(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault(self, path: str, times: int = 1, **fault: Any) -> None:
        """Let the next requests of a path be answered by ``Fault(**fault)``."""
        self.faults.setdefault(path, []).extend([Fault(**fault)] * times)

    def fault_always(self, path: str, **fault: Any) -> None:
        self.always[path] = Fault(**fault)

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.requests)

    def ranges(self, path: str) -> list[str | None]:
        return [headers.get("range") for asked, headers in self.requests if asked == path]


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written apart

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        owner = self.owner
        with owner.lock:
            owner.requests.append((path, {k.lower(): v for k, v in self.headers.items()}))
            owner.times.append(time.monotonic())
            waiting = owner.faults.get(path)
            fault = waiting.pop(0) if waiting else owner.always.get(path, Fault())
            content = owner.files.get(path)
        if fault.status is not None:
            headers = {"Content-Length": str(len(fault.body)), **fault.headers}
            self.answer(fault.status, headers, fault.body, fault)
        elif content is None:
            self.answer(404, {"Content-Length": "0"}, b"", fault)
        else:
            self.serve(path, content, fault)

    def serve(self, path: str, content: bytes, fault: Fault) -> None:
        tag = self.owner.tags.get(path, f'"{hashlib.md5(content).hexdigest()}"')
        date = self.owner.modified.get(path, "")
        headers = {n: v for n, v in {"ETag": tag, "Last-Modified": date}.items() if v}
        condition = self.headers.get("If-Range")
        same = condition in (None, date) or (condition == tag and not tag.startswith("W/"))
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and same and not fault.without_range:
            first = int(asked[1])
            if first >= len(content):
                headers |= {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"}
                self.answer(416, headers | fault.headers, b"", fault)
                return
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            status, body = 206, content[first:]
        else:
            status, body = 200, content
        if not fault.without_length:
            headers["Content-Length"] = str(len(body))
        self.answer(status, headers | fault.headers, body, fault)

    def answer(self, status: int, headers: dict[str, str], body: bytes, fault: Fault) -> None:
        self.send_response_only(status)
        for name, value in {"Date": self.date_time_string(), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body[: fault.cut])
            self.wfile.flush()
            fault.act()
        except OSError:  # the other side is gone
            self.close_connection = True
            return
        if fault.cut is not None or fault.without_length:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BACK_OFF", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def draw(seed: int, size: int = 96) -> bytes:
    """A JPEG of noise, several kilobytes large."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def zip_of(members: dict[str, bytes], **kwargs: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **kwargs) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2019, 1, 1, 0, 0, 0)), content)
    return file.getvalue()


ZIP = "/data.example.org/2019/drawn.zip"
TABLE = "/data.example.org/2019/truth.csv"
SPLIT = "/raw.example.org/split/training.csv"
IMAGES = [f"DRAW_{number:07}" for number in range(12)]
ARCHIVED = {f"pictures/{image}.jpg": draw(n) for n, image in enumerate(IMAGES)}
OTHERS = {"pictures/labels.csv": b"image,label\n", "pictures/LICENSE.txt": b"CC", "top.txt": b"?"}
TRUTH = "".join(f"{line}\n" for line in ["image", *IMAGES]).encode()
PLUGIN = f'''
from lmdbench.data.dataset import Dataset, register_dataset
from lmdbench.data.sources import ApiImages, Archive, Downloads, File

class Drawn(Dataset):
    title = "Drawn images"
    source, licence = "a test", "CC0"
    citation = ("Nobody: Noise. Journal of Static 1, 1 (2001)",)
    def records(self): raise NotImplementedError
    def split(self, imbalance_factor, seed): raise NotImplementedError

@register_dataset("drawn-zip")
class DrawnZip(Drawn):
    downloads = Downloads("drawn", "truth.csv", (
        File("https:/{TABLE}", "truth.csv", rows={len(IMAGES)}),
        Archive("https:/{ZIP}", top="pictures", images={len(IMAGES)}, about=300_000,
                unpacked=300_000, tables=("pictures/labels.csv",)),
        File("https:/{SPLIT}", "released-split/training.csv",
             sha256="{hashlib.sha256(TRUTH).hexdigest()}"),
    ))

@register_dataset("drawn-api")
class DrawnApi(Drawn):
    downloads = Downloads("drawn-api", "training.csv", (
        File("https:/{SPLIT}", "training.csv", sha256="{hashlib.sha256(TRUTH).hexdigest()}"),
        ApiImages(("training.csv",), about=300_000),
    ))
'''


def api_answer(image: str, content: bytes) -> bytes:
    number = int(image[-7:])
    clinical: dict[str, Any] = {"sex": "female", "age_approx": 5 * number}
    if number % 2:
        clinical["lesion_id"] = f"IL_{number}"
    answer = {
        "isic_id": image,
        "attribution": "Drawn, by nobody",
        "copyright_license": "CC-0",
        "files": {
            "full": {
                "url": f"https:/{FILES}/{image}.jpg?Expires=1&Signature=x",
                "size": len(content),
            }
        },
        "metadata": {"acquisition": {"image_type": "dermoscopic"}, "clinical": clinical},
    }
    return json.dumps(answer).encode()


class Official(Server):
    """The server with all files of the two drawn data sets."""

    zip, table, split, images, page, archived = ZIP, TABLE, SPLIT, IMAGES, PAGE, ARCHIVED

    def __init__(self) -> None:
        super().__init__()
        self.files |= {ZIP: self.zip_with({}), TABLE: TRUTH, SPLIT: TRUTH}
        for image, content in zip(IMAGES, ARCHIVED.values(), strict=True):
            self.files[self.api(image)] = api_answer(image, content)
            self.files[self.file(image)] = content

    def api(self, image: str) -> str:
        return f"{API}/{image}/"

    def file(self, image: str) -> str:
        return f"{FILES}/{image}.jpg"

    def zip_with(self, changes: dict[str, bytes | None], **kwargs: Any) -> bytes:
        """The archive with members added or replaced, or left out for None."""
        members = {**OTHERS, **ARCHIVED, **changes}
        return zip_of({n: c for n, c in members.items() if c is not None}, **kwargs)


@pytest.fixture
def official() -> Iterator[Official]:
    made = Official()
    yield made
    made.close()


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "drawn_downloads.py"
    path.write_text(PLUGIN)
    return path


@dataclass(frozen=True)
class Commands:
    """``lmdbench data download`` of the drawn data sets, in this process or another."""

    lmdbench: Callable[..., Any]
    words: tuple[str, ...]

    def run(self, name: str, root: Path, *more: object) -> Any:
        return self.lmdbench("data", "download", name, "--data-root", root, *self.words, *more)

    def start(
        self, name: str, root: Path, *more: str, code: str = "", stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """In a process of its own, where ``code`` runs first."""
        program = f"{code}\nfrom lmdbench.cli.main import main\nmain()"
        words = ("data", "download", name, "--data-root", str(root), *self.words, *more)
        return subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )


@pytest.fixture
def download(lmdbench: Callable[..., Any], plugin: Path, official: Server) -> Commands:
    return Commands(lmdbench, ("--plugin", str(plugin), "--mirror", official.url))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(name="tree")
def _tree() -> Callable[[Path], dict[str, bytes]]:
    return tree
