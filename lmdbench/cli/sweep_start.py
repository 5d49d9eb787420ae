"""Start runs of a sweep: what ``launch``, ``retry`` and ``tune`` have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lmdbench.cli.completion import complete
from lmdbench.cli.options import stacked, stop_on_sigterm
from lmdbench.cli.sweep_common import again, counts, load_plan, note, runs
from lmdbench.core.errors import RunFailed, UserError, told_of
from lmdbench.core.files import check_writable
from lmdbench.core.folders import default_cache
from lmdbench.core.system import check_workers
from lmdbench.core.words import count

if TYPE_CHECKING:
    from lmdbench.runs.options import RunOptions
    from lmdbench.sweep.executors import JobExecutor
    from lmdbench.sweep.executors.pool import PoolOptions
    from lmdbench.sweep.launch import LaunchSet
    from lmdbench.sweep.plan import Node, SweepPlan
    from lmdbench.sweep.status import Overview, State

Command = TypeVar("Command", bound=Callable[..., Any])
MOST_HELD = 5  # runs held back that are named


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """How runs are started; None: as the sweep's file says."""

    on: str | None = None
    workers: int | None = None
    gpus: str | None = None
    runs_per_gpu: int | None = None
    join: bool = False
    accept_changed: bool = False
    redo_changed: bool = False
    dry_run: bool = False
    follow: bool = False
    quiet: bool = False

    def of_runs(self, planned: SweepPlan) -> RunOptions:
        """How its runs are carried out: as the sweep's file says, but for what is given here."""
        return replace(
            planned.sweep.resources.run,
            accept_changed=self.accept_changed,
            redo="changed" if self.redo_changed else "unfinished",
        )


def where_options(command: Command) -> Command:
    """``--on``, and what a pool here works on: where runs are done."""
    on = click.option(
        "--on",
        metavar="EXECUTOR",
        shell_complete=complete("executors"),
        help="local: this machine; slurm: a SLURM cluster; others: lmdbench list executors."
        "  [default: the file's, else local]",
    )
    return stacked(command, (on, pool_where))


def pool_where(command: Command) -> Command:
    """``--workers``, ``--gpus``, ``--runs-per-gpu``: what a pool on this machine works on."""
    options = (
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Work on the CPU, N runs at a time.  [default: one worker a GPU]",
        ),
        click.option("--gpus", metavar="LIST", help="Such as 0,1 or 0-3.  [default: all]"),
        click.option(
            "--runs-per-gpu",
            type=click.IntRange(min=1),
            metavar="N",
            help="Small runs side by side on one GPU.  [default: the file's, else 1]",
        ),
    )
    return stacked(command, options)


def start_options(command: Command) -> Command:
    """The options of a command that starts runs, which passes them to ``start``."""
    options = (
        where_options,
        click.option(
            "--join",
            is_flag=True,
            help="Help other launches with what they have queued on their machines.",
        ),
        click.option(
            "--accept-changed",
            is_flag=True,
            help="Start from runs made by code that changed since.",
        ),
        click.option(
            "--redo-changed",
            is_flag=True,
            help="Move such runs aside and train them anew, with what starts from them.",
        ),
        click.option("--dry-run", is_flag=True, help="Show what would be started."),
        click.option(
            "--follow",
            is_flag=True,
            help="Where a queue takes only some jobs at a time: stay, and submit the rest as room "
            "comes.",
        ),
        click.option("--quiet", is_flag=True, help="Print nothing but errors."),
    )
    return stacked(command, options)


def start(
    source: str, results: Path, data_root: Path | None, states: Sequence[State], **options: Any
) -> None:
    """Start the runs of a sweep that are in one of the states, and tell what became of them.

    Raises RunFailed if some ended otherwise than done.
    """
    chosen_options = StartOptions(**options)
    planned = load_plan(source, results, data_root)
    overview = start_plan(planned, states, chosen_options)
    if not chosen_options.dry_run:
        on = place_of(planned, chosen_options)
        finish(overview, source, on, quiet=chosen_options.quiet)


def place_of(planned: SweepPlan, options: StartOptions) -> str:
    """The executor that does the runs. Raises UserError for options that do not go together."""
    from lmdbench.sweep.executors import EXECUTORS, LOCAL

    here = {
        "--workers": options.workers,
        "--gpus": options.gpus,
        "--runs-per-gpu": options.runs_per_gpu,
    }
    given = [name for name, value in here.items() if value is not None]
    if options.on is not None:
        with told_of("--on"):
            EXECUTORS.get(options.on)
    if options.on not in (None, LOCAL) and given:
        raise UserError(f"{given[0]} is for this machine; leave it out, or --on {options.on}")
    if options.workers is not None and len(given) > 1:
        raise UserError(f"--workers is for the CPU, {given[1]} for GPUs; give one of them")
    return options.on or (LOCAL if given else planned.sweep.resources.on)


