"""``lmdbench methods``: the methods and what each one is."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.completion import complete, complete_backbone
from lmdbench.cli.options import json_option, plugin_option
from lmdbench.cli.text import json_text

UNWRAPPED = 200  # columns, where the output is no terminal
WITH_SOURCE = 120  # columns from which the list has room for papers
TRAINS = {"all": "the whole network", "head": "the head"}
VALIDATION = "looked at while it trains, as its definition has it"

# What holds of many methods alike, and so stands in no method's file
LAST_EPOCH = (
    "The last epoch counts, unless `--selection best` asks for the best one on validation; many "
    "official codes report their best epoch, often the best one on the test images."
)
STRONG_VIEW = (
    "The strong view is that of LMD's released code but for details (docs/augmentation.md), of "
    "which one is to be seen: grid dropout has square holes here, and stripes 5 px wide over the "
    "whole height there."
)

if TYPE_CHECKING:
    from lmdbench.models.backbone import Backbone
    from lmdbench.training.method import Method


@click.group(invoke_without_command=True)
@plugin_option
@json_option
@click.pass_context
def methods(ctx: click.Context, as_json: bool) -> None:
    """The methods, and what each one is (`lmdbench methods show NAME`)."""
    ctx.obj = as_json
    if ctx.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from lmdbench.training.method import METHODS

    cards = [card(METHODS.get(name)) for name in METHODS.names()]
    if as_json:
        click.echo(json_text(cards))
    else:
        console = Console()
        if not console.is_terminal:
            console = Console(width=UNWRAPPED)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("method", no_wrap=True)
        table.add_column("starts from", no_wrap=True)
        table.add_column("what it is", overflow="fold")
        if console.width >= WITH_SOURCE:
            table.add_column("source", overflow="fold")
        for c in cards:
            row = (c["name"], c["starts_from"] or "", c["title"], c["source"])
            table.add_row(*map(escape, row[: len(table.columns)]))
        console.print(table)
    for plugin, problem in METHODS.broken.items():
        click.echo(f"not loaded: {plugin}: {problem}", err=True)


@methods.command()
@click.argument("name", shell_complete=complete("methods"))
@click.option(
    "--backbone",
    metavar="NAME",
    shell_complete=complete_backbone,
    help="Show the defaults that the settings have on it.",
)
@plugin_option
@json_option
@click.pass_obj
def show(json_before: bool, name: str, backbone: str | None, as_json: bool) -> None:
    """The card of the method NAME: formula, settings, source, cost, deviations and tests."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from lmdbench.models.backbones import get_backbone
    from lmdbench.training.method import METHODS

    method = METHODS.get(name)
    c = card(method, None if backbone is None else get_backbone(backbone))
    if as_json or json_before:
        click.echo(json_text(c))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{escape(c['name'])}[/]  {escape(c['title'])}  (version {c['version']})")
    console.print(escape(reflow(c["description"])))
    console.print()
    if c["settings"]:
        with_authors = any(s["authors"] is not None for s in c["settings"])
        settings = Table(box=None, pad_edge=False, header_style="bold")
        theirs = ["authors'"] if with_authors else []
        for column in ("setting", "default", *theirs, "wants", "meaning"):
            settings.add_column(column, overflow="fold", no_wrap=column == "setting")
        for s in c["settings"]:
            searched = s["range"] and f"(tuned: {s['range']})"
            meaning = " ".join(filter(None, [s["help"], searched]))
            theirs = ["" if s["authors"] is None else str(s["authors"])] if with_authors else []
            row = (s["name"], default_text(s), *theirs, s["type"], meaning)
            settings.add_row(*map(escape, row))
        console.print(settings)
        console.print()
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("source", escape(c["source"]))
    facts.add_row("starts from", escape(c["starts_from"] or "the backbone's weights"))
    for key, value in c["ancestor_settings"].items():
        facts.add_row("", f"with {key}={value}")
    if c["epochs"] != 0:
        facts.add_row("trains", TRAINS[c["trains"]])
        facts.add_row("sampling", escape(c["sampler"]))
        facts.add_row("views", ", ".join(c["views"]))
    if c["uses_validation"]:
        facts.add_row("validation", VALIDATION)
    facts.add_row("cost", cost(c))
    facts.add_row("code", escape(c["file"]))
    if c["tests"]:
        facts.add_row("tests", escape(c["tests"]["file"]))
        for test in c["tests"]["names"]:
            facts.add_row("", f"· {escape(test)}")
    for number, deviation in enumerate(c["deviations"]):
        facts.add_row("" if number else "deviations", f"· {escape(deviation)}")
    for number, remark in enumerate(c["common"]):
        facts.add_row("" if number else "as for others", f"· {escape(remark)}")
    console.print(facts)


