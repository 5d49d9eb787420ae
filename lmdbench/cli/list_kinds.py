"""``lmdbench list``: what there is of each kind of thing that people add."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.completion import complete_kind
from lmdbench.cli.metrics import show_metrics
from lmdbench.cli.options import json_option, plugin_option
from lmdbench.cli.text import json_text, table
from lmdbench.core.errors import UserError
from lmdbench.core.registry import KINDS, registry_of, unknown

if TYPE_CHECKING:
    from lmdbench.core.registry import Registry


@click.command()
@click.argument("kind", required=False, shell_complete=complete_kind)
@click.option(
    "--match",
    metavar="PATTERN",
    help='Only names like it, such as "*18"; of backbones also those of timm and torchvision.',
)
@plugin_option
@json_option
def list_kinds(kind: str | None, match: str | None, as_json: bool) -> None:
    """List what there is of a KIND; without one, the kinds.

    \b
    lmdbench list metrics
    lmdbench list backbones --plugin my_backbone.py
    lmdbench list backbones --match "timm/*dinov2*"
    """
    if match is not None and kind is None:
        raise UserError("--match is for the names of a kind: lmdbench list KIND --match PATTERN")
    if kind is None:
        rows = [[name, str(len(registry_of(name)))] for name in KINDS]
        if as_json:
            click.echo(json_text({name: int(number) for name, number in rows}))
            return
        click.echo(table(["kind", "there are"], rows, right=(1,)))
        click.echo("\nlmdbench list KIND: their names; docs/adding.md: how to add one")
        return
    if kind not in KINDS:
        singular = [name for name in KINDS if name.removesuffix("s") == kind]
        if not singular:
            raise unknown("kind", kind, list(KINDS))
        kind = singular[0]
    if kind == "metrics" and match is None:
        show_metrics(as_json)
        return
    registry = registry_of(kind)
    things = [_thing(registry, name) for name in registry.names()]
    if match is not None:
        things += _of_libraries(match) if kind == "backbones" else []
        things = [one for one in things if fnmatch(one["name"].lower(), match.lower())]
        if not things:
            raise UserError(f'--match "{match}": no {registry.kind} has such a name')
    if as_json:
        click.echo(json_text(things))
    else:
        rows = [[one["name"], one["title"], one["from"]] for one in things]
        click.echo(table([registry.kind, "what it is", "from"], rows, right=()))
    for plugin, problem in registry.broken.items():
        click.echo(f"not loaded: {plugin}: {problem}", err=True)


def _of_libraries(match: str) -> list[dict[str, str]]:
    """The backbones of the libraries that a pattern may mean: of which a name need not be in it, so
    that "*dinov2*" finds timm's. Those that are not installed have none, unless they are meant."""
    from lmdbench.models.backbones import LIBRARIES, library_names

    found = []
    for library in LIBRARIES:
        try:
            names = library_names(library)
        except UserError:
            if match.startswith(f"{library}/"):
                raise
            continue
        found += [{"name": name, "title": "", "from": library} for name in names]
    return found


def _thing(registry: Registry[Any], name: str) -> dict[str, str]:
    return {
        "name": name,
        "title": registry.title(registry[name]),
        "from": registry.whence(name),
    }