def finish(overview: Overview, source: str, on: str, *, quiet: bool) -> None:
    """Say how the sweep stands, and end as ``status`` does: 0 for all done, 3 for work left.

    Where runs are only submitted, 0 once all are. Raises RunFailed if something failed or was
    lost.
    """
    from lmdbench.cli.sweep_common import CODES, exit_code
    from lmdbench.sweep.executors import LOCAL

    name = overview.plan.sweep.name
    if not quiet:
        click.echo(f"{name}: {counts(overview)}")
        if overview.count("done") == len(overview.runs):
            click.echo(f"all in one table: {again('compare --sweep', source)}")
        elif on == LOCAL and overview.count("queued", "running", "stalled"):
            note(f"another launch is at it: {again('sweep status', source)}")
    if on != LOCAL:
        if overview.no_room:
            click.get_current_context().exit(CODES["unfinished"])
        return
    broken = overview.keys("failed", "lost", "damaged")
    if broken:
        first = overview.runs[broken[0]]
        raise RunFailed(
            f"{runs(len(broken))} of {name} failed, were lost or are damaged, such as "
            f"{first.node.title}"
            f"{f' ({first.note})' if first.note else ''}; "
            f"try them again: {again('sweep retry', source)}"
        )
    click.get_current_context().exit(exit_code(overview))


def start_plan(planned: SweepPlan, states: Sequence[State], options: StartOptions) -> Overview:
    """Start the runs of a plan that are in one of the states, and what belongs with them.

    On this machine it returns when all are over, elsewhere once they are submitted. Returns how
    things stand then.
    """
    from lmdbench.sweep.executors import LOCAL, job_executor
    from lmdbench.sweep.launch import launching, note_ends
    from lmdbench.sweep.status import look
    from lmdbench.training.loggers import check_loggers

    say: Callable[[str], None] = (lambda _: None) if options.quiet else note
    if options.accept_changed and options.redo_changed:
        raise UserError("--accept-changed and --redo-changed: give one of them")
    on = place_of(planned, options)
    executor = None if on == LOCAL else job_executor(on)
    if executor is not None:
        with told_of(planned.sweep.argument):
            executor.asked(executor.check, planned.sweep.resources)
    elif options.follow:
        raise UserError("--follow is for queues; on this machine launch stays until all is done")
    check_loggers(planned.sweep.resources.run.log)
    for remark in planned.remarks:
        say(remark)
    if options.dry_run:
        overview = look(planned)
        chosen = _choose(overview, states, options, say, executor)
        _show(planned, chosen, overview, executor)
        return overview
    check_writable(planned.results)
    if options.follow and executor is not None:
        from lmdbench.cli.sweep_follow import follow

        def choose_now(overview: Overview, tell: Callable[[str], None]) -> LaunchSet:
            chosen = _choose(overview, states, options, tell, executor)
            check_weights(chosen.nodes)
            return chosen

        return follow(planned, options.of_runs(planned), say, executor, choose_now)
    with launching(planned.results, say):
        overview = look(planned)
        note_ends(overview)
        chosen = _choose(overview, states, options, say, executor)
        if not chosen.nodes and not _workers_lack(overview, executor):
            say(f"{planned.sweep.name}: nothing to start")
            return overview
        check_weights(chosen.nodes)
        if executor is not None:
            from lmdbench.cli.sweep_follow import submit, tell_rest

            of_runs = options.of_runs(planned)
            submitted = submit(planned, chosen, overview, of_runs, say, executor)
            tell_rest(planned, submitted, note)
            if not planned.belongs_to:
                say(f"what becomes of them: {again('sweep status', planned.sweep.argument)}")
            return replace(look(planned), no_room=len(submitted.left))
        pool = _open_pool(planned, chosen, options)
    stop_on_sigterm()
    pool()
    return look(planned)


def _choose(
    overview: Overview,
    states: Sequence[State],
    options: StartOptions,
    say: Callable[[str], None],
    executor: JobExecutor | None,
) -> LaunchSet:
    """What to start. Says what is held back, and why."""
    from lmdbench.sweep.launch import choose

    if overview.silent and executor is None:
        say(f"{overview.silent}; what was submitted there is left alone")
    elif overview.silent:
        raise UserError(f"nothing is started, as it could be done twice: {overview.silent}")
    chosen = choose(overview, states, options.of_runs(overview.plan), join=options.join)
    for key, why in list(chosen.held.items())[:MOST_HELD]:
        say(f"held back: {overview.runs[key].node.title}: {why}")
    if len(chosen.held) > MOST_HELD:
        say(f"held back: {runs(len(chosen.held) - MOST_HELD)} more")
    taken = {node.key for node in chosen.nodes} | chosen.held.keys()
    damaged = [key for key in overview.keys("damaged") if key not in taken]
    if damaged:
        first = overview.runs[damaged[0]]
        say(
            f"left alone: {runs(len(damaged))} damaged, such as {first.node.title} ({first.note}); "
            f"{again('sweep retry', overview.plan.sweep.argument)} trains them anew"
        )
    failed = [key for key in overview.keys("failed") if key not in {n.key for n in chosen.nodes}]
    if failed and not overview.plan.belongs_to:  # a trial that fails is spent
        say(
            f"left alone: {runs(len(failed))} that failed; "
            f"{again('sweep retry', overview.plan.sweep.argument)} tries them again"
        )
    changed = overview.keys("changed")
    if changed and not (options.accept_changed or options.redo_changed):
        first = overview.runs[changed[0]]
        say(
            f"left alone: {runs(len(changed))} that changed, such as {first.node.title} "
            f"({first.note}); --redo-changed trains them anew, --accept-changed starts from them"
        )
    return chosen


