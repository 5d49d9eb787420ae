"""Files of figures: formats, same bytes, fonts, and what can't be written."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.reporting.plots.figures import (
    FALLBACKS,
    FONT,
    boxes,
    drawing,
    fonts,
    lacking,
    save_figure,
    shortened,
    svg_text,
)


@drawing()
def figure() -> Figure:
    made = Figure(figsize=(2, 1.5))
    axes = made.subplots()
    axes.plot([1, 2], label="cost in $ or $x^2$")
    axes.bar([1], [2], hatch="//")
    axes.legend()
    return made


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_same_figure_gives_the_same_bytes(tmp_path, kind):
    first, second = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    save_figure(figure(), first)
    save_figure(figure(), second)
    assert first.read_bytes() == second.read_bytes()
    assert len(first.read_bytes()) > 1000


def test_a_pdf_has_truetype_fonts_and_a_png_its_dots(tmp_path):
    save_figure(figure(), tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert b"/Type0" in content
    assert b"/Type3" not in content
    save_figure(figure(), tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (400, 300)


def test_svg_is_a_document_without_a_date():
    document = svg_text(figure())
    assert ElementTree.fromstring(document).tag.endswith("svg")
    assert "dc:date" not in document


def test_settings_of_the_caller_are_left_alone():
    before = dict(mpl.rcParams)
    figure()
    assert dict(mpl.rcParams) == before


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"must end in \.png, \.pdf, \.svg"):
        save_figure(figure(), tmp_path / "a.jpeg")
    assert not list(tmp_path.iterdir())


def test_long_names_lose_their_middle():
    assert shortened("ulcerative-colitis-grade-2-3", 16) == "ulcerat…rade-2-3"
    assert shortened("short", 16) == "short"


def test_letters_that_the_usual_font_lacks_are_taken_from_those_that_are_installed(monkeypatch):
    class Font:
        name = FALLBACKS[3]

    fonts.cache_clear()
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [Font])
    assert fonts() == (FONT, FALLBACKS[3])
    fonts.cache_clear()
    monkeypatch.undo()
    assert fonts()[0] == FONT
    assert not set(fonts()[1:]) - {font.name for font in font_manager.fontManager.ttflist}


def test_letters_that_no_font_has_are_named_once_and_matplotlib_is_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    drawn = Figure()
    drawn.suptitle("Melanom ä β ورم \U000e0041\U000e0041", fontweight="bold")
    drawn.text(0, 0, "no such font", family=["No Such Font", "DejaVu Sans"])
    save_figure(drawn, tmp_path / "a.png")
    assert lacking(drawn) == "\U000e0041"
    assert "no installed font has them: \U000e0041;" in boxes(lacking(drawn))
    assert boxes("") == ""
    assert capfd.readouterr().err == ""
    assert not recwarn.list
