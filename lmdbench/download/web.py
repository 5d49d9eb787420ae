"""HTTP with patience: one try of a request, and trying again as servers wish it."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlsplit

import requests

from lmdbench.core.words import no_secrets
from lmdbench.download.trust import (
    bad_proxy,
    distrust,
    proxy_of,
    proxy_refusal,
    proxy_status,
    trust,
)
from lmdbench.version import __version__

TRIES = 6  # in a row that bring nothing new
FIRST_TRIES = 2  # as long as no server was ever reached: most likely there is no network
BACK_OFF = 1.0  # seconds before the second try, doubled for each one after it
LONGEST_BACK_OFF = 60.0
LONGEST_PAUSE = 600.0  # what a server may ask for
TIMEOUT = (20.0, 60.0)  # seconds to connect, and without a byte
WORTH_SAYING = 1.0  # seconds of pause


PAGES = ("text/html", "application/xhtml+xml")

T = TypeVar("T")
Say = Callable[[str], None]


class Again(Exception):
    """One try failed, another may not. ``pause``: seconds that the server asks to wait."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class Refused(Exception):
    """An answer that trying again does not change, such as 404. ``json``: what its body is."""

    def __init__(self, status: int, json: bool) -> None:
        super().__init__(f"the server answers {status_text(status)}")
        self.status = status
        self.json = json


class GaveUp(Exception):
    """All tries failed; the text is the last reason."""


class Stopped(Exception):
    """Another thread called ``stop``."""


