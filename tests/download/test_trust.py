"""Certificates of one's own and proxies that refuse, over real connections."""

import base64
import hashlib
import http.client
import select
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.download import web as web_module
from lmdbench.download.trust import BUNDLES
from lmdbench.download.web import GaveUp, Web
from lmdbench.models.weights import download

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """No variable of this machine's, and no patience."""
    for name in (*BUNDLES, *PROXIES, *(name.upper() for name in PROXIES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(web_module, "BACK_OFF", 0.0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem and, signed by it for localhost, server.pem with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes certificates")
    folder = tmp_path_factory.mktemp("authority")
    new = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for command in (
        f"{new} -x509 -days 2 -subj /CN=clinic -keyout ca.key -out ca.pem",
        f"{new} -subj /CN=localhost -keyout server.key -out server.csr",
        "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
        " -extfile names -out server.pem",
    ):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        pass


def serve(handler: type, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    server = _Quiet(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = b"content"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def secure(authority):
    """The address of a server whose certificate that authority signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    server = serve(_Files, context)
    yield f"https://localhost:{server.server_port}/a"
    server.shutdown()
    server.server_close()


class _Proxy(BaseHTTPRequestHandler):
    status, password = 200, ""
    asked: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def refused(self) -> bool:
        self.asked.append(self.path)
        given = self.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
        status = self.status
        if self.password and base64.b64decode(given).decode() != self.password:
            status = 407
        if status != 200:
            self.send_error(status)
        return status != 200

    def do_GET(self) -> None:
        if not self.refused():
            host, _, path = self.path.removeprefix("http://").partition("/")
            upstream = http.client.HTTPConnection(host)
            upstream.request("GET", f"/{path}")
            body = upstream.getresponse().read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_CONNECT(self) -> None:
        if self.refused():
            return
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as upstream:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                for one in select.select(list(ends), [], [], 10)[0] or [self.connection]:
                    data = one.recv(1 << 16)
                    if not data:
                        return
                    ends[one].sendall(data)


@pytest.fixture
def proxy():
    """Makes a proxy that answers with a status, or asks for a password. Returns HOST:PORT and what
    it is asked."""
    servers = []

    def make(status: int = 200, password: str = "") -> tuple[str, list[str]]:
        asked: list[str] = []
        own = {"status": status, "password": password, "asked": asked}
        servers.append(serve(type("Proxy", (_Proxy,), own)))
        return f"127.0.0.1:{servers[-1].server_port}", asked

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def plain():
    server = serve(_Files)
    yield f"http://127.0.0.1:{server.server_port}/a"
    server.shutdown()
    server.server_close()


def fetch(url: str) -> bytes:
    web = Web()

    def once() -> bytes:
        with web.get(url) as answer:
            return answer.content

    return web.persist("host", once)


def refusal(url: str) -> str:
    with pytest.raises(GaveUp) as caught:
        fetch(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Certificates


@pytest.mark.parametrize("name", BUNDLES)
def test_an_authority_of_one_s_own(secure, authority, monkeypatch, tmp_path, name):
    said = refusal(secure)
    assert "its certificate is not trusted (unable to get local issuer certificate)" in said
    assert "set REQUESTS_CA_BUNDLE or SSL_CERT_FILE to the file" in said
    path = authority / "ca.pem"
    if name == "SSL_CERT_DIR":
        shutil.copy(path, tmp_path)
        subprocess.run(["openssl", "rehash", tmp_path], check=True)
        path = tmp_path
    monkeypatch.setenv(name, str(path))
    assert fetch(secure) == b"content"


def test_a_bundle_that_lacks_the_authority_is_named(secure, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "server.pem"))
    assert "SSL_CERT_FILE must name the file with its authority" in refusal(secure)


def test_a_bundle_that_is_none_is_told(secure, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    with pytest.raises(UserError, match=r"REQUESTS_CA_BUNDLE=.*absent\.pem: no such file; give"):
        fetch(secure)
    (tmp_path / "der.cer").write_bytes(b"\x30\x82")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "der.cer"))
    with pytest.raises(UserError, match=r"der\.cer: holds no certificates \(PEM\)"):
        fetch(secure)


def test_plain_http_where_tls_is_expected_is_told(plain):
    assert "no TLS can be spoken with it" in refusal(plain.replace("http:", "https:"))


def test_pretrained_weights_come_over_the_same_connection(secure, authority, monkeypatch, tmp_path):
    path = tmp_path / "hub" / "net-12345678.pth"
    begins = hashlib.sha256(b"content").hexdigest()[:8]
    with pytest.raises(UserError, match=r"could not download net.*its certificate is not trusted"):
        download(secure, path, begins)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    with pytest.raises(UserError, match=r"could not download net.*what came is another file"):
        download(secure, path, "00000000")
    assert list(path.parent.iterdir()) == []
    download(secure, path, begins)
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_a_login_page_is_not_taken_for_weights(server, tmp_path):
    page = b"<!DOCTYPE html><html>Please log in</html>"
    server.fault_always("/net.pth", status=200, body=page, headers={"Content-Type": "text/html"})
    with pytest.raises(UserError, match=r"could not download net\.pth.*Is there a login page"):
        download(f"{server.url}/net.pth", tmp_path / "net.pth", "00000000")
    assert list(tmp_path.iterdir()) == []


# Proxies


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_that_asks_for_a_password(secure, plain, authority, monkeypatch, proxy, scheme):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "ca.pem"))
    host, asked = proxy(password="me:s3cr@t")
    for url, variable in ((secure, "https_proxy"), (plain, "http_proxy")):
        monkeypatch.setenv(variable, f"{scheme}{host}")
        said = refusal(url)
        assert f"the proxy http://{host} asks for a password (407)" in said
        assert f"set {variable}=http://NAME:PASSWORD@HOST:PORT" in said
        monkeypatch.setenv(variable, f"{scheme}me:wr0ng@{host}")
        said = refusal(url)
        assert "does not take the name and password (407)" in said
        assert "wr0ng" not in said
        monkeypatch.setenv(variable, f"{scheme}me:s3cr%40t@{host}")
        assert fetch(url) == b"content"
    assert asked


def test_a_proxy_that_refuses_an_address_is_named(secure, plain, monkeypatch, proxy):
    host, asked = proxy(status=403)
    monkeypatch.setenv("https_proxy", f"http://me:s3cret@{host}")
    said = refusal(secure)
    assert f"the proxy http://…@{host} refuses this address (403)" in said
    assert "no_proxy" in said
    assert len(asked) == 1


def test_a_proxy_in_trouble_is_tried_again(secure, monkeypatch, proxy):
    host, asked = proxy(status=503)
    monkeypatch.setenv("https_proxy", f"http://{host}")
    assert refusal(secure) == "the proxy answers 503 Service Unavailable"
    assert len(asked) == web_module.FIRST_TRIES


def test_no_proxy_goes_past_it(secure, plain, authority, monkeypatch, proxy):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    host, asked = proxy(status=403)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://{host}")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.0/8")
    assert fetch(secure) == fetch(plain) == b"content"
    assert asked == []


@pytest.mark.parametrize(
    "address",
    [
        "http://me:s3cret@",
        "ftp://me:s3cret@host:1",
        "http://me:s3cret@ho st:port",
        "socks5://a:s3cret@h:1",
    ],
)
def test_a_proxy_s_address_that_is_none_is_told_without_its_password(plain, monkeypatch, address):
    monkeypatch.setenv("http_proxy", address)
    said = refusal(plain)
    assert "s3cret" not in said
    expected = "requests[socks]" if address.startswith("socks") else "of http_proxy is no address"
    assert expected in said
