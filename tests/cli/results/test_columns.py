"""Tables that are never wider than the terminal."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from lmdbench.cli.results.columns import Column, fitted, shortened

WORDS = st.text(st.sampled_from("ab ←é界0"), max_size=30)


@given(
    st.lists(
        st.tuples(
            WORDS, WORDS, WORDS, st.none() | st.integers(1, 20), st.integers(0, 3), st.booleans()
        ),
        max_size=8,
    ),
    st.integers(1, 200),
)
def test_no_line_is_wider_than_the_terminal_and_no_row_is_lost(columns, width):
    lines = fitted(
        [
            Column("run", ["seed0", "seed1"]),
            *(Column(t, [a, b], right, least, leave) for t, a, b, least, leave, right in columns),
        ],
        width,
    )
    assert len(lines) == 3
    assert all(cell_len(line) <= width for line in lines)


def test_columns_are_cut_to_their_least_width_before_any_is_left_out():
    columns = [
        Column("name", ["a long name here", "b"], least=8),
        Column("n", ["1", "22"], right=True),
        Column("more", ["x", "y"], leave=1),
    ]
    assert fitted(columns, 80) == [
        "name               n  more",
        "a long name here   1  x",
        "b                 22  y",
    ]
    assert fitted(columns, 18) == [
        "name       n  more",
        "a long …   1  x",
        "b         22  y",
    ]
    assert fitted(columns, 17) == [
        "name            n",
        "a long name …   1",
        "b              22",
    ]


def test_the_highest_number_is_left_out_first_and_empty_columns_always():
    columns = [
        Column("a", ["aaaa"]),
        Column("b", ["bbbb"], leave=1),
        Column("c", ["cccc"], leave=2),
        Column("empty", [""]),
    ]
    assert fitted(columns, 100)[1] == "aaaa  bbbb  cccc"
    assert fitted(columns, 15)[1] == "aaaa  bbbb"
    assert fitted(columns, 9)[1] == "aaaa"


def test_what_is_cut_off_is_told():
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdef", 4) == "abc…"
    assert cell_len(shortened("界界界", 4)) <= 4
