"""The documentation as a site: complete, whole, and read from disk without a network."""

import html
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from mkdocs.config import load_config

import lmdbench

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TOP = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in TOP), *sorted(DOCS.glob("*.md"))]
COMMONMARK = MarkdownIt("commonmark").enable("table")  # what code hosts show
COUNTED = {"a", "em", "h1", "h2", "h3", "img", "li", "ol", "pre", "strong", "tr", "ul"}
FETCHED = {"script": "src", "img": "src", "iframe": "src", "link": "href"}

spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site" / "hooks.py")
hooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)


class Html(HTMLParser):
    """What a page is made of: elements, what it links to, fetches, and can be linked to at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags[tag] += 1
        self.ids.update(filter(None, (found.get("id"), found.get("name"))))
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        address = found.get(FETCHED.get(tag, "")) or "data:"
        if found.get("rel") != "canonical" and not address.startswith("data:"):
            self.fetched.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built strictly: a link, an anchor or a page that is missing fails it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", folder],  # --quiet counts none
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def built(site):
    return {path: Html(path.read_text("utf-8")) for path in site.rglob("*.html")}


def in_navigation(entry):
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from in_navigation(inner)


def test_the_navigation_names_each_page_once():
    named = list(in_navigation(load_config(str(ROOT / "mkdocs.yml")).nav))
    assert [name for name, n in Counter(named).items() if n > 1] == []
    pages = {path.name for path in DOCS.glob("*.md")} | {*hooks.PAGES}
    missing = pages - {*named}
    assert not missing, f"mkdocs.yml: its nav lacks {', '.join(sorted(missing))}"
    made = {hooks.COMMANDS, hooks.PYTHON, f"{hooks.LEADERBOARD}/index.html"}
    assert {*named} - pages == made


def slug(heading: str) -> str:
    """What code hosts make of a heading's text."""
    text = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere_on_a_code_host(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        if ":" in name:
            continue
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        assert path.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(path), f"{page.name} links to {target}"


def test_every_page_is_found_from_the_readme():
    found, pending = set(), [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page not in found:
            found.add(page)
            links = re.findall(r"\]\(([^)\s#:]+\.md)", page.read_text("utf-8"))
            pending += [(page.parent / link).resolve() for link in links]
    assert {*PAGES} - found == set()


def test_all_links_of_the_site_lead_somewhere(site, built):
    for path, page in built.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":  # which is written for a server
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = site / "index.html" if target == site else target
            assert target.is_file(), f"{path.name} links to {link}"
            wanted = unquote(parts.fragment)
            assert not wanted or wanted in built[target].ids, f"{path.name} links to {link}"


def test_it_needs_no_network(site, built):
    for path, page in built.items():
        for address in page.fetched if path.name != "404.html" else ():
            parts = urlsplit(address)
            assert parts.scheme == parts.netloc == "", f"{path.name} fetches {address}"
            assert (path.parent / unquote(parts.path)).is_file(), f"{path.name} fetches {address}"
    style = (site / "site" / "style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "README.md"])
def test_a_page_reads_alike_on_a_code_host_and_on_the_site(site, path):
    there = Html(COMMONMARK.render(path.read_text("utf-8"))).tags
    page = (site / f"{path.stem}.html").read_text("utf-8")
    article = page.split("<article", 1)[1].split("</article>", 1)[0]
    article = re.sub(r'<a (class="headerlink"|id="__codelineno)[^>]*>', "", article)
    here = Html(article).tags
    assert {tag: here[tag] for tag in COUNTED} == {tag: there[tag] for tag in COUNTED}


def test_the_reference_has_all_public_names_and_commands(built, site):
    listed = [name for names in hooks.NAMES.values() for name in names]
    assert sorted(listed) == sorted({*lmdbench.__all__} - {"__version__"})
    ids = built[site / "reference" / "python.html"].ids
    assert {hooks.home(name) for name in listed if name not in ("at_least", "at_most")} <= ids
    ids = built[site / "reference" / "commands.html"].ids
    assert {"lmdbench-run", "lmdbench-sweep-launch", "lmdbench-results-import-predictions"} <= ids


def test_source_files_that_pages_link_to_are_shown(site):
    page = (site / "source" / "methods" / "crt.py.html").read_text("utf-8")
    assert '@register_method("crt")' in html.unescape(re.sub(r"<[^>]+>", "", page))
    assert 'href="source/methods/crt.py.html"' in (site / "methods.html").read_text("utf-8")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_search_finds_pages_without_a_server(site, tmp_path):
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=8000"),
            f"{(site / 'index.html').as_uri()}?q=near-duplicates",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.findall(r'href="([^"]*)" class="md-search-result__link', done.stdout)
    assert any(link.startswith((site / "data.html").as_uri()) for link in found)
