"""The page in a real browser: scripts, sorting, keyboard, widths, light and dark, no network."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lmdbench.data.store.store import open_images
from lmdbench.reporting.page.render import as_code

FakeRun = Callable[..., Path]
Command = Callable[..., Any]

CLASSES = ["nv", "mel_a", "bcc", "a-class-with-a-very-long-name-<b>&\"'"]
GROUPS = {"head": CLASSES[:1], "medium": CLASSES[1:3], "tail": CLASSES[3:]}


MADE: list[Path] = []  # the page, which all tests only read


@pytest.fixture
def page(
    fake_run: FakeRun,
    lmdbench: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The report of three methods with two seeds each, on two data sets, one of them partial and
    drawn; of the other the images are prepared."""
    if MADE:
        return MADE[0]
    rng = np.random.default_rng(0)
    files = {}
    (tmp_path / "images").mkdir()
    for number in range(50):
        files[f"image{number}"] = tmp_path / "images" / f"{number}.png"
        colours = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(colours).save(files[f"image{number}"])
    cache = tmp_path / "cache"
    store = open_images("skin", files, 24, cache).digest
    monkeypatch.setenv("LMDBENCH_CACHE", str(cache))
    common = {"classes": CLASSES, "groups": GROUPS}
    partial = {"missing": 10, "total": 100, "dropped_classes": []}
    for name, record in (
        ("skin", {"digests": {"store": store}}),
        ("drawn", {"partial": partial, "synthetic": True}),
    ):
        for seed in (0, 1):
            here: dict[str, Any] = {"dataset": name, "image_size": 24, "record": common | record}
            ce = fake_run("ce", seed, skill=0.5, **here)
            fake_run("crt", seed, skill=1.5, ancestor=ce, **here)
            fake_run("lmd", seed, skill=3.0, settings={"lr": 0.123}, **here)
    done = lmdbench("report", "--results", tmp_path / "results", "--output", tmp_path / "r.html")
    assert done.code == 0, done.err
    MADE.append(tmp_path / "r.html")
    return MADE[0]


