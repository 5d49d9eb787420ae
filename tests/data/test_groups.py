"""Head, medium and tail by rank, by count and by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core.errors import UserError
from lmdbench.data.groups import by_count, by_rank, from_lists, in_words, parse_groups

CLASSES = ["nv", "mel", "bcc", "df"]
COUNTS = [900, 300, 120, 9]


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ([5, 9], {"head": ("b",), "tail": ("a",)}),
        ([5, 9, 1], {"head": ("b",), "medium": ("a",), "tail": ("c",)}),
        ([7, 7, 7, 8], {"head": ("d",), "medium": ("a",), "tail": ("b", "c")}),
        (
            [1, 2, 3, 4, 5, 6, 7, 8],
            {"head": ("h", "g"), "medium": ("f", "e", "d"), "tail": ("c", "b", "a")},
        ),
    ],
)
def test_groups_are_thirds_of_the_rank(counts: list[int], groups: dict) -> None:
    assert by_rank("abcdefgh"[: len(counts)], counts).members == groups


def test_groups_of_given_sizes() -> None:
    groups = parse_groups("rank:1,1,2", CLASSES, [9, 300, 120, 900])
    assert groups.members == {"head": ("df",), "medium": ("mel",), "tail": ("bcc", "nv")}
    assert groups.rule == "by rank of training images, 1/1/2 classes"
    assert parse_groups("rank:0,2,2", CLASSES, COUNTS).members == {
        "medium": ("nv", "mel"),
        "tail": ("bcc", "df"),
    }


def test_groups_by_count_have_their_bounds_inside() -> None:
    groups = parse_groups("count:300,120", CLASSES, COUNTS)
    assert groups.members == {"head": ("nv", "mel"), "medium": ("bcc",), "tail": ("df",)}
    assert by_count(CLASSES, COUNTS, 1000, 1).members == {"medium": tuple(CLASSES)}


def test_groups_by_hand_keep_their_names_and_say_what_they_leave_out() -> None:
    groups = parse_groups(" common = nv, mel ; rare = df ", CLASSES, COUNTS)
    assert groups.members == {"common": ("nv", "mel"), "rare": ("df",)}
    assert groups.rule == "as listed, without bcc"
    assert in_words(groups.members, groups.rule) == (
        "common nv, mel; rare df (as listed, without bcc)"
    )


def test_groups_of_a_thousand_classes_are_told_in_a_line() -> None:
    classes = [f"c{n}" for n in range(1000)]
    groups = by_rank(classes, [1000 - n for n in range(1000)])
    assert in_words(groups.members) == (
        "head 333 classes (c0, c1, c2 and 330 more); medium 333 classes (c333, c334, c335 and 330 "
        "more); tail 334 classes (c666, c667, c668 and 331 more)"
    )
    few = from_lists({"one": ["c7"]}, classes, "--groups")
    assert few.rule == "as listed, without c0, c1, c2, c3, c4, c5 and 993 more"


def test_an_unknown_class_of_a_thousand_is_told_in_a_line() -> None:
    with pytest.raises(UserError, match=r"Did you mean c7.*and 994 more\.$"):
        from_lists({"one": ["C7"]}, [f"c{n}" for n in range(1000)], "--groups")


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=20))
def test_every_class_is_in_one_group(counts: list[int]) -> None:
    classes = [f"c{n}" for n in range(len(counts))]
    for groups in (by_rank(classes, counts), by_count(classes, counts, 500, 100)):
        members = [label for labels in groups.members.values() for label in labels]
        assert sorted(members) == sorted(classes)
        assert all(groups.members.values())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "give rank, rank:2,3,3"),
        ("size", "give rank"),
        ("rank:2,3", "give rank"),
        ("rank:2,1,2", "these are 5 classes, here are 4"),
        ("count:100,500", "must not be below"),
        ("count:100", "give rank"),
        ("count:a,b", "give rank"),
        ("head=nv;tail=dff", "unknown class in --groups 'dff'. Did you mean df"),
        ("head=nv;tail=nv,df", "class 'nv' is in head and in tail"),
        ("head=nv;head=df", "head is given twice"),
        ("head=;tail=df", "no classes in head"),
        ("=nv", "give rank"),
        ("all=nv", "give rank"),
        ("head=nv;df", "give rank"),
    ],
)
def test_groups_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        parse_groups(text, CLASSES, COUNTS)
    assert "\n" not in str(error.value)
