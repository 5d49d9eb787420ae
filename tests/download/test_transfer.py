"""One file over a server that does everything a server can do wrong."""

import email.utils
import json
import time

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.core.progress import Progress
from lmdbench.download import web
from lmdbench.download.transfer import Transfer
from lmdbench.download.web import GaveUp, Refused, Web

URL = "https://data.example.org/2019/big.zip"
PATH = "/data.example.org/2019/big.zip"
CONTENT = b"PK\x03\x04" + np.random.default_rng(0).bytes(400_000)
NEWER = b"PK\x03\x04" + np.random.default_rng(1).bytes(400_000)


class Listener(Progress):
    def __init__(self):
        self.said = []
        self.begun = []
        self.updates = []

    def say(self, text):
        self.said.append(text)

    def start(self, name, total, unit, done=0):
        self.begun.append((name, total, unit, done))

    def update(self, done):
        self.updates.append(done)


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def transfer(server, listener, tmp_path):
    server.files[PATH] = CONTENT
    return Transfer(Web(server.url, listener.say), tmp_path / "big.zip.part", listener)


def fetched(transfer, url=URL):
    transfer.fetch(url)
    return transfer.part.read_bytes()


def again(transfer):
    """As a new process would go on."""
    return Transfer(transfer.web, transfer.part, transfer.progress)


def test_a_file_comes_whole_and_is_asked_for_properly(transfer, server, listener):
    assert fetched(transfer) == CONTENT
    ((path, headers),) = server.requests
    assert path == PATH
    assert headers["user-agent"].startswith("lmdbench/")
    assert headers["accept-encoding"] == "identity"
    assert listener.begun == [("big.zip", len(CONTENT), "bytes", 0)]
    assert listener.updates[-1] == len(CONTENT)


def test_a_whole_part_is_put_in_its_place(transfer, tmp_path):
    transfer.fetch(URL)
    transfer.put(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_broken_connection_is_resumed(transfer, server, listener):
    server.fault(PATH, cut=150_000)
    server.fault(PATH, cut=100_000)
    assert fetched(transfer) == CONTENT
    first, second, third = server.ranges(PATH)
    assert first is None
    assert 0 < int(second[6:-1]) <= 150_000 < int(third[6:-1]) <= 250_000
    tags = [headers.get("if-range") for _, headers in server.requests]
    assert tags[0] is None
    assert tags[1] == tags[2] != ""
    assert "the connection broke; trying again" in listener.said[0]


def test_many_breaks_are_no_failure_as_long_as_bytes_come(transfer, server):
    server.fault(PATH, times=web.TRIES + 2, cut=70_000)
    server.files[PATH] = content = CONTENT * 2
    assert fetched(transfer) == content


@pytest.mark.parametrize("tag", ['"a"', 'W/"a"', ""])
def test_a_later_call_resumes_with_what_validators_there_are(transfer, server, tag):
    server.tags[PATH] = tag
    server.modified[PATH] = "Wed, 01 Jan 2020 00:00:00 GMT"
    server.fault(PATH, cut=200_000)
    server.fault(PATH, times=web.TRIES - 1, status=500)
    with pytest.raises(GaveUp, match="500 Internal Server Error"):
        transfer.fetch(URL)
    assert 0 < transfer.part.stat().st_size <= 200_000
    server.requests.clear()
    assert fetched(again(transfer)) == CONTENT
    ((_, headers),) = server.requests
    assert headers["range"].startswith("bytes=")
    assert headers["if-range"] == (tag if tag == '"a"' else server.modified[PATH])


def test_a_file_that_changed_meanwhile_is_started_over(transfer, server):
    server.fault(PATH, cut=200_000, act=lambda: server.files.update({PATH: NEWER}))
    assert fetched(transfer) == NEWER


def test_a_change_that_the_server_does_not_notice_is_noticed_here(transfer, server, listener):
    """The server ignores If-Range and sends the rest of another version."""
    server.fault(PATH, cut=200_000)
    server.fault(
        PATH,
        status=206,
        body=NEWER[200_000:],
        headers={"Content-Range": f"bytes 200000-{len(NEWER) - 1}/{len(NEWER)}", "ETag": '"newer"'},
    )
    assert fetched(transfer) == CONTENT
    assert any("the file changed there" in line for line in listener.said)


def test_a_server_that_ignores_ranges_costs_a_fresh_start(transfer, server):
    server.fault(PATH, cut=200_000)
    server.fault(PATH, without_range=True)
    assert fetched(transfer) == CONTENT


@pytest.mark.parametrize("piece", ["bytes 0-10/400004", "bytes 7-400003/400004", "nonsense"])
def test_another_piece_than_asked_for_is_not_used(transfer, server, piece):
    server.fault(PATH, cut=200_000)
    server.fault(PATH, status=206, body=b"x" * 11, headers={"Content-Range": piece})
    assert fetched(transfer) == CONTENT


def test_416_for_a_whole_part_means_done(transfer, server):
    transfer.part.write_bytes(CONTENT)  # put there by hand, or no total was known
    assert fetched(transfer) == CONTENT
    assert server.ranges(PATH) == [f"bytes={len(CONTENT)}-"]


def test_416_for_a_part_that_is_too_long_means_starting_over(transfer, server):
    transfer.part.write_bytes(CONTENT + b"more")
    assert fetched(transfer) == CONTENT
    assert len(server.ranges(PATH)) == 2


def test_a_half_put_there_by_hand_is_gone_on_with(transfer, server):
    transfer.part.write_bytes(CONTENT[:123_456])
    assert fetched(transfer) == CONTENT
    assert server.ranges(PATH) == ["bytes=123456-"]


def test_a_whole_part_needs_no_network(transfer, server):
    transfer.fetch(URL)
    server.requests.clear()
    assert fetched(again(transfer)) == CONTENT
    assert server.requests == []


def test_a_part_of_another_address_or_with_a_damaged_record_is_not_used(transfer, server):
    record = transfer.part.with_name("big.zip.part.json")
    transfer.part.write_bytes(b"x" * 1000)
    record.write_text(json.dumps({"url": "https://other.example.org/b.zip", "total": 9000}))
    assert fetched(transfer) == CONTENT
    transfer.part.write_bytes(b"x" * 1000)
    record.write_text("{")
    assert fetched(again(transfer)) == CONTENT
    assert server.ranges(PATH) == [None, None]


@pytest.mark.parametrize("cut", [None, 100_000])
def test_without_content_length(transfer, server, cut):
    """What ends early is noticed by whatever checks the file; what comes is the beginning."""
    server.fault(PATH, without_length=True, cut=cut)
    content = fetched(transfer)
    assert content == CONTENT[:cut]


def asked_for(seconds, server_clock):
    """Retry-After as a date, by a server's clock that is so many seconds fast."""
    now = time.time() + server_clock
    after = email.utils.formatdate(now + seconds, usegmt=True)
    return {"Retry-After": after, "Date": email.utils.formatdate(now, usegmt=True)}


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, asked_for(1, server_clock=5000)])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept_and_told(transfer, server, listener, status, headers):
    server.fault(PATH, status=status, headers=headers)
    assert fetched(transfer) == CONTENT
    first, second = server.times
    assert 0.95 < second - first < 3
    assert listener.said == [
        f"data.example.org: the server answers {web.status_text(status)}; waiting 1 s"
    ]


