"""The page of the methods' cards: python docs/page_of_methods.py (writes docs/methods.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmdbench.cli.datasets import recipe_rows
from lmdbench.cli.methods import (
    LAST_EPOCH,
    STRONG_VIEW,
    TRAINS,
    VALIDATION,
    card,
    cost,
    default_text,
    reflow,
)
from lmdbench.core.settings import describe
from lmdbench.data.dataset import DATASETS
from lmdbench.models.backbones import BACKBONES
from lmdbench.training.method import Method, built_in_methods

PAGE = Path(__file__).with_name("methods.md")
COMMON = describe(Method.Settings)
INTRODUCTION = """# The methods

<!-- Made from the methods by `python docs/page_of_methods.py`: change those, then run it. -->

Every method of this repository: what it is, its formula, what it takes over from its authors and
what not. `lmdbench methods show NAME` shows the same card, with the names of the tests that pin it;
`lmdbench methods --json` has all of them as data. [A new method](adding-a-method.md) takes thirty
lines.

Backbone, epochs, batch size, optimiser and augmentation are the same for every method unless its
definition says otherwise. This is the common recipe; a card lists the settings in which a method
differs from it, its own ones, and those whose default is another in the authors' paper or code:
"""
ALIKE = f"""
{LAST_EPOCH}
"""
RECIPES = """
Data sets and backbones may replace defaults by what suits them: the data set has the last word,
after the backbone, and `--set` after both. These do:
"""

MISSING = {
    "FCD (Li et al., 2022)": "No more than a title was found: neither formulas nor code.",
}
NOT_HERE = """## Not here

A wrong baseline is worse than none. These stand in the tables of the LMD paper, and are missing:

| method | why it is missing |
|---|---|
{rows}

Their published numbers can be set beside yours: `lmdbench compare --published`. If you know one of
them, or wrote it, [add it](adding-a-method.md).
"""


def page() -> str:
    """The page in Markdown, of the built-in methods."""
    cards = [card(method) for method in built_in_methods()]
    recipe = settings_table([vars(s) | {"authors": None} for s in COMMON.values()])
    rows = "\n".join(f"| {method} | {why} |" for method, why in MISSING.items())
    missing = NOT_HERE.format(rows=rows)
    preface = [INTRODUCTION, recipe + ALIKE + RECIPES, recipes_table(), overview(cards)]
    return "\n".join([*preface, *map(section, cards), missing])


def recipes_table() -> str:
    """What data sets and backbones replace of the methods' defaults."""
    bringing = [
        (f"{registry.kind} `{name}`", registry.get(name).recipes)
        for registry, names in ((DATASETS, DATASETS.names()), (BACKBONES, BACKBONES))
        for name in names
        if registry.is_built_in(name)
    ]
    rows = [
        f"| {brings} | {which} | {what} |"
        for brings, recipes in bringing
        for which, what in recipe_rows(recipes)
    ]
    return "\n".join(["| with | of | defaults |", "|---|---|---|", *rows, ""])


def overview(cards: list[dict[str, Any]]) -> str:
    rows = [
        f"| [{c['name']}](#{c['name']}) | {cell(c['title'])} | {c['starts_from'] or ''} |"
        for c in cards
    ]
    return "\n".join(["| method | what it is | starts from |", "|---|---|---|", *rows, ""])


def section(c: dict[str, Any]) -> str:
    """One method's card."""
    own = [s for s in c["settings"] if s["authors"] is not None or differs(s)]
    start = f"`{c['starts_from']}`" if c["starts_from"] else "the backbone's weights"
    with_settings = ", ".join(f"{key}={value}" for key, value in c["ancestor_settings"].items())
    facts = [
        ("source", c["source"]),
        ("starts from", start + (f" with {with_settings}" if with_settings else "")),
    ]
    if c["epochs"] != 0:
        views = " + ".join(c["views"])
        facts.append(("trains", f"{TRAINS[c['trains']]}; batches: {c['sampler']}; views: {views}"))
    if c["uses_validation"]:
        facts.append(("validation images", VALIDATION))
    facts += [("cost", cost(c)), ("code", link(f"methods/{Path(c['file']).name}"))]
    if c["tests"]:
        facts.append(("tests", link(c["tests"]["file"])))
    lines = [f"## {c['name']}", "", f"**{c['title']}.** {reflow(c['description'])}", ""]
    if own:
        lines += [settings_table(own)]
    lines += [f"- {name}: {text}" for name, text in facts]
    if c["deviations"]:
        lines += ["- deviations:", *(f"  - {text}" for text in c["deviations"])]
    if STRONG_VIEW in c["common"]:
        lines.append(
            "- strong view: square holes in place of stripes, see [augmentation]"
            "(augmentation.md#where-it-differs-from-the-original)"
        )
    return "\n".join([*lines, ""])


def differs(s: dict[str, Any]) -> bool:
    """Whether a setting is not as in the common recipe."""
    return s["name"] not in COMMON or s["default"] != COMMON[s["name"]].default


def settings_table(settings: list[dict[str, Any]]) -> str:
    with_authors = any(s["authors"] is not None for s in settings)
    head = ["setting", "default", *(["authors'"] if with_authors else []), "meaning"]
    rows = [head, ["---"] * len(head)]
    for s in settings:
        theirs = "" if s["authors"] is None else str(s["authors"])
        searched = f"(tuned: {s['range']})" if s["range"] else ""
        meaning = " ".join(filter(None, [s["help"], searched]))
        row = [f"`{s['name']}`", default_text(s), *([theirs] if with_authors else []), meaning]
        rows.append([cell(str(entry)) for entry in row])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def link(path: str) -> str:
    """To a file of the repository, seen from docs/."""
    return f"[{path}](../{path})"


def cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
