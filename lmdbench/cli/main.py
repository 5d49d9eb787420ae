"""The ``lmdbench`` command. Commands are imported when called, so that help answers at once."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any

import click

from lmdbench.errors import Interrupted, RunFailed, UserError
from lmdbench.version import __version__

# Command → what `lmdbench --help` says of it. Each lives in the module of its own name.
COMMANDS = {
    "run": "Train a method on a data set, with everything it starts from.",
    "compare": "Compare the finished runs: methods × metrics.",
    "methods": "The methods, and what each one is.",
    "datasets": "The data sets, and how each one is split.",
}


class Commands(click.Group):
    """Imports the module of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"lmdbench.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from lmdbench.registry import unknown

            raise unknown("command", args[0], list(COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="lmdbench")
@click.pass_context
def cli(context: click.Context) -> None:
    """Benchmark long-tail methods on medical images.

    \b
    lmdbench run --method lmd --dataset demo    train, and see the scores
    lmdbench compare                            all finished runs in one table
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """Entry point. Exit code 0 for success, 2 for a user's mistake, 1 for a failed run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # ± on a terminal without it
    try:
        code = cli.main(prog_name="lmdbench", standalone_mode=False)
    except UserError as error:
        code = _complain(str(error), 2)
    except RunFailed as error:
        code = _complain(str(error), 1)
    except Interrupted as error:
        code = _complain(str(error), 130)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "lmdbench"
        code = _complain(f"{error.format_message()} See `{command} --help`.", 2)
    except (KeyboardInterrupt, click.Abort):
        code = _complain("interrupted", 130)
    except BrokenPipeError:  # the reader went away, as in `lmdbench compare | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, code: int) -> int:
    print(f"lmdbench: {message}", file=sys.stderr)
    return code
