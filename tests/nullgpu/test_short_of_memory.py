"""A GPU's memory that runs out: what a run does without, and what it tells."""

import pytest

STREAMED, PLAIN = "images streamed", "plain execution"
KEPT = "goes on from its checkpoint"


@pytest.fixture(scope="module")
def found(null_gpu, tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    names = ("in-steps", "in-evaluation", "in-late-evaluation", "in-finish")
    return null_gpu("short_of_memory.py", str(results), *names)


@pytest.mark.parametrize(
    ("name", "fallbacks", "executed", "goes_on"),
    [
        ("in-steps", [STREAMED, PLAIN], "plain", "begins again"),
        ("in-evaluation", [STREAMED], "graphs", KEPT),
        ("in-late-evaluation", [STREAMED, PLAIN], "graphs, plain", KEPT),
    ],
)
def test_a_run_goes_on_with_less(found, name, fallbacks, executed, goes_on):
    row = found[name]
    assert (row["code"], row["failure"]) == (0, "")
    record = row["record"]
    assert record["fallbacks"] == fallbacks
    assert record["executed"]["training"] == executed
    assert record["attempts"] == 1
    assert record["epochs"] == 2
    told = [line for line in row["told"] if "goes on with other" not in line]
    for way, line in zip(fallbacks, told, strict=True):
        assert "out of GPU memory: 1024.00 GiB was needed beside 0." in line
        assert f"of 24.00 GiB were free; {goes_on} with {way}" in line


def test_a_run_fails_where_there_is_no_other_way(found):
    row = found["in-finish"]
    assert row["code"] == 1
    assert row["record"]["fallbacks"] == [STREAMED, PLAIN]
    assert row["failure"].startswith("out of GPU memory: 1024.00 GiB was needed beside 0.")
    advice = "GiB were free: try a smaller --set batch_size, --image-size or --backbone"
    assert row["failure"].endswith(advice)
