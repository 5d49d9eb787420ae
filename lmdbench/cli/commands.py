"""The ``lmdbench`` command. Commands are imported when called, so that help answers at once."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click

from lmdbench.cli.lazy import LazyGroup
from lmdbench.cli.streams import prepare_streams
from lmdbench.core.errors import Interrupted, RunFailed, UserError
from lmdbench.core.folders import settle_libraries

# Command → what `lmdbench --help` says of it. Each lives in the module of its own name.
COMMANDS = {
    "run": "Train a method on a data set, with everything it starts from.",
    "sweep": "Many runs from one file, on local devices or on SLURM.",
    "tune": "Choose settings for each method of a sweep, with equal budgets.",
    "predict": "A finished run on other images: a folder, a data set, a photo.",
    "compare": "Compare the finished runs: methods × metrics.",
    "plan-power": "Before training: how many seeds and images find how small a difference.",
    "plot": "Pictures of the finished runs, as PDF, PNG or SVG.",
    "report": "One HTML file of the finished runs, with tables, plots and images.",
    "results": "Finished runs to others and from others, and predictions of your own code.",
    "list": "What there is of each kind: methods, metrics, backbones, plots …",
    "metrics": "The metrics, what each needs and how its interval is made.",
    "methods": "The methods, and what each one is.",
    "datasets": "The data sets, and how each one is split.",
    "bench": "How fast this machine trains, and what limits it.",
    "features": "Features of frozen encoders: what is kept, and as a file for other code.",
    "data": "Download, prepare, verify and audit a data set.",
    "doctor": "Whether this machine has what lmdbench needs, and what to do where not.",
}


# Packages that finished runs are read without
TRAINING = ("torch", "torchvision", "safetensors", "submitit", "requests")


class Commands(LazyGroup):
    commands_of = COMMANDS
    modules_of = {"list": "list_kinds", "plan-power": "plan_power"}


@click.command(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="lmdbench", prog_name="lmdbench")
@click.pass_context
def cli(context: click.Context) -> None:
    """Benchmark long-tail methods on medical images.

    \b
    lmdbench run --method lmd --dataset demo    train, and see the scores
    lmdbench compare                            all finished runs in one table
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def exit_code() -> int:
    """Carries out the command line. 0 for success, 2 for a user's mistake, 1 for a failed run."""
    prepare_streams()
    settle_libraries()
    try:
        code = cli.main(prog_name="lmdbench", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        code = _complain(str(error), 2)
    except RunFailed as error:
        code = _complain(str(error), 1)
    except Interrupted as error:
        code = _complain(str(error), 130)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "lmdbench"
        message = error.format_message()
        stop = "" if message.endswith((".", "?", "!")) else "."
        code = _complain(f"{message}{stop} See `{command} --help`.", 2)
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # click takes a file's end for the user's
            raise error.__cause__ from None
        code = _complain("interrupted", 130)
    except ModuleNotFoundError as error:
        if error.name not in TRAINING:
            raise
        code = _complain(
            f"{error.name} is not installed; without it finished runs can be listed, compared, "
            "plotted and reported (`pip install lmdbench` adds the rest)",
            2,
        )
    except OSError as error:
        from lmdbench.core.files import FULL, PASSING, REFUSED, unreadable

        if error.errno in (*PASSING, *REFUSED) and error.filename is not None:
            return _complain(str(unreadable(error.filename, error)), 2)
        if error.errno not in FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _complain("its output can't be written: no space left where it goes", 1)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    with suppress(OSError):
        print(f"lmdbench: {message}", file=sys.stderr)
    return code
