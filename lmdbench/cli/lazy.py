"""Groups of commands that are imported when they are called, so that help answers at once."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import click


class LazyGroup(click.Group):
    """A group whose commands live in the modules of their names, below ``package``."""

    kind: ClassVar[str] = "command"  # what an unknown name is called
    commands_of: ClassVar[Mapping[str, str]] = {}  # command → what the help says of it
    package: ClassVar[str] = "lmdbench.cli"
    # Command → its module and function, where Python can't have its name.
    modules_of: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands_of)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.commands_of:
            return None
        name = self.modules_of.get(cmd_name, cmd_name)
        module = importlib.import_module(f"{self.package}.{name}")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands_of and not args[0].startswith("-"):
            from lmdbench.core.registry import unknown

            raise unknown(self.kind, args[0], list(self.commands_of))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(self.commands_of.items()))
