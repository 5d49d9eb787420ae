"""Named streams of random numbers, and what a step that is replayed may draw of them."""

import pytest
import torch

from lmdbench.core.randomness import Streams

CPU = torch.device("cpu")


def drawn(streams: Streams, name: str) -> list[float]:
    return torch.rand(3, generator=streams.get(name)).tolist()


def test_a_stream_follows_from_seed_name_and_epoch():
    one, other = Streams(0, CPU), Streams(0, CPU)
    assert drawn(one, "order") == drawn(other, "order")
    assert drawn(one, "order") != drawn(Streams(0, CPU), "order")  # it went on
    assert drawn(Streams(0, CPU), "order") != drawn(Streams(0, CPU), "mixup")
    assert drawn(Streams(0, CPU), "order") != drawn(Streams(1, CPU), "order")
    first = drawn(Streams(0, CPU), "order")
    one.start_epoch(1)
    assert drawn(one, "order") != first
    one.start_epoch(0)
    assert drawn(one, "order") == first


def test_a_replayed_step_can_not_draw_on_the_host_nor_read_the_epoch():
    streams = Streams(0, CPU)
    streams.blocked = lambda: True
    with pytest.raises(RuntimeError, match=r"draws random numbers itself \(mixup\)"):
        streams.get("mixup")
    with pytest.raises(RuntimeError, match="reads the epoch"):
        _ = streams.epoch
    assert streams.on_device() == []
