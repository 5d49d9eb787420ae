"""Certificates and proxies, as hospitals have them: by the usual variables."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from lmdbench.core.errors import UserError
from lmdbench.core.words import no_secrets

# In the order in which they count; requests knows the first two, OpenSSL the others
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")  # of proxies
TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")


class TrustingAdapter(HTTPAdapter):
    """Trusts who the system trusts, and whom BUNDLES name, beside the authorities that requests
    brings along; for proxies too."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        contexts = {"ssl_context": self._context, "proxy_ssl_context": self._context}
        return super().proxy_manager_for(proxy, **kwargs, **contexts)


def trust(session: requests.Session) -> None:
    """Let a session trust certificates as BUNDLES say. Raises UserError for one that names no
    certificates."""
    bundles = tuple((name, Path(os.environ[name])) for name in set_bundles())
    session.mount("https://", TrustingAdapter(_context(bundles)))


@lru_cache(
    maxsize=1
)  # for sessions of all threads: reading the system's certificates takes a while
def _context(bundles: tuple[tuple[str, Path], ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()  # with the system's, or those of OpenSSL's variables
    # What authorities in hospitals lack, and Python asks for from 3.13 on
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    for name, path in bundles:
        try:
            if path.is_dir():
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            why = "holds no certificates (PEM)" if path.exists() else "no such file"
            raise UserError(
                f"{name}={path}: {why}; give the file of the certificates to trust, or unset it"
            ) from error
    return context


def set_bundles() -> list[str]:
    """The variables that name certificates here."""
    return [name for name in BUNDLES if os.environ.get(name)]


def distrust(why: str) -> str:
    """What to say where a certificate is not trusted."""
    there = set_bundles()
    advice = "set REQUESTS_CA_BUNDLE or SSL_CERT_FILE to the file with its authority (PEM)"
    if there:
        advice = f"{' and '.join(there)} must name the file with its authority (PEM)"
    return (
        f"its certificate is not trusted ({why}); behind a proxy that replaces certificates "
        f"{advice}"
    )


def proxy_status(errors: Iterable[BaseException]) -> int | None:
    """With which status a proxy refused to reach a server over TLS, if that is what happened."""
    found = [TUNNEL.search(str(error)) for error in errors]
    return next((int(match[1]) for match in found if match), None)


def proxy_refusal(status: int, url: str) -> str:
    """What to say of a proxy that answers itself, in place of the server at ``url``."""
    proxy = proxy_of(url)
    scheme = url.partition(":")[0]
    if status == 407:
        said = "does not take the name and password" if "@" in proxy else "asks for a password"
        return (
            f"the proxy {no_secrets(proxy)} {said} (407): set {scheme}_proxy="
            "http://NAME:PASSWORD@HOST:PORT, with signs such as @ written as %40"
        )
    return (
        f"the proxy {no_secrets(proxy)} refuses this address ({status}): have it allowed, or name "
        "the host in no_proxy if it can be reached directly"
    )


def bad_proxy(url: str) -> str:
    """What is wrong with the address of the proxy for ``url``; empty where nothing is."""
    proxy = proxy_of(url)
    with suppress(ValueError):
        parts = urlsplit(proxy)
        named = parts.scheme in SCHEMES and re.fullmatch(r"[^\s@]+", parts.hostname or "")
        if not proxy or (named and (parts.port or 80) > 0):
            return ""
    return (
        f"the proxy {no_secrets(proxy)!r} of {url.partition(':')[0]}_proxy is no address: "
        "give http://HOST:PORT"
    )


def proxy_of(url: str) -> str:
    """The address of the proxy that the variables name for such an address; empty for none."""
    named = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) or ""
    return named if "://" in named or not named else f"http://{named}"
