"""``lmdbench tune``: settings for every method of a sweep, each from the same number of trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import json_option, parse_numbers, plugin_option
from lmdbench.cli.sweep_common import CODES, note, sweep_options
from lmdbench.cli.sweep_start import StartOptions, place_of, start_plan, where_options
from lmdbench.cli.text import json_text, table
from lmdbench.core.errors import RunFailed
from lmdbench.core.folders import default_cache

if TYPE_CHECKING:
    from rich.table import Table

    from lmdbench.sweep.status import Overview
    from lmdbench.sweep.tune.study import MethodTrials, Result, SetupTrials, Study


@click.command()
@sweep_options
@plugin_option
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Of each method on each data set: its own settings, and N − 1 random draws.",
)
@click.option(
    "--rule",
    default="best",
    show_default=True,
    metavar="NAME",
    help="best: the highest validation balanced accuracy. one-se: a method's own settings, unless "
    "a draw is better by more than one standard error.",
)
@click.option(
    "--trial-seeds", default="0", show_default=True, metavar="LIST", help="Seeds of each trial."
)
@click.option(
    "--tune-seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Of the draws.",
)
@where_options
@click.option(
    "--accept-changed", is_flag=True, help="Trust runs made by code or images that changed since."
)
@click.option("--dry-run", is_flag=True, help="Show the trials, and start nothing.")
@json_option
def tune(
    source: str,
    results: Path,
    data_root: Path | None,
    trials: int,
    rule: str,
    trial_seeds: str,
    tune_seed: int,
    accept_changed: bool,
    dry_run: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Choose settings for each method of a sweep, then run its seeds with them.

    Every method gets the same number of trials on each data set and split, and is judged by its
    validation images; no test image is looked at. The same command repeated goes on: it starts the
    trials that are missing, chooses when all are over, and starts the seeds. On this machine it
    does so in one go; on SLURM it submits and returns.

    \b
    lmdbench tune demo --trials 4 --workers 2
    lmdbench tune my-sweep.toml --rule one-se --on slurm
    """
    seeds = tuple(parse_numbers(trial_seeds, "--trial-seeds"))

    from lmdbench.sweep.config.file import read_sweep
    from lmdbench.sweep.executors import LOCAL
    from lmdbench.sweep.launch import LAUNCH
    from lmdbench.sweep.status import look
    from lmdbench.sweep.tune.study import (
        Search,
        chosen_plans,
        joined,
        judge,
        plan_study,
        write_chosen,
        write_sweeps,
        write_trials,
    )

    sweep = read_sweep(source, data_root and data_root.absolute())
    options = StartOptions(accept_changed=accept_changed, **where)
    search = Search(trials, rule, seeds, tune_seed)
    # Workers elsewhere must find the same folders, wherever they are started.
    results, cache = results.absolute(), default_cache().absolute()
    study = plan_study(sweep, search, results, cache, note)
    if not dry_run:
        write_sweeps(study)
    overview = look(study.plan)
    found = judge(study, overview, accept_changed=accept_changed)
    if dry_run:
        if as_json:
            _report(study, found, overview, [], as_json=True)
        else:
            _list_trials(study, found)
            _summarize(study, overview, [])
        return
    write_trials(study, found)
    if any(choice.pending for choices in found for choice in choices):
        overview = start_plan(study.plan, LAUNCH, options)
        found = judge(study, overview, accept_changed=accept_changed)
        write_trials(study, found)
    after: list[Overview] = []
    if not any(choice.pending for choices in found for choice in choices):
        plans = chosen_plans(study, found)
        for plan in plans:
            if plan.nodes:
                write_chosen(study, plan.sweep)
        start_plan(joined(plans, f"{sweep.name}-chosen", sweep.name), LAUNCH, options)
        after = [look(plan) for plan in plans]
    _report(study, found, overview, after, as_json=as_json)
    _complain(found, overview, after)
    done = bool(after) and all(one.count("done") == len(one.runs) for one in after)
    if place_of(study.plan, options) == LOCAL and not done:
        click.get_current_context().exit(CODES["unfinished"])


def _list_trials(study: Study, found: Sequence[Sequence[MethodTrials]]) -> None:
    """Every trial with the settings that are searched."""
    from lmdbench.sweep.tune.study import settings_text

    for place, choices in zip(study.places, found, strict=True):
        rows = [
            (
                choice.entry.label or choice.entry.method,
                str(result.trial.number),
                result.fate,
                settings_text(result),
            )
            for choice in choices
            for result in choice.results
        ]
        click.echo(f"\n{place.dataset} {place.split}: trials, the first with its own settings")
        click.echo(table(("method", "trial", "state", "settings"), rows))


