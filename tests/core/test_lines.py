"""On which line the parts of a TOML text stand."""

import json
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core.lines import lines_of

TEXT = '''# a comment [with] brackets = 1
name = "a]#"  # x
[ run . b ]
x = """
]][[ "quoted"
""""
y.z = 'a#b'
"q.r" = [ 1,
  # c
  [2, 3],
 {a = 1, "b.c" = [4,
 5]},
]
d = 1979-05-27 07:32:00
[[m]]
set = { k = "real", e = "\\"]" }
[m.below]
k = 1
[[m]]
[[m.n]]
k = true
[last]
l = \'\'\'
\'\'\'
end = -inf'''

LINES = {
    ("name",): 2,
    ("run",): 3,
    ("run", "b"): 3,
    ("run", "b", "x"): 4,
    ("run", "b", "y"): 7,
    ("run", "b", "y", "z"): 7,
    ("run", "b", "q.r"): 8,
    ("run", "b", "q.r", 0): 8,
    ("run", "b", "q.r", 1): 10,
    ("run", "b", "q.r", 1, 0): 10,
    ("run", "b", "q.r", 1, 1): 10,
    ("run", "b", "q.r", 2): 11,
    ("run", "b", "q.r", 2, "a"): 11,
    ("run", "b", "q.r", 2, "b.c"): 11,
    ("run", "b", "q.r", 2, "b.c", 0): 11,
    ("run", "b", "q.r", 2, "b.c", 1): 12,
    ("run", "b", "d"): 14,
    ("m",): 15,
    ("m", 0): 15,
    ("m", 0, "set"): 16,
    ("m", 0, "set", "k"): 16,
    ("m", 0, "set", "e"): 16,
    ("m", 0, "below"): 17,
    ("m", 0, "below", "k"): 18,
    ("m", 1): 19,
    ("m", 1, "n"): 20,
    ("m", 1, "n", 0): 20,
    ("m", 1, "n", 0, "k"): 21,
    ("last",): 22,
    ("last", "l"): 23,
    ("last", "end"): 25,
}


def test_lines_by_hand():
    tomllib.loads(TEXT)
    assert lines_of(TEXT) == LINES


values = st.recursive(
    st.integers() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",\n".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value).replace("\\u007f", "\x7f").replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def paths(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in items:
        yield (*path, key)
        if isinstance(one, dict | list):
            yield from paths(one, (*path, key))


@given(st.dictionaries(st.text(), values, max_size=4))
def test_every_key_and_item_has_a_line_where_its_text_begins(content):
    text, expected = "", {}
    for key, value in content.items():
        text += "# between\n"
        expected[(key,)] = text.count("\n") + 1
        text += f"{toml(key)} = {toml(value)}\n"
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # half a surrogate pair, which TOML has no way to write
    lines = lines_of(text)
    assert set(lines) == set(paths(parsed))
    assert {path: lines[path] for path in expected} == expected
