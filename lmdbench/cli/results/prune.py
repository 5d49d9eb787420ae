"""``lmdbench results prune``: what takes room and is not needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmdbench.cli.options import data_root_option, results_option
from lmdbench.cli.results.common import filter_options, kept_runs
from lmdbench.core.errors import UserError
from lmdbench.core.words import size as size_text

if TYPE_CHECKING:
    from lmdbench.housekeeping.inventory import Filters, KeptRun
    from lmdbench.housekeeping.pruning import Prunable

SHORT = 3  # epochs or rounds that a run has at most which was only to try something


@click.command()
@click.option(
    "--weights",
    is_flag=True,
    help="model.safetensors of finished runs that nothing unfinished starts from.",
)
@click.option("--moved-aside", is_flag=True, help="What --force moved aside and trained anew.")
@click.option(
    "--leftovers",
    is_flag=True,
    help="Temporary files of processes that ended, and checkpoints of finished runs.",
)
@click.option(
    "--debug",
    is_flag=False,
    flag_value=SHORT,
    type=click.IntRange(min=0),
    metavar="[EPOCHS]",
    help="Whole runs that --set epochs or rounds made so short, or what they started from.  "
    f"[{SHORT}, if no number is said]",
)
@filter_options
@click.option(
    "--keep-for",
    "sweeps",
    multiple=True,
    metavar="SWEEP",
    help="Keep the weights that runs of this sweep start from which are not finished: a file or a "
    "preset (repeatable). What is launched is known without.",
)
@data_root_option
@click.option("--yes", is_flag=True, help="Do it; without, it only shows what would go.")
@results_option
def prune(
    weights: bool,
    moved_aside: bool,
    leftovers: bool,
    debug: int | None,
    filters: Filters,
    sweeps: tuple[str, ...],
    data_root: Path | None,
    yes: bool,
    results: Path,
) -> None:
    """Free room on disk: what goes, and how much it is. Without --yes nothing is removed.

    A run without its weights stands in tables, plots and reports as before, but `lmdbench predict`
    can't use it and no run can start from it until it is trained again (lmdbench run … --force).
    The options that `results list` has, too, choose the runs.

    \b
    lmdbench results prune                                  how much there is of each
    lmdbench results prune --weights --moved-aside          one line for each that would go
    lmdbench results prune --weights --method ce --yes      done
    """
    from lmdbench.housekeeping import pruning
    from lmdbench.housekeeping.inventory import choose, read_inventory

    asked = weights or moved_aside or leftovers or debug is not None
    if yes and not asked:
        raise UserError("say what goes: --weights, --moved-aside, --leftovers or --debug")
    runs = kept_runs(results)
    chosen = choose(runs, filters)
    found: dict[str, list[Prunable]] = {}
    kept: dict[str, str] = {}
    if debug is not None or not asked:
        found["debug"] = pruning.short(chosen, SHORT if debug is None else debug)
    if weights or not asked:
        gone = {thing.path for thing in found.get("debug", ())}
        stay = [run for run in chosen if run.directory not in gone]
        found["weights"], why = pruning.weights(
            runs, stay, _needed(runs, results, sweeps, data_root)
        )
        kept |= why
    if moved_aside or not asked:
        aside = read_inventory(results, moved_aside=True)
        aside = [run for run in aside if filters.fit(run)]
        found["moved aside"], why = pruning.moved_aside(aside, runs)
        kept |= why
    if leftovers or not asked:
        folders = [run.directory for run in chosen] if filters.chooses else [results]
        found["leftovers"] = pruning.leftovers(folders)
    freed = 0
    for kind, things in found.items():
        for thing in things if asked else ():
            click.echo(f"{kind}: {thing.path.relative_to(results)}  {size_text(thing.size)}")
            freed += pruning.prune(thing) if yes else 0
    for reason, number in Counter(kept.values()).items() if asked else ():
        key = next(key for key, why in kept.items() if why == reason)
        others = f" and {number - 1:,} more" if number > 1 else ""
        click.echo(f"kept: {key}{others}: {reason}", err=True)
    for kind, things in found.items():
        click.echo(f"{kind}: {len(things):,}, {size_text(sum(t.size for t in things))}")
    if yes:
        click.echo(f"{size_text(freed)} freed")
        return
    if found.get("weights"):
        click.echo(
            "without weights, `lmdbench predict` and `plot embedding` can't use a run, and nothing "
            "can start from it, until it is trained again by `lmdbench run … --force`",
            err=True,
        )
    click.echo(f"nothing was removed; {'--yes removes it' if asked else _HOW}", err=True)


_HOW = "--weights, --moved-aside, --leftovers and --debug show what, and --yes removes it"


def _needed(
    runs: Sequence[KeptRun], results: Path, sweeps: tuple[str, ...], data_root: Path | None
) -> dict[str, str]:
    """Keys of runs that sweeps may start others from → why their weights stay."""
    from lmdbench.housekeeping.pruning import may_start_from
    from lmdbench.sweep.launch_record import read_launches

    kept: dict[str, str] = {}
    planned: set[str] = set()
    for source in sweeps:
        from lmdbench.cli.sweep_common import load_plan

        nodes = load_plan(source, results, data_root).nodes
        planned |= nodes.keys()
        for key, node in nodes.items():
            above = node.run.ancestor
            if above is not None and node.run.state != "finished":
                for run in runs:
                    if run.directory.resolve() == above.directory.resolve():
                        kept[run.key] = f"{source} has {key} to come, which starts from it"
    damaged: list[Path] = []
    launches = read_launches(results, damaged)
    if damaged:
        raise UserError(
            f"{damaged[0]}: damaged, so nobody knows which runs are to come; move it away once its "
            "launch is over"
        )
    pending = {
        key: str(folder.relative_to(results))
        for folder, launch in launches
        if not launch.cancelled
        for keys in launch.units
        for key in keys
        if key not in planned
    }
    for run in runs:
        if run.state == "running" and run.run is None:  # so new that it has no record yet
            pending[run.key] = "a worker"
    return kept | may_start_from(runs, pending)
