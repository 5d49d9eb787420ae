"""``lmdbench data verify``: whether a data set's files are what they should be."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from lmdbench.cli.completion import complete
from lmdbench.cli.options import (
    data_root_option,
    json_option,
    make_dataset,
    parse_size,
    plugin_option,
)
from lmdbench.cli.text import json_text
from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache


@click.command()
@click.argument("name", shell_complete=complete("datasets"))
@data_root_option
@click.option(
    "--image-size",
    "sizes",
    multiple=True,
    metavar="PIXELS",
    help="Of the prepared images to check; repeatable.  [default: all that there are]",
)
@click.option(
    "--sample",
    metavar="N|all",
    help="Images to decode, and to compare with the prepared ones.  [default: all are decoded, "
    "200 compared]",
)
@plugin_option
@json_option
@click.pass_context
def verify(
    context: click.Context,
    name: str,
    data_root: Path | None,
    sizes: tuple[str, ...],
    sample: str | None,
    as_json: bool,
) -> None:
    """Check a data set's tables, images and prepared stores. Writes nothing.

    One line a check: ok, note (neither right nor wrong) or problem. Exit code 0 if there is no
    problem, 1 if there is one, 2 if it cannot be checked.
    """
    data = make_dataset(name, data_root)
    chosen = list(dict.fromkeys(map(parse_size, sizes)))
    number = None if sample is None else parse_sample(sample)

    from lmdbench.core.progress import watcher
    from lmdbench.data.check.verification import COMPARED
    from lmdbench.data.check.verification import verify as findings

    compared = COMPARED if sample is None else number
    progress = watcher(quiet=as_json or number is not None)  # a sample takes seconds
    tick = partial(progress.prepare, what="decoding images")
    listed, problems = [], 0
    try:
        for finding in findings(data, default_cache(), chosen, number, tick, compared):
            progress.end()
            problems += finding.state == "problem"
            listed.append(
                {
                    "check": finding.check,
                    "state": finding.state,
                    "text": finding.text,
                    **finding.facts,
                }
            )
            if not as_json:
                click.echo(f"{finding.state:<7}  {finding.check:<14}  {finding.text}")
    finally:
        progress.end()
    if as_json:
        facts = {"name": name, "ok": not problems, "problems": problems, "checks": listed}
        click.echo(json_text(facts))
    else:
        click.echo(f"{data.results_name}: {problems or 'no'} problem{'s' * (problems != 1)}")
    context.exit(1 if problems else 0)


def parse_sample(text: str) -> int | None:
    """A number of images; None for all."""
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= len(text) <= 9 or int(text) < 1:
        raise UserError(f"--sample {text!r}: give a number of images, or all")
    return int(text)
