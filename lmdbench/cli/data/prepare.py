"""``lmdbench data prepare``: decode and resize a data set's images once, for every split of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from lmdbench.cli.completion import complete
from lmdbench.cli.options import (
    data_root_option,
    json_option,
    make_dataset,
    parse_size,
    plugin_option,
    skip_damaged_option,
    stop_on_sigterm,
)
from lmdbench.cli.text import json_text
from lmdbench.core.errors import Interrupted, UserError
from lmdbench.core.folders import default_cache

MOST_WORKERS = 256
MOST_NAMED = 20  # damaged images that are printed


@click.command()
@click.argument("name", shell_complete=complete("datasets"))
@data_root_option
@click.option(
    "--image-size",
    "sizes",
    multiple=True,
    metavar="PIXELS",
    help="Side; give it several times for several sizes.  [default: the data set's]",
)
@click.option(
    "--allow-missing", is_flag=True, help="Go on with the images of the table that are there."
)
@skip_damaged_option
@click.option("--workers", metavar="N", help="Threads.  [default: one a processor]")
@plugin_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@json_option
def prepare(
    name: str,
    data_root: Path | None,
    sizes: tuple[str, ...],
    allow_missing: bool,
    skip_damaged: bool,
    workers: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Decode and resize all images of a data set's table, once, into the cache.

    Every split and every run uses them. A preparation that was stopped or killed goes on where it
    was. Images that cannot be read are named, all at once.

    \b
    lmdbench data prepare isic2019 --data-root ~/data
    lmdbench data prepare isic2019 --data-root ~/data --image-size 224 --image-size 64
    """
    stop_on_sigterm()
    from lmdbench.data.vectors import refuse_vectors

    data = make_dataset(name, data_root)
    refuse_vectors(data.vectors, "data prepare", "there is nothing to prepare")
    chosen = list(dict.fromkeys(map(parse_size, sizes))) or [data.image_size]
    threads = parse_workers(workers)

    from lmdbench.core.progress import watcher
    from lmdbench.data.splits.availability import table_files
    from lmdbench.data.store.damage import damaged_images
    from lmdbench.data.store.store import open_images
    from lmdbench.data.store.survey import asked_scale

    progress = watcher(quiet)
    made, asked = [], asked_scale(data)
    damaged: dict[str, str] = {}
    try:
        files, missing = table_files(data, allow_missing, progress.say)
        for size in chosen:
            started = time.monotonic()
            tick = partial(progress.prepare, what=f"{data.results_name} at {size} px")
            if skip_damaged:
                where = (data.results_name, files, size, default_cache())
                damaged |= damaged_images(*where, tick, threads, asked=asked)
                files = _without(data.results_name, files, damaged)
            store = open_images(
                data.results_name, files, size, default_cache(), tick, threads, asked=asked
            )
            progress.end()
            made.append(
                {
                    "image_size": size,
                    "images": len(store.index),
                    "bytes": store.pixels.numel(),
                    "folder": str(store.folder),
                    "made": store.made,
                    "seconds": time.monotonic() - started,
                    "remarks": list(store.survey.lines),
                }
            )
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped; what was decoded is kept: the same command goes on from there"
        ) from None
    finally:
        progress.end()
    if as_json:
        facts = {"name": name, "images": len(files), "missing": missing, "damaged": damaged}
        click.echo(json_text({**facts, "stores": made}))
    elif not quiet:
        click.echo(_text(data.results_name, len(files), missing, damaged, made))


def _named(damaged: Mapping[str, str]) -> list[str]:
    named = [f"damaged    {image} ({why})" for image, why in damaged.items()]
    more = len(named) - MOST_NAMED
    return named[:MOST_NAMED] + [f"and {more:,} more, see --json"] * (more > 0)


def parse_workers(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_WORKERS:
        raise UserError(f"--workers {text!r}: give a number of threads from 1 to {MOST_WORKERS}")
    return int(text)


def _without(name: str, files: Mapping[str, Path], damaged: Mapping[str, str]) -> dict[str, Path]:
    kept = {image: file for image, file in files.items() if image not in damaged}
    if files and not kept:
        raise UserError(f"none of the {len(files):,} images of {name} can be read")
    return kept


def _text(
    name: str,
    images: int,
    missing: int,
    damaged: Mapping[str, str],
    stores: Sequence[dict[str, Any]],
) -> str:
    lacking = f", {missing:,} are missing" if missing else ""
    lacking += f", {len(damaged):,} are damaged and left out" if damaged else ""
    of = f" of {images + missing + len(damaged):,}" if lacking else ""
    lines = [f"{name}: {images:,} images{of}{lacking}", *_named(damaged)]
    for store in stores:
        seconds = store["seconds"]
        pace = f"made in {seconds:.1f} s, {images / seconds:,.0f} images/s"
        lines.append(
            f"{store['image_size']:>5} px  {store['bytes'] / 1e6:>8,.1f} MB  "
            f"{pace if store['made'] else 'there already'}  {store['folder']}"
        )
    remarks = dict.fromkeys(remark for store in stores for remark in store["remarks"])
    return "\n".join([*lines, *remarks])