def _report(
    study: Study,
    found: Sequence[Sequence[MethodTrials]],
    overview: Overview,
    after: Sequence[Overview],
    *,
    as_json: bool,
) -> None:
    """What was tried and chosen, and how far it is. ``after``: of the seeds, for each place."""
    if as_json:
        records = [
            _record(place, choices, after[number] if after else None)
            for number, (place, choices) in enumerate(zip(study.places, found, strict=True))
        ]
        content = {
            "sweep": study.sweep.name,
            "source": study.sweep.source,
            **vars(study.search),
            "folder": str(study.folder),
            "trial_runs": dict(_states([overview])),
            "chosen_runs": dict(_states(after)),
            "set_ups": records,
        }
        click.echo(json_text(content))
        return
    from rich.console import Console

    console = Console(highlight=False)
    for number, (place, choices) in enumerate(zip(study.places, found, strict=True)):
        click.echo(f"\n{place.dataset} {place.split}: validation balanced accuracy of the trials")
        console.print(_table(choices, after[number] if after else None))
    _summarize(study, overview, after)


def _summarize(study: Study, overview: Overview, after: Sequence[Overview]) -> None:
    click.echo(f"\n{study.sweep.name}: {study.search}")
    click.echo(f"trials: {_in_words([overview])}")
    if after:
        click.echo(f"seeds with the chosen settings: {_in_words(after)}")
    if _states([overview, *after]).keys() & {"queued", "running", "stalled"}:
        click.echo("some are under way: give the same command again when they are done")
    if study.folder.is_dir():
        click.echo(f"what was tried: {study.folder}")


def _table(choices: Sequence[MethodTrials], after: Overview | None) -> Table:
    """A method a row: its trials, what its own settings came to, what was chosen, its seeds."""
    from rich.markup import escape
    from rich.table import Table

    from lmdbench.sweep.tune.search import searched
    from lmdbench.sweep.tune.study import runs_of, settings_text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("method", "trials", "own", "chosen", "settings chosen", "seeds"):
        table.add_column(column, overflow="fold", no_wrap=column in ("own", "chosen"))
    for choice in choices:
        own, used = choice.results[0], choice.used
        fates = Counter(result.fate for result in choice.results)
        tried = ", ".join(f"{n} {fate}" for fate, n in fates.items())
        settings = "" if used is None else settings_text(used) if choice.chosen else "its own"
        if not searched(choice.entry):
            tried, settings = f"{tried}: nothing to search", "its own"
        seeds = ""
        if after is not None and used is not None:
            runs = runs_of(after.plan, used.trial.tried)
            done = sum(after.runs[node.key].state == "done" for node in runs)
            seeds = f"{done} of {len(runs)} done"
        row = (tried, _score(own), _score(used), settings, seeds)
        table.add_row(escape(choice.entry.label or choice.entry.method), *map(escape, row))
    return table


def _score(result: Result | None) -> str:
    if result is None or result.validation is None:
        return ""
    return f"{result.validation.score:.3f}"


def _record(
    place: SetupTrials, choices: Sequence[MethodTrials], after: Overview | None
) -> dict[str, Any]:
    """What became of a place's trials, as plain data."""
    from lmdbench.sweep.tune.search import searched

    return {
        "data_set": place.dataset,
        "split": place.split,
        "chosen_file": after and after.plan.sweep.source,
        "methods": [
            {
                "method": choice.entry.method,
                "label": choice.entry.label,
                "searched": {name: str(s.range) for name, s in searched(choice.entry).items()},
                "chosen": choice.chosen,
                "trials": [
                    {
                        "settings": dict(result.trial.tried.settings),
                        "state": result.fate,
                        "score": result.validation and result.validation.score,
                        "scores": list(result.scores),
                        "runs": [node.key for node in result.runs],
                    }
                    for result in choice.results
                ],
            }
            for choice in choices
        ],
    }


def _states(overviews: Sequence[Overview]) -> Counter[str]:
    return Counter(one.state for overview in overviews for one in overview.runs.values())


def _in_words(overviews: Sequence[Overview]) -> str:
    return " · ".join(f"{n} {state}" for state, n in _states(overviews).items()) or "none"


def _complain(
    found: Sequence[Sequence[MethodTrials]], overview: Overview, after: Sequence[Overview]
) -> None:
    """Raise RunFailed for a method of which no trial worked, and for runs lost or failed."""
    lost = sum(one.count("lost") for one in (overview, *after))
    if lost:
        raise RunFailed(f"{lost} runs were lost: give the same command again, which goes on")
    for choices in found:
        for choice in choices:
            if choice.used is None and not choice.pending:
                why = next(note for result in choice.results for note in result.notes if note)
                raise RunFailed(
                    f"every trial of {choice.entry.label or choice.entry.method} failed: {why}; "
                    "mend it, then `lmdbench sweep retry` the trials' file and tune again"
                )
    for one in after:
        if one.count("failed"):
            raise RunFailed(
                f"{one.count('failed')} runs with the chosen settings failed; try them again: "
                f"lmdbench sweep retry {one.plan.sweep.source}"
            )