def _workers_lack(overview: Overview, executor: JobExecutor | None) -> bool:
    """Whether workers are to be submitted though nothing else is to be started."""
    from lmdbench.sweep.worker_jobs import workers_lack, works_by_workers

    return works_by_workers(overview.plan, executor) and workers_lack(overview) > 0


def check_weights(nodes: Sequence[Node]) -> None:
    """Fetch pretrained weights that lack while there is a network: compute nodes may have none.

    Raises UserError where that fails.
    """
    from lmdbench.models.backbones import build_encoder

    needed = {
        (node.run.context.backbone.name, node.run.context.weights.identity): node.run
        for node in nodes
        if node.run.ancestor is None and node.run.context.weights.identity != "none"
    }
    for run in needed.values():
        build_encoder(run.context.backbone, run.context.weights, partial(click.echo, err=True))


def pool_options(planned: SweepPlan, options: StartOptions) -> PoolOptions:
    """What a pool of workers on this machine works on. Raises UserError for what is not there."""
    check_workers()
    from lmdbench.cli.options import parse_numbers
    from lmdbench.sweep.executors.local import make_slots
    from lmdbench.sweep.executors.pool import PoolOptions

    resources = planned.sweep.resources
    gpus = resources.gpus if options.gpus is None else tuple(parse_numbers(options.gpus, "--gpus"))
    on_gpus = options.gpus is not None or options.runs_per_gpu is not None
    workers = options.workers or (None if on_gpus else resources.workers)
    found = PoolOptions(
        results=planned.results,
        cache=default_cache(),
        folder=planned.folder,
        name="",
        workers=workers,
        gpus=gpus,
        runs_per_gpu=options.runs_per_gpu or resources.runs_per_gpu,
        needs_gpu=on_gpus or resources.runs_per_gpu > 1,
        threads=resources.threads,
        patience=resources.patience,
        retry=resources.retry,
        run=options.of_runs(planned),
        plugins=planned.sweep.plugins,
    )
    make_slots(found)  # before anything is recorded
    return found


def _open_pool(planned: SweepPlan, chosen: LaunchSet, options: StartOptions) -> Callable[[], None]:
    """Record and claim a pool of workers. Returns what makes it work, until all is over."""
    from contextlib import ExitStack

    from lmdbench.cli.sweep_live import pool_watcher
    from lmdbench.sweep.executors.local import run_locally
    from lmdbench.sweep.executors.watcher import PoolWatcher
    from lmdbench.sweep.launch import opened_pool, pool_jobs

    given = pool_options(planned, options)
    stack = ExitStack()
    name = stack.enter_context(opened_pool(planned, chosen.nodes, given.run))
    watcher = PoolWatcher() if options.quiet else pool_watcher(planned.sweep.name)

    def work() -> None:
        with stack:
            run_locally(pool_jobs(chosen.nodes), replace(given, name=name), watcher)

    return work


def _show(
    planned: SweepPlan, chosen: LaunchSet, overview: Overview, executor: JobExecutor | None
) -> None:
    """What would be started: the runs, or the jobs."""
    from lmdbench.sweep.executors.batches import Batch, resources_of
    from lmdbench.sweep.launch import batches, most_array_tasks
    from lmdbench.sweep.worker_jobs import workers_lack, works_by_workers

    states = Counter(overview.runs[node.key].state for node in chosen.nodes)
    what = ", ".join(f"{n} {state}" for state, n in states.items())
    click.echo(f"{planned.sweep.name}: would start {runs(len(chosen.nodes))} ({what or 'none'})")
    if executor is None:
        for node in chosen.nodes:
            after = f", after {planned.nodes[node.needs].title}" if node.needs else ""
            click.echo(f"  {node.title}{after}")
        return
    if works_by_workers(planned, executor):
        lack = workers_lack(overview, len(chosen.nodes))
        offered = tuple(node.job for node in chosen.nodes)
        found, jobs = ([Batch((offered,), workers=lack)] if lack else []), dict[str, str]()
    else:
        largest = most_array_tasks(executor)
        found, jobs = batches(planned, chosen.nodes, overview, executor, largest)
    for number, batch in enumerate(found):
        name = f"{planned.sweep.name}-{number}"
        click.echo(f"\n# job array {number + 1} of {len(found)}: {count(len(batch.tasks), 'job')}")
        for index, unit in enumerate(batch.units):
            for run in unit:
                click.echo(f"#   {index}: {planned.nodes[run.key].title}")
        resources = resources_of(batch, planned.sweep.resources)
        click.echo(executor.preview(batch, name, planned.folder, resources, jobs))
