"""``lmdbench methods``: the methods and what each one is."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import json_option, plugin_option

UNWRAPPED = 200  # columns, where the output is no terminal

if TYPE_CHECKING:
    from lmdbench.method import Method


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
    from rich.table import Table

    from lmdbench.method import METHODS

    cards = [card(METHODS.get(name)) for name in METHODS.names()]
    if as_json:
        click.echo(json.dumps(cards, indent=2, ensure_ascii=False))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("method", "starts from", "trains", "what it is", "source"):
            table.add_column(column, overflow="fold", no_wrap=column in ("method", "starts from"))
        for c in cards:
            table.add_row(c["name"], c["starts_from"] or "", c["trains"], c["title"], c["source"])
        console = Console()
        (console if console.is_terminal else Console(width=UNWRAPPED)).print(table)
    for plugin, problem in METHODS.broken.items():
        click.echo(f"not loaded: {plugin}: {problem}", err=True)


@methods.command()
@click.argument("name")
@plugin_option
@json_option
@click.pass_obj
def show(json_before: bool, name: str, as_json: bool) -> None:
    """Settings, defaults, source and deviations of the method NAME."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from lmdbench.method import METHODS

    c = card(METHODS.get(name))
    if as_json or json_before:
        click.echo(json.dumps(c, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{escape(c['name'])}[/]  {escape(c['title'])}  (version {c['version']})")
    console.print(escape(reflow(c["description"])))
    console.print()
    settings = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("setting", "default", "wants", "meaning"):
        settings.add_column(column, overflow="fold", no_wrap=column == "setting")
    for s in c["settings"]:
        searched = s["range"] and f"(tuned: {s['range']})"
        meaning = " ".join(filter(None, [s["help"], searched]))
        settings.add_row(s["name"], str(s["default"]), s["type"], escape(meaning))
    console.print(settings)
    console.print()
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("source", escape(c["source"]))
    facts.add_row("starts from", escape(c["starts_from"] or "the backbone's weights"))
    for key, value in c["ancestor_settings"].items():
        facts.add_row("", f"with {key}={value}")
    facts.add_row("trains", {"all": "the whole network", "head": "the head"}[c["trains"]])
    facts.add_row("sampling", escape(c["sampler"]))
    facts.add_row("views", ", ".join(c["views"]))
    facts.add_row("code", escape(c["file"]))
    for number, deviation in enumerate(c["deviations"]):
        facts.add_row("" if number else "deviations", f"· {escape(deviation)}")
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


def card(method: type[Method]) -> dict[str, Any]:
    """What there is to know of a method, as plain data."""
    from lmdbench.method import Start
    from lmdbench.settings import describe

    start = method.starts_from
    start = Start(start) if isinstance(start, str) else start
    sampler = method.sampler if isinstance(method.sampler, tuple) else (method.sampler,)
    return {
        "name": method.name,
        "title": method.title,
        "version": method.version,
        "description": inspect.cleandoc(method.__doc__ or ""),
        "source": method.source,
        "deviations": list(method.deviations),
        "starts_from": start and start.method,
        "ancestor_settings": dict(start.settings) if start else {},
        "trains": method.trains,
        "sampler": " + ".join(s if isinstance(s, str) else type(s).__name__ for s in sampler),
        "views": list(method.views),
        "file": inspect.getsourcefile(method) or "",
        "settings": [
            {
                "name": s.name,
                "default": s.default,
                "type": s.type_name,
                "help": s.help,
                "range": s.range and str(s.range),  # where `lmdbench tune` searches
            }
            for s in describe(method.Settings).values()
        ],
    }
