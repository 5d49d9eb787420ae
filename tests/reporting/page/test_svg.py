"""SVG documents inside a page: ids of their own, a text for who can't see them."""

import re
import xml.etree.ElementTree as ET

from matplotlib.figure import Figure

from lmdbench.reporting.page.svg import inline
from lmdbench.reporting.plots.figures import svg_text


def drawn() -> str:
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.plot([0, 1], [1, 3], marker="o", label="a & b")
    axes.legend()
    return svg_text(figure)


def test_two_of_the_same_do_not_clash_and_every_reference_leads_somewhere() -> None:
    page = f"<body>{inline(drawn(), 'one', 'T', 'D')}{inline(drawn(), 'two', 'T', 'D')}</body>"
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids)) > 20
    targets = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', page)
    assert len(targets) > 10
    assert {a or b for a, b in targets} <= set(ids)
    ET.fromstring(page)  # well-formed


def test_equal_pictures_in_one_document_do_not_clash() -> None:
    figure = Figure(figsize=(4, 2))
    for left in (0, 0.5):
        axes = figure.add_axes((left, 0, 0.5, 1))
        axes.set_axis_off()
        axes.imshow([[0, 1], [1, 0]])
    ids = re.findall(r'\bid="(image[^"]*)"', svg_text(figure))
    assert len(ids) > len(set(ids))
    svg = inline(svg_text(figure), "p", "T", "D")
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    assert svg.count("<image ") == 2
    ET.fromstring(svg)


def test_title_and_description_are_what_it_is_called_by() -> None:
    svg = ET.fromstring(inline(drawn(), "p", "Recall <of> a & b", "Bars."))
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "p-title p-desc"
    texts = {node.get("id"): node.text for node in svg if node.get("id")}
    assert texts["p-title"] == "Recall <of> a & b"
    assert texts["p-desc"] == "Bars."


def test_nothing_of_the_document_around_it_stays() -> None:
    text = inline(drawn(), "p", "T", "D")
    assert text.startswith("<svg ")
    assert "<?xml" not in text
    assert "<!DOCTYPE" not in text
    assert "<metadata>" not in text
    assert 'width="' not in text.split(">", 1)[0]  # as wide as there is room