class Web:
    """GET requests of one download, from any number of threads.

    ``mirror`` replaces ``https://`` of every address (see ``address``). A server that asks for a
    pause gets it from all threads. ``reached``: whether any server ever answered.
    """

    def __init__(self, mirror: str | None = None, say: Say = lambda _: None) -> None:
        self.mirror = mirror
        self.reached = False
        self._say = say
        self._sessions = threading.local()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._resume_at = 0.0

    def address(self, url: str) -> str:
        """Where a file is really fetched from: ``https://host/path`` → ``MIRROR/host/path``."""
        return url if self.mirror is None else f"{self.mirror}/{url.split('://', 1)[1]}"

    def shown(self, url: str) -> str:
        """The same for who reads it, without a password."""
        return no_secrets(self.address(url))

    def stop(self) -> None:
        """Make every thread give up soon, with Stopped."""
        self._stopped.set()

    @contextmanager
    def get(
        self, url: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """One try: an answer 200, 206 or 416 whose body is still to be read.

        Raises Again for what may pass, here and while the body is read, Refused for an answer that
        will not change, and GaveUp for what is wrong with certificates or the proxy.
        """
        self._wait_for_turn()
        proxy = proxy_of(self.address(url))  # requests takes none with a password and no scheme
        if problem := bad_proxy(self.address(url)):
            raise GaveUp(problem)
        try:
            with self._session().get(
                self.address(url),
                headers=headers,
                stream=True,
                timeout=TIMEOUT,
                proxies={urlsplit(self.address(url)).scheme: proxy} if proxy else None,
            ) as answer:
                self.reached = True
                status = answer.status_code
                if status == 407:
                    raise GaveUp(proxy_refusal(status, url))
                if status >= 500 or status in (408, 425, 429):
                    raise Again(f"the server answers {status_text(status)}", asked_pause(answer))
                if status not in (200, 206, 416):
                    raise Refused(status, "json" in answer.headers.get("Content-Type", ""))
                yield answer
        except requests.exceptions.SSLError as error:
            raise _tls_trouble(error) from error
        except requests.exceptions.ProxyError as error:
            answered = proxy_status(_within(error))
            if answered is not None and answered < 500:
                raise GaveUp(proxy_refusal(answered, self.address(url))) from error
            why = f"the proxy answers {status_text(answered)}" if answered else reason(error)
            raise Again(why) from error
        except (requests.RequestException, UnicodeError) as error:
            if isinstance(error, requests.exceptions.InvalidSchema):  # SOCKS without its package
                raise GaveUp(f"{reason(error)} `pip install 'requests[socks]'`") from error
            raise Again(reason(error)) from error

    def persist(
        self,
        host: str,
        attempt: Callable[[], T],
        progress: Callable[[], int] = lambda: 0,
        *,
        say_why: bool = False,
    ) -> T:
        """Call ``attempt`` until it does not raise Again.

        Raises GaveUp with the last reason after TRIES calls in a row without progress, by the
        number that ``progress`` returns.
        """
        failures, best = 0, progress()
        while True:
            try:
                return attempt()
            except Again as trouble:
                if progress() > best:
                    failures, best = 0, progress()
                failures += 1
                if failures >= (TRIES if self.reached else FIRST_TRIES):
                    raise GaveUp(str(trouble)) from trouble
                back_off = min(BACK_OFF * 2 ** (failures - 1), LONGEST_BACK_OFF)
                back_off *= random.uniform(0.5, 1.5)
                if trouble.pause is not None:
                    self._pause_all(host, str(trouble), max(trouble.pause, back_off / 2))
                    continue
                if say_why:
                    self._say(f"{host}: {trouble}; trying again in {back_off:.0f} s")
                self._sleep(back_off)

    def _session(self) -> requests.Session:
        if not hasattr(self._sessions, "session"):
            session = requests.Session()
            session.headers["User-Agent"] = f"lmdbench/{__version__}"
            session.headers["Accept-Encoding"] = "identity"
            trust(session)
            self._sessions.session = session
        made: requests.Session = self._sessions.session
        return made

    def _pause_all(self, host: str, why: str, asked: float) -> None:
        seconds = min(asked, LONGEST_PAUSE)
        with self._lock:
            longer = time.monotonic() + seconds - self._resume_at
            self._resume_at = max(self._resume_at, time.monotonic() + seconds)
        if longer >= WORTH_SAYING:
            capped = f", though it asks for {asked:.0f} s" if asked > seconds else ""
            self._say(f"{host}: {why}; waiting {seconds:.0f} s{capped}")

    def _wait_for_turn(self) -> None:
        while (left := self._resume_at - time.monotonic()) > 0:
            self._sleep(left)
        self._sleep(0)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Stopped


def host_of(url: str) -> str:
    return urlsplit(url).netloc


def content_type(answer: requests.Response) -> str:
    """Such as ``text/html``, without parameters; empty where it is not told."""
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def status_text(status: int) -> str:
    with suppress(ValueError):
        return f"{status} {HTTPStatus(status).phrase}"
    return str(status)


def asked_pause(answer: requests.Response) -> float | None:
    """Seconds of a Retry-After, given as seconds or as a date by the server's own clock.

    A 429 without one asks too: for no time in particular.
    """
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    with suppress(ValueError, TypeError):
        until = parsedate_to_datetime(text).timestamp()
        now = time.time()
        with suppress(ValueError, TypeError):
            now = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
        return max(0.0, until - now)
    return 0.0 if answer.status_code == 429 else None


def reason(error: BaseException) -> str:
    """Why a request failed, in a few words: from the innermost error of those it wraps."""
    names = {
        "NameResolutionError": "its name cannot be resolved",
        "gaierror": "its name cannot be resolved",
        "ConnectionRefusedError": "it refuses the connection",
        "ConnectTimeout": "no answer in time",
        "ConnectTimeoutError": "no answer in time",
        "ReadTimeout": "no answer in time",
        "ReadTimeoutError": "no answer in time",
        "IncompleteRead": "the connection broke",
        "ConnectionResetError": "the connection broke",
        "RemoteDisconnected": "the connection broke",
        "ProxyError": "the proxy does not answer",
        "JSONDecodeError": "its answer is no JSON",
    }
    text = ""
    for one in _within(error):
        if type(one).__name__ in names:
            return names[type(one).__name__]
        text = text or getattr(one, "verify_message", None) or getattr(one, "strerror", None) or ""
    return no_secrets(" ".join((text or str(error) or type(error).__name__).split())[:200])


def _tls_trouble(error: requests.exceptions.SSLError) -> Again | GaveUp:
    kinds = {type(one) for one in _within(error)}
    if ssl.SSLCertVerificationError in kinds:
        return GaveUp(distrust(reason(error)))
    if kinds & {ssl.SSLEOFError, ssl.SSLZeroReturnError, TimeoutError}:
        return Again("the connection broke")
    return GaveUp(
        f"no TLS can be spoken with it ({reason(error)}); is a proxy in between that speaks "
        "plain HTTP (https_proxy=http://…)?"
    )


def _within(error: BaseException) -> list[BaseException]:
    """An error and those that it wraps, from the outermost on."""
    seen: list[BaseException] = [error]
    for one in seen:
        inner = [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
        seen.extend(e for e in inner if isinstance(e, BaseException) and e not in seen)
    return seen
