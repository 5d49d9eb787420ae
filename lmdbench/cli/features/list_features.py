"""``lmdbench features list``: the features that are kept in the cache."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import json_option
from lmdbench.cli.text import json_text, table
from lmdbench.core.folders import default_cache
from lmdbench.core.words import size

if TYPE_CHECKING:
    from lmdbench.runs.feature_files import KeptFeatures

HEADER = ("data set", "px", "backbone", "weights", "views", "images", "size", "last used")
WEIGHTS_SHOWN = 30  # letters


@click.command("list")
@json_option
def list_features(as_json: bool) -> None:
    """The features in the cache: of what, by what, how large, and when a run last used them.

    A folder of them may be removed at any time: who needs it computes it anew.
    """
    from lmdbench.runs.feature_files import FOLDER, kept_features

    cache = default_cache()
    kept = list(kept_features(cache))
    if as_json:
        click.echo(json_text([_facts(one) for one in kept]))
    elif kept:
        click.echo(table(HEADER, [_row(one) for one in kept], right=(1, 4, 5, 6)))
        total = size(sum(one.bytes for one in kept))
        click.echo(f"\n{total} in {cache / FOLDER}")
    else:
        click.echo(f"no features in {cache / FOLDER}")


def _row(kept: KeptFeatures) -> tuple[str, ...]:
    used = f"{datetime.fromtimestamp(kept.last_used, UTC):%Y-%m-%d}"
    record = kept.record
    if record is None:
        name = f"{kept.folder.name} (without a record of what it is)"
        return (name, "", "", "", "", "", size(kept.bytes), used)
    return (
        *(record.dataset, str(record.image_size), record.backbone),
        *(record.weights[:WEIGHTS_SHOWN], str(record.drawn_views or "test")),
        *(f"{record.images:,} × {record.width:,}", size(kept.bytes), used),
    )


def _facts(kept: KeptFeatures) -> dict[str, Any]:
    used = datetime.fromtimestamp(kept.last_used, UTC).isoformat(timespec="seconds")
    record = asdict(kept.record) if kept.record else None
    return {
        "folder": str(kept.folder),
        "bytes": kept.bytes,
        "last_used": used,
        "record": record,
    }
