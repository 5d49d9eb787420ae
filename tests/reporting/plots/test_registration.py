"""Plots of plug-ins: what is checked as they are registered and as they draw."""

import pytest
from matplotlib.figure import Figure

from lmdbench.core.errors import UserError
from lmdbench.reporting.plots import PLOTS, register_plot

FORWARD = "from lmdbench import register_plot\nfrom matplotlib.figure import Figure\n"


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    """Plots that a test registers are gone after it."""
    PLOTS.names()
    for kept in ("_things", "_origins"):
        monkeypatch.setattr(PLOTS, kept, dict(getattr(PLOTS, kept)))


def empty(data, width):
    return Figure(figsize=(width, 1))


@pytest.mark.parametrize(
    ("function", "words", "said"),
    [
        ("no function", {}, "'mine' must be a function of two parameters: a ResultTable"),
        (
            type("Mine", (), {"__init__": lambda self, table, width: None}),
            {},
            "must be a function of two",
        ),
        (lambda: None, {}, "must be a function of two parameters"),
        (lambda table, width, height: None, {"of": "run"}, "two parameters: a Run"),
        (empty, {"of": "tables"}, "unknown of 'tables'. Did you mean table?"),
        (empty, {"title": " "}, "title must say in a line what it shows"),
        (empty, {"title": "two\nlines"}, "title must say in a line what it shows"),
    ],
)
def test_what_cannot_draw_is_refused_in_a_line(function, words, said):
    with pytest.raises(UserError) as error:
        register_plot("mine", **({"title": "mine"} | words))(function)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "mine" not in PLOTS


def test_a_name_is_taken_once():
    with pytest.raises(UserError, match=r"^plot 'forest' is built in; choose another name$"):
        register_plot("forest", title="another")(empty)


@pytest.mark.parametrize(("value", "what"), [("None", "None"), ("3", "int")])
def test_what_draws_no_figure_is_told_by_name(lmdbench, fake_run, tmp_path, value, what):
    plugin = tmp_path / f"draws_{what}.py"
    plugin.write_text(f"{FORWARD}@register_plot('mine', title='t')\ndef f(t, w): return {value}\n")
    fake_run("ce")
    words = ("--results", tmp_path / "results", "--output", tmp_path / "a.png")
    outcome = lmdbench("plot", "mine", "--plugin", plugin, *words)
    assert outcome.code == 2
    said = f"plot 'mine' must return a matplotlib Figure; it returned {what}"
    assert outcome.err == f"lmdbench: {said}\n"
    assert not (tmp_path / "a.png").exists()


def test_what_a_function_is_given(lmdbench, fake_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugin = tmp_path / "kinds.py"
    plugin.write_text(
        f"{FORWARD}from lmdbench.reporting.plots import DATA\n"
        "for of in DATA:\n"
        "    @register_plot(f'of-{of}', title=of, of=of)\n"
        "    def f(data, width):\n"
        "        print(type(data).__name__)\n"
        "        return Figure(figsize=(width, 1))\n"
    )
    ce = fake_run("ce")
    fake_run("lmd")
    for of, given, file in (
        ("table", "ResultTable", "of-table-skin-plain-if100.pdf"),
        ("comparison", "Comparison", "of-comparison.pdf"),
        ("run", "Run", f"of-run-skin-ce-{ce.name}.pdf"),
    ):
        chosen = ("--run", ce) if of == "run" else ()
        outcome = lmdbench("plot", f"of-{of}", "--plugin", plugin, *chosen)
        assert (outcome.code, outcome.out) == (0, f"{given}\n"), outcome.err
        assert (tmp_path / file).is_file()
    several = lmdbench("plot", "of-run", "--plugin", plugin)
    assert "an of-run is of one run, here are 2 rows: ce, lmd" in several.err
    other = lmdbench("plot", "of-run", "--plugin", plugin, "--images", 3)
    assert "--images is for `lmdbench plot embedding` or `lmdbench plot of-features`" in other.err
