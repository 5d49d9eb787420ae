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

"""
COMMON_RECIPE = """

## The common recipe

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

# Family → what it changes and when to choose it, and its methods
FAMILIES = {
    "baseline": ("The loss alone, on images as they come: what all others are held against.", "ce"),
    "re-sampling": (
        "Rare images are drawn more often, or frequent ones later. Nothing to tune, any loss; the "
        "few images of a rare class are repeated, and may be learned by heart.",
        "rs bbn fs",
    ),
    "re-weighting": (
        "Rare or hard images weigh more in the loss. As cheap as can be; with steep imbalance "
        "single images make large steps.",
        "rw rw-effective focal cb-focal seesaw",
    ),
    "logit adjustment": (
        "The class prior is taken out of the logits, in training or after it. One term, free, and "
        "in its plain form consistent for balanced accuracy: to be tried first.",
        "balanced-softmax logit-adjustment logit-adjustment-posthoc lade vs tde ltrl",
    ),
    "margins": (
        "Rare classes are held further from the decision, in cosines. Where features of few images "
        "spread too little.",
        "ldam-drw gcl-stage1 gcl",
    ),
    "decoupling": (
        "The encoder is kept as it was learned on all images, and the head made anew for few "
        "epochs, or only scaled. Cheap on top of a run there is, and on a frozen foundation model.",
        "crt lws tau-norm ncm balms mislas weight-balancing",
    ),
    "calibration": (
        "Logits or features of a trained network are corrected by statistics of the classes, or "
        "virtual features are drawn from them. Where the encoder is good and its head is not.",
        "disalign marc rrl lmd lmd-released mrc-vfc",
    ),
    "contrast": (
        "Images of a class are drawn together beside the loss, rare classes helped by prototypes, "
        "queues or distributions. Where there are images and time enough: two or three views each.",
        "supcon cicl bcl paco gpaco bpaco proco ecl",
    ),
    "experts": (
        "Several heads with stages or networks of their own learn to differ, and are averaged. An "
        "ensemble in one run, at some multiple of the time and memory.",
        "ride ride-routing sade balpoe ncl ncl-contrast shike",
    ),
    "sharpness": (
        "Steps are taken from where the loss is highest nearby, for flat minima, of all classes or "
        "of rare ones. Beside any of three losses, at twice the time.",
        "sam imbsam focal-sam cc-sam-stage1 cc-sam",
    ),
    "augmentation": (
        "Images are mixed with others, and their labels too, or changed more the better a class is "
        "learned, or as it helped that class. Against a network too sure of itself; other methods "
        "start from it.",
        "mixup balanced-mixup glmc cuda doda",
    ),
    "parameter-efficient": (
        "A pretrained network is left as it is, and few parameters beside it are trained. Where "
        "weights of a foundation model are at hand; for any method: "
        "[tuning](tuning-encoders.md).",
        "lift",
    ),
}
MAP = """## A map of the field

What a family changes, and when to choose it. Behind a method: how often an epoch's images go
forward and backward through the encoder, where that is not once each. A head on a frozen encoder
goes none backward, and needs the run that it starts from as well. What some of them came to on real
images, with intervals: [evidence](evidence.md).

| family | what it changes, and when to choose it | methods |
|---|---|---|
"""
MISSING = {
    "FCD, flat-aware cross-stage distilled framework (Li et al., MICCAI 2022)": "No code is "
    "public, and no text of the paper was found in any open index. Flat, cross-stage and distilled "
    "say what it looks for, which is no definition.",
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
    beginning = INTRODUCTION + map_of_field(cards) + COMMON_RECIPE
    preface = [beginning, recipe + ALIKE + RECIPES, recipes_table(), overview(cards)]
    return "\n".join([*preface, *map(section, cards), missing])


def map_of_field(cards: list[dict[str, Any]]) -> str:
    """The families with their methods. Raises ValueError unless each method is in one of them."""
    passes = {c["name"]: c["passes"] for c in cards}
    listed = sorted(name for _, names in FAMILIES.values() for name in names.split())
    if listed != sorted(passes):
        odd = sorted({*listed} ^ {*passes}) or "one is in two of them"
        raise ValueError(f"FAMILIES must have each method once: {odd}")

    def link_of(name: str) -> str:
        forward, backward = passes[name]
        often = "" if [forward, backward] == [1, 1] else f" {forward:g}/{backward:g}"
        return f"[{name}](#{name}){often}"

    rows = [
        f"| {family} | {why} | {', '.join(map(link_of, names.split()))} |"
        for family, (why, names) in FAMILIES.items()
    ]
    return MAP + "\n".join(rows)


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