def test_a_long_retry_after_is_capped(transfer, server, listener, monkeypatch):
    monkeypatch.setattr(web, "LONGEST_PAUSE", 1.2)
    server.fault(PATH, status=503, headers={"Retry-After": "86400"})
    assert fetched(transfer) == CONTENT
    assert listener.said[0].endswith("; waiting 1 s, though it asks for 86400 s")


def test_it_gives_up_after_so_many_tries_without_a_byte(transfer, server):
    server.fault_always(PATH, status=502)
    with pytest.raises(GaveUp, match="the server answers 502 Bad Gateway"):
        transfer.fetch(URL)
    assert len(server.requests) == web.TRIES


def test_a_server_that_hangs_is_a_time_out(transfer, server, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT", (1.0, 0.1))
    server.fault(PATH, cut=100_000, act=lambda: time.sleep(0.4))
    assert fetched(transfer) == CONTENT
    assert server.ranges(PATH)[1] is not None


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_a_refusal_is_not_repeated(transfer, server, status):
    server.fault_always(PATH, status=status)
    with pytest.raises(Refused, match=str(status)):
        transfer.fetch(URL)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["big.zip", "table.csv"])
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_page_instead_of_the_file_is_one_line_and_nothing_is_kept(
    server, listener, tmp_path, name, kind
):
    body = b"\n<!doctype html><title>Sign in</title>"
    server.fault_always("/h/f", status=200, body=body, headers={"Content-Type": kind})
    transfer = Transfer(Web(server.url, listener.say), tmp_path / f"{name}.part", listener)
    with pytest.raises(UserError, match=f"something else came instead of {name}") as caught:
        transfer.fetch("https://h/f")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1


def test_a_page_in_between_leaves_the_part(transfer, server):
    """As when the login to a network ends: after the next login it goes on."""
    server.fault(PATH, cut=200_000)
    server.fault(PATH, status=200, body=b"<html>", headers={"Content-Type": "text/html"})
    with pytest.raises(UserError, match="login page"):
        transfer.fetch(URL)
    server.requests.clear()
    assert fetched(again(transfer)) == CONTENT
    assert server.ranges(PATH)[0] is not None


def test_compressed_content_is_refused(transfer, server):
    server.fault(PATH, headers={"Content-Encoding": "gzip"})
    with pytest.raises(GaveUp, match="compressed"):
        transfer.fetch(URL)


def test_room_is_asked_for_what_is_still_to_come(server, listener, tmp_path):
    asked = []
    server.files[PATH] = CONTENT
    server.fault(PATH, cut=200_000)
    part = tmp_path / "big.zip.part"
    Transfer(Web(server.url), part, listener, asked.append).fetch(URL)
    assert asked[0] == len(CONTENT)
    assert len(CONTENT) - 200_000 <= asked[1] < len(CONTENT)


def test_no_network_is_told_soon(listener, tmp_path):
    transfer = Transfer(Web("http://127.0.0.1:9"), tmp_path / "a.zip.part", listener)
    with pytest.raises(GaveUp, match="it refuses the connection"):
        transfer.fetch(URL)
    nowhere = Transfer(Web(), tmp_path / "a.zip.part", listener)
    with pytest.raises(GaveUp, match="its name cannot be resolved"):
        nowhere.fetch("https://nowhere.invalid/a.zip")


def test_an_untrusted_certificate_is_told_at_once(server, listener, tmp_path):
    transfer = Transfer(Web(), tmp_path / "a.zip.part", listener)
    with pytest.raises(GaveUp):  # plain HTTP where TLS is expected is one of its errors
        transfer.fetch(server.url.replace("http:", "https:") + "/a.zip")
    assert listener.said == []
