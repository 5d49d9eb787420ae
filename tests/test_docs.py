"""What the documentation shows is what works."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_worked_example_stands_in_the_page_as_it_is_in_the_file():
    page = (DOCS / "adding-a-method.md").read_text()
    code = (DOCS / "examples" / "label_smoothing.py").read_text()
    (shown,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown.strip() == code.split('"""', 2)[2].strip()


def test_the_worked_example_runs_as_a_plugin(toy_run):
    plugin = DOCS / "examples" / "label_smoothing.py"
    words = ("--plugin", plugin, "--set", "epochs=1", "--set", "smoothing=0.2")
    outcome = toy_run("label-smoothing", *words)
    assert outcome.code == 0, outcome.err
    assert "balanced accuracy" in outcome.out.lower()


def test_its_settings_are_shown_and_checked(toy_run, lmdbench):
    plugin = DOCS / "examples" / "label_smoothing.py"
    shown = lmdbench("methods", "show", "label-smoothing", "--plugin", plugin)
    assert "smoothing" in shown.out
    assert "share of the probability" in shown.out
    assert "CVPR 2016" in shown.out
    wrong = toy_run("label-smoothing", "--plugin", plugin, "--set", "smothing=0.2")
    assert wrong.code == 2
    assert "Did you mean smoothing?" in wrong.err


def test_links_between_pages_lead_somewhere():
    root = DOCS.parent
    for page in [root / "README.md", root / "ARCHITECTURE.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
