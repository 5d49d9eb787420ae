"""``lmdbench results``: the runs there are, to others and from others."""

from __future__ import annotations

import click

from lmdbench.cli.lazy import LazyGroup

# Command → what `lmdbench results --help` says of it.
COMMANDS = {
    "list": "The runs there are: settings, state, scores, size and age.",
    "remove": "Whole runs, after a look at what goes.",
    "prune": "What takes room and is not needed: weights, leftovers, short runs.",
    "export": "Finished runs without weights, to share.",
    "import": "Runs that someone exported, checked.",
    "import-predictions": "Predictions of your own code, as a run like the others.",
    "submit": "Exported runs as an entry of the reference results, checked.",
    "check": "Whether all entries of the reference results are sound.",
    "leaderboard": "Pages of the reference results, to filter and sort.",
}


class ResultsCommands(LazyGroup):
    kind = "command of results"
    commands_of = COMMANDS
    package = "lmdbench.cli.results"
    modules_of = {
        "list": "list_runs",
        "import": "import_runs",
        "import-predictions": "import_predictions",
    }


@click.command(cls=ResultsCommands, invoke_without_command=True)
@click.pass_context
def results(context: click.Context) -> None:
    """The runs there are: to look through, to clear up, to others and from others.

    \b
    lmdbench results list --sort score
    lmdbench results export --output runs.zip
    lmdbench results import runs.zip
    lmdbench results import-predictions mine.csv --name my-loss --like results/demo/…/seed0-…
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
