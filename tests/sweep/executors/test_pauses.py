"""When a pool takes a worker for hanging."""

from lmdbench.sweep.executors import pauses
from lmdbench.sweep.executors.pauses import Signs, Watch, where_it_hangs

DUMP = """old
Thread 0x00007f0000000000 (most recent call first):
  File "/usr/lib/python3.13/threading.py", line 359 in wait

Current thread 0x00007f1111111111 (most recent call first):
  File "/home/me/bad.py", line 27 in hang
  File "/home/me/bad.py", line 17 in epoch
"""


def at(monkeypatch, seconds):
    monkeypatch.setattr(pauses.time, "monotonic", lambda: seconds)


def test_a_pause_is_judged_by_those_before(monkeypatch):
    at(monkeypatch, 1000.0)
    signs = Signs(1000.0)
    at(monkeypatch, 4600.0)
    assert signs.pause(600) is None
    at(monkeypatch, 4601.0)
    assert signs.pause(600) == 3601
    signs.seen("epoch")
    at(monkeypatch, 4701.0)
    signs.seen("tick")
    at(monkeypatch, 5700.0)
    assert signs.pause(600) is None  # it had one of 100 s
    at(monkeypatch, 5702.0)
    assert signs.pause(600) == 1001
    signs.forgive(900)
    assert signs.pause(600) is None
    at(monkeypatch, 9000.0)
    signs.suspended()
    assert signs.pause(600) is None
    at(monkeypatch, 10001.0)
    assert signs.pause(600) == 1001  # since it goes on
    signs.seen("begin")  # another run
    assert (signs.longest, signs.begun) == (0, False)


def test_a_pool_that_was_suspended_knows(monkeypatch):
    at(monkeypatch, 0.0)
    watch = Watch(0.0)
    at(monkeypatch, 0.5)
    assert watch.slept() == 0
    at(monkeypatch, 7200.5)
    assert watch.slept() == 7200
    assert watch.slept() == 0


def test_where_it_hangs_is_read_from_the_dump(tmp_path):
    log = tmp_path / "log"
    log.write_text(DUMP)
    assert where_it_hangs(log, 4) == "in hang (bad.py:27)"
    assert where_it_hangs(log, len(DUMP)) == ""
    assert where_it_hangs(tmp_path / "none", 0) == ""
