"""Tables of more rows than anybody looks at: bounded panels and lines, each figure drawn once."""

from collections import Counter
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lmdbench.reporting.page.figures import figures
from lmdbench.reporting.plots import PLOTS, confusion, curves, forest, groups, reliability
from lmdbench.reporting.plots.style import drawn_rows, not_drawn

MANY, PANELS = 12, 4
CLASSES = {"nv": 40, "mel": 12, "df": 4}


@pytest.fixture
def many(made_block):
    """A table of ce, lmd as the reference, and others, each better than the one before."""
    others = {f"m{k:02}": 1.0 + k / 10 for k in range(MANY - 2)}
    skills = {"lmd": 0.5, "ce": 0.1, **others}
    return made_block(skills, classes=CLASSES, seeds=1, reference="lmd", history=True)


def test_what_is_drawn_of_many_rows(many):
    labels = [row.label for row in drawn_rows(many, 5)]
    order = [row.label for row in many.rows]
    assert {"ce", "lmd"} < set(labels)
    assert set(labels) - {"ce", "lmd"} == set([one for one in order if one[0] == "m"][-3:])
    assert labels == [one for one in order if one in labels]
    assert drawn_rows(many, MANY) == list(many.rows)
    assert not not_drawn(many, many.rows)
    assert "1 more method is not drawn" in not_drawn(many, many.rows[1:])


@pytest.mark.parametrize(
    ("name", "module", "panels"),
    [
        ("confusion", confusion, PANELS),
        ("reliability", reliability, 2 * PANELS),
        ("curves", curves, 2 * PANELS),
    ],
)
def test_panels_are_bounded_and_the_rest_is_counted(many, look, monkeypatch, name, module, panels):
    assert module.MOST_PANELS == 24
    monkeypatch.setattr(module, "MOST_PANELS", PANELS)
    figure = PLOTS[name].draw(many, 7.0)
    assert sum(axes.get_visible() for axes in figure.axes) == panels
    assert f"{MANY - PANELS} more methods are not drawn" in " ".join(look(figure))


@pytest.mark.parametrize(("name", "module"), [("forest", forest), ("groups", groups)])
def test_lines_are_bounded_far_beyond_panels(many, monkeypatch, name, module):
    def names() -> list[str]:
        figure = PLOTS[name].draw(many, 7.0)
        return [one.get_text() for one in figure.axes[0].get_yticklabels()]

    assert len(names()) == MANY - (name == "forest")  # which has no line of the reference
    monkeypatch.setattr(module, "MOST_LINES", MANY - 1)
    assert len(names()) == MANY - 1 - (name == "forest")
    assert "ce" in names()


def test_each_figure_of_the_page_is_drawn_once(made_block, monkeypatch):
    table = made_block({"lmd": 2.0, "ce": 1.0}, classes=CLASSES, seeds=1, history=True)
    written: Counter[int] = Counter()
    kept = []
    save = Figure.savefig

    def counted(self, *args, **words):
        written[id(self)] += 1
        kept.append(self)  # or another figure could get its id
        return save(self, *args, **words)

    monkeypatch.setattr(Figure, "savefig", counted)
    drawn = [one for one in figures(table, "t1", Path("results")) if one.svg]
    assert set(written.values()) == {1}
    assert len(written) == len(drawn) == 7