def reflow(text: str) -> str:
    """A docstring for any width: lines joined within paragraphs and list items, formulas kept."""
    lines: list[str] = []
    for line in text.splitlines():
        begins_item = re.match(r"(\d+\.|[-·]) ", line)
        is_formula = line.startswith("    ")
        if lines and lines[-1].strip() and line.strip() and not begins_item and not is_formula:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return "\n".join(lines)


def default_text(setting: dict[str, Any]) -> str:
    """A default as one would type it."""
    return "none" if setting["default"] is None else str(setting["default"])


def cost(c: dict[str, Any]) -> str:
    """What a card says of a method's cost, in words."""
    if c["epochs"] == 0:
        return "no training: fitted once to what it starts from"
    if c["passes"] == [1, 1]:
        return "an epoch costs what one of ce does"
    forward, backward = c["passes"]
    return (
        f"in an epoch the training images go {forward:g}× forward and {backward:g}× backward "
        "through the encoder (ce: 1×, 1×)"
    )


def card(method: type[Method], backbone: Backbone | None = None) -> dict[str, Any]:
    """What there is to know of a method, as plain data; with the defaults that it has on a
    backbone, where one is given."""
    from lmdbench.core.settings import describe, resolve
    from lmdbench.training.method import Start
    from lmdbench.training.recipes import recipes_for

    start = method.starts_from
    start = Start(start) if isinstance(start, str) else start
    sampler = method.sampler if isinstance(method.sampler, tuple) else (method.sampler,)
    settings = describe(method.Settings)
    usual: dict[str, Any] = {}
    if backbone is not None:
        recipes = recipes_for(method, f"backbone {backbone.name!r}", backbone.recipes)
        usual = asdict(resolve(method.name, method.Settings, recipes, {}))
    return {
        "name": method.name,
        "title": method.title,
        "version": method.version,
        "description": inspect.cleandoc(method.__doc__ or ""),
        "source": method.source,
        "deviations": list(method.deviations),
        "common": _common(method),
        "starts_from": start and start.method,
        "ancestor_settings": dict(start.settings) if start else {},
        "trains": method.trains,
        "sampler": " + ".join(s if isinstance(s, str) else _in_words(s) for s in sampler),
        "views": list(method.views),
        "epochs": settings["epochs"].default if "epochs" in settings else _fixed_epochs(method),
        "uses_validation": method.uses_validation,
        "passes": list(method.passes or ((1, 1) if method.trains == "all" else (1, 0))),
        "file": inspect.getsourcefile(method) or "",
        "tests": _tests(method),
        "settings": [
            {
                "name": s.name,
                "default": usual.get(s.name, s.default),
                "authors": method.authors.get(s.name),  # their default, where it is another
                "type": s.type_name,
                "help": s.help,
                "range": s.range and str(s.range),  # where `lmdbench tune` searches
            }
            for s in settings.values()
        ],
    }


def _common(method: type[Method]) -> list[str]:
    """The deviations that it shares with other methods."""
    if _fixed_epochs(method) == 0:  # it neither trains nor sees a view
        return []
    return [LAST_EPOCH, *([STRONG_VIEW] if "strong" in method.views else [])]


def _fixed_epochs(method: type[Method]) -> int | None:
    """Of a method that says so as a class attribute, as those do that train nothing."""
    epochs: object = method.epochs
    return epochs if isinstance(epochs, int) else None


def _in_words(sampler: object) -> str:
    """What a method's own sampler says of itself in its first sentence, or its name in words."""
    maker: Any = sampler if hasattr(sampler, "__name__") else type(sampler)
    text = inspect.cleandoc(maker.__doc__ or "")
    if not text:
        text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", maker.__name__).lower()
    first = re.split(r"\.(?=\s+[A-Z]|\s*$)|\n\n", text)[0]
    return " ".join((first[:1].lower() + first[1:]).split())


def _tests(method: type[Method]) -> dict[str, Any] | None:
    """The tests of a method's file, where this is a checkout: their path and names, in words."""
    source = inspect.getsourcefile(method)
    if source is None:
        return None
    path = Path(source).resolve()
    tests = path.parent.parent / "tests" / path.parent.name / f"test_{path.name}"
    if not tests.is_file():
        return None
    tree = ast.parse(tests.read_text(encoding="utf-8"))
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {
        "file": f"tests/{path.parent.name}/{tests.name}",
        "names": [n[5:].replace("_", " ") for n in names if n.startswith("test_")],
    }
