"""``lmdbench data download``: fetch a data set from its official addresses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmdbench.cli.completion import complete
from lmdbench.cli.options import data_root_option, plugin_option, stop_on_sigterm
from lmdbench.core.errors import Interrupted, UserError
from lmdbench.core.words import no_secrets

if TYPE_CHECKING:
    from lmdbench.core.progress import Progress
    from lmdbench.data.dataset import Dataset
    from lmdbench.download.fetch import Job

MOST_WORKERS = 32  # connections that a public archive should bear with


@click.command()
@click.argument("name", shell_complete=complete("datasets"))
@data_root_option
@click.option(
    "--mirror",
    metavar="URL",
    envvar="LMDBENCH_MIRROR",
    help="Fetch https://HOST/PATH from URL/HOST/PATH instead, for every address: the layout of "
    "`wget -x`.  [default: $LMDBENCH_MIRROR]",
)
@click.option(
    "--remove-archives/--keep-archives",
    default=False,
    help="Delete a zip file once it is unpacked and checked, or keep it.  [default: keep]",
)
@click.option(
    "--workers",
    metavar="N",
    default=8,
    show_default=True,
    type=click.IntRange(1, MOST_WORKERS),
    help="Images fetched at a time, where they come one by one.",
)
@plugin_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def download(
    name: str,
    data_root: Path | None,
    mirror: str | None,
    remove_archives: bool,
    workers: int,
    quiet: bool,
) -> None:
    """Fetch the images and tables of a data set to where it looks for them, below --data-root.

    What is there is not fetched again. Stopped at any moment, the same command goes on from there.

    \b
    lmdbench data download isic2019 --data-root ~/data
    lmdbench data download hyper-kvasir --data-root ~/data --remove-archives
    lmdbench data download isic-archive --data-root ~/data --mirror http://mirror.example.org
    """
    from lmdbench.data.dataset import DATASETS

    kind = DATASETS.get(name)
    if kind.downloads is None:
        click.echo(f"data set {name} has nothing to download: {nothing_because(kind)}")
        return
    if data_root is None:
        raise UserError(
            f"data set {name} needs --data-root DIR (or LMDBENCH_DATA): where to put it"
        )

    from lmdbench.core.progress import watcher
    from lmdbench.download.fetch import Job, is_complete, run, summary, tidy

    home = kind.downloads.home(data_root.absolute())
    job = Job(name, kind.downloads, home, checked_mirror(mirror), workers, remove_archives)
    progress = watcher(quiet)
    stop_on_sigterm()
    try:
        already = is_complete(job)
        if not already:
            announce(kind, job, progress)
            run(job, progress)
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped; what was fetched stays: the same command goes on from there"
        ) from None
    archives = tidy(job)
    if not quiet:
        click.echo(f"{name} is {'there already' if already else 'complete'}: {summary(job)}")
        if archives:
            click.echo(archives)


def nothing_because(kind: type[Dataset]) -> str:
    if kind.synthetic:
        return "its images are drawn when they are first used"
    return kind.source or "its files are your own"


def announce(kind: type[Dataset], job: Job, progress: Progress) -> None:
    """Say what comes from where to where, under which licence, and what to cite."""
    progress.say(f"{kind.name}: {kind.title}")
    progress.say(f"licence  {kind.licence}")
    for text in kind.citation:
        progress.say(f"cite     {text}")
    for source in job.downloads.sources:
        progress.say(f"from     {source.url}")
        progress.say(f"to       {job.home.place(source.target)}")
    if job.mirror is not None:
        progress.say(f"mirror   {no_secrets(job.mirror)} stands for https: in these addresses")


def checked_mirror(mirror: str | None) -> str | None:
    """Without a slash at the end; None for none. Raises UserError for what is no web address."""
    if not mirror:
        return None
    if not re.match(r"https?://[^/\s]+", mirror):
        raise UserError(
            f"--mirror {no_secrets(mirror)!r}: give an address that begins with http:// or https://"
        )
    return mirror.rstrip("/")
