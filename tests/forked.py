"""Processes that begin as copies of one that has torch and lmdbench imported.

Importing them takes longer than what most tests let a process do. ``python tests/forked.py N``
imports them once, or the modules named behind it in their place, and answers what comes through the
socket N: it copies itself, or tells how a copy ended. Copies are processes like others: with
streams, an environment, a working folder and signals of their own, and they can be killed.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

WORKER = "lmdbench.sweep.executors.worker"
POLL_SECONDS = 0.01
MOST_BYTES = 1 << 20  # of a request
ASKED = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


class Server:
    """The process that is copied, from entering it to leaving it.

    ``imports``: names of the modules that it has imported, if not all that trains; ``env``: its
    environment, if not that of this process.
    """

    def __init__(self, imports: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self._imports, self._env = imports, env

    def __enter__(self) -> Server:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, __file__, str(theirs.fileno()), *self._imports]
        self._process = subprocess.Popen(
            command, env=self._env, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._lock = threading.Lock()
        self._pids: dict[int, str] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait()

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() >= 0

    def popen(self, command: Sequence[Any], **options: Any) -> Forked:
        """As ``subprocess.Popen`` of ``[sys.executable, "-m", module, word, …]``."""
        return Forked(self, command, **options)

    def workers(self) -> list[int]:
        """Process ids of copies that are workers, until somebody has asked for their end."""
        return [pid for pid, module in list(self._pids.items()) if module == WORKER]

    def start(self, request: Mapping[str, Any], streams: Sequence[int]) -> int:
        pid = self._ask(request, streams)
        self._pids[pid] = request["module"]
        return pid

    def ended(self, pid: int) -> tuple[int, int]:
        """As ``os.waitpid`` says it, with ``WNOHANG``."""
        found, status = self._ask({"wait": pid})
        if found:
            del self._pids[pid]
        return found, status

    def _ask(self, request: Mapping[str, Any], streams: Sequence[int] = ()) -> Any:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
            return json.loads(self._socket.recv(MOST_BYTES))


class Forked(subprocess.Popen):  # type: ignore[type-arg]
    """A copy of the server's process that runs a module."""

    def __init__(self, server: Server, command: Sequence[Any], **options: Any) -> None:
        self._server = server
        super().__init__([str(word) for word in command], **options)

    def _execute_child(self, *given: Any) -> None:
        asked = ASKED.bind(self, *given).arguments
        interpreter, flag, module, *words = asked["args"]
        assert (interpreter, flag) == (sys.executable, "-m")
        request = {
            "module": module,
            "words": words,
            "folder": os.fspath(asked["cwd"] or os.getcwd()),
            "environment": dict(os.environ if asked["env"] is None else asked["env"]),
            "session": asked["start_new_session"],
        }
        streams = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        own = [number if end == -1 else end for number, end in enumerate(streams)]
        self.pid = self._server.start(request, own)
        self._child_created = True
        self._close_pipe_fds(*(asked[name] for name in PIPES))

    def _internal_poll(self, *_: object, **__: object) -> int | None:
        if self.returncode is None and self._server.is_open:
            found, status = self._server.ended(self.pid)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self._internal_poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(POLL_SECONDS)
        return self.returncode


def serve(requests: socket.socket) -> str:
    """Answer requests until nobody asks any more. Returns in copies: the module to run."""
    while True:
        content, streams, *_ = socket.recv_fds(requests, MOST_BYTES, 3)
        if not content:
            sys.exit()
        request = json.loads(content)
        if "wait" in request:
            answer: Any = os.waitpid(request["wait"], os.WNOHANG)
        else:
            answer = os.fork()
            if answer == 0:
                requests.close()
                become(request, streams)
                return request["module"]
        for stream in streams:
            os.close(stream)
        requests.sendall(json.dumps(answer).encode())


def become(request: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Make this process what a new one would be."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv[1:] = request["words"]
    sys.path[0] = os.getcwd()


def prepare() -> None:
    """Import what commands and workers import, but not what they run."""
    from lmdbench.data.dataset import DATASETS
    from lmdbench.training.method import built_in_methods

    importlib.import_module("lmdbench.cli.main")
    importlib.import_module(WORKER)
    del sys.modules[WORKER]
    importlib.import_module("torch._dynamo")  # which every optimiser imports
    built_in_methods()
    DATASETS.get("folder")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    number, *imports = sys.argv[1:]
    for name in imports:
        importlib.import_module(name)
    if not imports:
        prepare()
    gc.collect()
    gc.freeze()  # or collections of garbage in copies would copy all that memory
    module = serve(socket.socket(fileno=int(number)))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