class Tags(HTMLParser):
    """The tags of a page, in order, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def test_it_stands_alone_and_is_accessible_as_text(page: Path) -> None:
    text = page.read_text()
    tags = Tags(text)
    for attributes in (a for _, a in tags.tags):
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), target
    assert not re.search(r"@import|url\((?!#)", text)
    ids = [a["id"] for _, a in tags.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for attributes in tags.of("a"):
        assert (attributes["href"] or "").removeprefix("#") in ids
    levels = [int(tag[1]) for tag, _ in tags.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert tags.of("html")[0]["lang"] == "en"
    assert [len(tags.of(name)) for name in ("header", "main", "footer")] == [1, 1, 1]
    assert all(a.get("alt") for a in tags.of("img"))
    assert len(tags.of("img")) > 20
    assert all(a.get("scope") for a in tags.of("th"))
    assert len(tags.of("caption")) == len(tags.of("table"))
    assert all(a.get("role") == "img" for a in tags.of("svg"))
    assert len(tags.of("svg")) > 5


def test_names_are_shown_as_they_are(page: Path, browser: Any) -> None:
    browser.open(page)
    heads = browser.js("[...document.querySelectorAll('h4')].map(h => h.textContent)")
    assert any(head.startswith(CLASSES[3]) for head in heads)


def test_no_error_no_request_and_nothing_too_wide(page: Path, browser: Any) -> None:
    for width in (360, 1280):
        browser.open(page, width)
        assert browser.js("document.documentElement.scrollWidth") <= width
        assert browser.said("Log.entryAdded", "Runtime.exceptionThrown") == []
        addresses = [e["request"]["url"] for e in browser.said("Network.requestWillBeSent")]
        assert addresses[0] == page.as_uri()
        assert all(address.startswith("data:image/") for address in addresses[1:])
        broken = "[...document.images].filter(i => !i.naturalWidth).length"
        assert browser.js(broken) == 0


def column(browser: Any, of: str, number: int) -> list[str]:
    found: list[str] = browser.js(
        f"[...document.querySelector({of!r}).tBodies[0].rows]"
        f".map(r => r.cells[{number}].textContent.trim())"
    )
    return found


CLASS_TABLE = "#t1-classes ~ .scroll table"


def test_tables_sort_by_mouse_and_keyboard(page: Path, browser: Any) -> None:
    browser.open(page)
    before = column(browser, CLASS_TABLE, 0)
    head = f"document.querySelectorAll({CLASS_TABLE!r} + ' thead th')[2]"
    browser.js(f"{head}.querySelector('button').click()")
    counts = [int(text.replace(",", "")) for text in column(browser, CLASS_TABLE, 2)]
    assert counts == sorted(counts, reverse=True)
    browser.js(f"{head}.querySelector('button').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.js(f"{head}.getAttribute('aria-sort')") == "ascending"
    counts = [int(text.replace(",", "")) for text in column(browser, CLASS_TABLE, 2)]
    assert counts == sorted(counts)
    name = f"document.querySelectorAll({CLASS_TABLE!r} + ' thead th')[0]"
    browser.js(f"{name}.querySelector('button').focus()")
    browser.press(" ", 32, " ")
    assert column(browser, CLASS_TABLE, 0) == sorted(before)
    assert browser.js(f"{head}.getAttribute('aria-sort')") is None
    assert browser.js(f"{name}.getAttribute('aria-sort')") == "ascending"
    assert browser.js("document.querySelector('[aria-live]').textContent").startswith("Sorted by")


def test_the_table_of_results_sorts_by_its_numbers(page: Path, browser: Any) -> None:
    browser.open(page)
    table = "#t1-results + .results table"
    count = browser.js(f"document.querySelector({table!r}).tBodies[0].rows[0].cells.length")
    buttons = f"document.querySelector({table!r}).querySelectorAll('button.sort')"
    assert browser.js(f"{buttons}.length") == count
    # In the order of the columns, whatever rows the heads stand in.
    browser.js(f"[...{buttons}].find(b => b.textContent.startsWith('Balanced acc')).click()")
    shown = [float(re.match(r"[\d.]+", text)[0]) for text in column(browser, table, 1)]  # type: ignore[index]
    assert len(shown) == 3
    assert shown == sorted(shown, reverse=True)


def test_the_first_tab_skips_to_the_content(page: Path, browser: Any) -> None:
    browser.open(page)
    browser.press("Tab", 9)
    box = "JSON.stringify(document.activeElement.getBoundingClientRect())"
    assert browser.js("document.activeElement.className") == "skip"
    assert '"left":0' in browser.js(box)
    assert browser.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter", 13, "\r")
    assert browser.js("document.activeElement.id") == "main"


# The lowest contrast of any text with what is behind it (WCAG 2.2, 1.4.3), outside pictures.
CONTRAST = """
(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = rgb => rgb.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = [99, ''];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest('svg, script, style')) continue;
    const a = light(parse(getComputedStyle(node).color)), b = light(behind(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, node.tagName + '.' + node.className];
  }
  return worst;
})()
"""


def test_contrast_in_light_and_dark(page: Path, browser: Any) -> None:
    grounds = []
    for dark in (False, True):
        browser.open(page, dark=dark)
        ratio, where = browser.js(CONTRAST)
        assert ratio >= 4.5, f"{where}, {'dark' if dark else 'light'}"
        grounds.append(browser.js("getComputedStyle(document.body).backgroundColor"))
        plots = browser.js(
            "[...document.querySelectorAll('svg')]"
            ".map(s => getComputedStyle(s.closest('.plot')).backgroundColor)"
        )
        assert set(plots) == {"rgb(255, 255, 255)"}  # they are drawn in black
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]


def test_on_paper_tables_are_whole(page: Path, browser: Any) -> None:
    browser.open(page, 720, media="print", dark=True)  # A4
    assert browser.js("document.documentElement.scrollWidth") <= 720
    assert browser.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    scroll = "getComputedStyle(document.querySelector('.scroll')).overflowX"
    assert browser.js(scroll) == "visible"
    browser.call("Emulation.setEmulatedMedia", media="", features=[])


def test_without_scripts_the_tables_stand_as_they_are(page: Path, browser: Any) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        nodes = browser.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
        found = browser.call("DOM.querySelectorAll", nodeId=nodes, selector="button")
        assert found["nodeIds"] == []
        found = browser.call("DOM.querySelectorAll", nodeId=nodes, selector="main table")
        assert len(found["nodeIds"]) > 10
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_names_of_code_are_set_as_code():
    assert as_code("as `lmd-released` <b>") == "as <code>lmd-released</code> &lt;b&gt;"
    assert as_code("one ` alone") == "one ` alone"
