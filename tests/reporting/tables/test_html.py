"""Tables in HTML: what a screen reader and a validator would say of them."""

import html
import re
from html.parser import HTMLParser

import pytest

from lmdbench.comparison.compare import Comparison
from lmdbench.reporting import tables

VOID = {"meta"}


class Page(HTMLParser):
    """Elements in order, and that all are closed in the order they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("name", ["two", "awkward"])
def test_it_is_well_formed_and_needs_nothing_else(
    name: str, request: pytest.FixtureRequest
) -> None:
    text = tables.html(request.getfixturevalue(name))
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {tag for tag, _ in page.elements} & {"link", "script", "img", "iframe"}
    assert "http" not in text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert page.all("html") == [{"lang": "en"}]


def test_tables_say_what_heads_what(two: Comparison) -> None:
    text = tables.html(two)
    page = Page(text)
    assert len(page.all("caption")) == len(page.all("table")) == len(page.all("tbody"))
    assert {head["scope"] for head in page.all("th")} == {"row", "col", "colgroup"}
    first = text[text.index("<table>") : text.index("</table>")]
    assert '<th scope="colgroup" colspan="3">Recall by group</th>' in first
    body = re.findall("<tr>(.*?)</tr>", first[first.index("<tbody>") :])
    assert len(body) == 3
    for row in body:
        assert row.startswith('<th scope="row" class="words">')
        assert row.count("<td") == 8


def test_every_row_is_as_wide_as_the_head(two: Comparison, awkward: Comparison) -> None:
    for comparison in (two, awkward):
        for table in re.findall("<table>(.*?)</table>", tables.html(comparison), re.DOTALL):
            head, body = table.split("<tbody>")
            upper = re.search("<tr>(.*?)</tr>", head)
            assert upper is not None
            spans = re.findall('colspan="(\\d+)"', upper[1])
            width = upper[1].count("<th") + sum(int(span) - 1 for span in spans)
            for row in re.findall("<tr>(.*?)</tr>", body):
                assert len(re.findall("<t[hd]", row)) == width


def test_a_fragment_has_headings_of_its_level(two: Comparison) -> None:
    text = tables.html_tables(two, level=4)
    assert text.startswith("<section>\n<h4>skin")
    assert "<html" not in text
    assert "<strong>" in text
    assert '<span class="second">' in text
    assert '<span class="mark worse">▼</span>' in text
    assert '<span class="behind">[' in text
    assert "<p>1 unfinished run left out.</p>" in text


def test_awkward_names_are_text(awkward: Comparison) -> None:
    text = tables.html_tables(awkward)
    assert "x|y<z>" not in text
    assert "[odd] 100%_| (a_b=x#y)" in html.unescape(text)
    assert "mel &amp; co" in text
