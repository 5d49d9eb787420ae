"""``lmdbench features write``: a data set's features by a backbone, for other code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmdbench.cli.completion import complete_backbone
from lmdbench.cli.options import (
    check_output,
    data_root_option,
    dataset_option,
    only,
    parse_device,
    parse_size,
    plugin_option,
    precision_option,
    skip_damaged_option,
    split_options,
    stop_on_sigterm,
)
from lmdbench.core.errors import Interrupted, UserError
from lmdbench.core.folders import default_cache

if TYPE_CHECKING:
    from lmdbench.data.dataset import Split
    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.runs.frozen import Features

SUFFIXES = (".npz", ".csv")


@click.command()
@dataset_option
@click.option(
    "--backbone",
    required=True,
    metavar="NAME",
    shell_complete=complete_backbone,
    help="Such as efficientnet-lite0 or timm/NAME.",
)
@click.option(
    "--weights",
    metavar="imagenet|pretrained|FILE",
    help="Of the backbone.  [default: the data set's]",
)
@click.option("--image-size", metavar="PIXELS", help="Side.  [default: the data set's]")
@click.option(
    "--feature-views",
    type=click.IntRange(0, 999),
    default=0,
    metavar="K",
    help="Encode K strong views of each image as well, for runs with the same option.",
)
@split_options
@data_root_option
@click.option("--allow-missing", is_flag=True, help="Go on with the images there are.")
@skip_damaged_option
@precision_option
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="A .npz or .csv file of ids, labels, parts and features of the test view.  "
    "[default: none, they are kept in the cache alone]",
)
@plugin_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def write(
    dataset: str,
    backbone: str,
    weights: str | None,
    image_size: str | None,
    feature_views: int,
    choices: list[SplitSpec],
    data_root: Path | None,
    allow_missing: bool,
    skip_damaged: bool,
    precision: str,
    device: str,
    output: Path | None,
    quiet: bool,
) -> None:
    """Compute the features of a data set's images by an encoder that is not trained.

    They are those that runs of `--backbone frozen/NAME` on the same split use, and are computed
    once for both. An .npz file has the arrays ids, labels (names of classes), parts and features
    (N, D) float32; a CSV file has the columns id, label, part, f0, f1 …

    \b
    lmdbench features write --dataset isic2019 --data-root ~/data \\
      --backbone efficientnet-lite0 --output lite0.npz
    """
    stop_on_sigterm()
    if output is not None:
        if output.suffix not in SUFFIXES:
            raise UserError(f"--output {output}: its name must end in {' or '.join(SUFFIXES)}")
        check_output(output)
    size = None if image_size is None else parse_size(image_size)
    chosen = parse_device(device)

    from lmdbench.core.progress import watcher
    from lmdbench.data.store.store import open_store
    from lmdbench.data.vectors import refuse_vectors
    from lmdbench.models.backbones import build_encoder
    from lmdbench.runs.frozen import open_features
    from lmdbench.runs.model import autocast_type
    from lmdbench.runs.request import Contexts, RunContext

    progress, cache = watcher(quiet), default_cache()
    asked = RunContext(
        dataset=dataset,
        data_root=data_root,
        split=only(choices),
        allow_missing=allow_missing,
        skip_damaged=skip_damaged,
        backbone=backbone,
        weights=weights,
        image_size=size,
        precision=precision,  # type: ignore[arg-type]
        tuning="head",
        feature_views=feature_views,
    )
    contexts = Contexts(Path(), cache, files=True, say=progress.say, progress=progress.prepare)
    refuse_vectors(
        contexts.dataset(asked).vectors, "features write", "they are in its file already"
    )
    context = contexts.of(asked)
    build_encoder(context.backbone, context.weights, progress.say)
    try:
        store = open_store(context.prepared, context.image_size, cache, progress.prepare)
        features = open_features(
            store,
            context.backbone,
            context.weights,
            chosen,
            autocast_type(precision, chosen),
            progress.say,
            progress.prepare,
        )
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command begins the features again") from None
    finally:
        progress.end()
    if output is not None:
        write_features(output, context.prepared.split, features)
    if not quiet:
        images, width = len(features.index), features.rows.shape[1]
        where = f": {output}" if output else ", in the cache"
        click.echo(f"{images:,} images × {width:,} features by {context.backbone.name}{where}")


def write_features(output: Path, split: Split, features: Features) -> None:
    """Ids, labels, parts and features (N, D) of a split's images in the test view, part by part."""
    import numpy as np
    import pandas as pd

    from lmdbench.core.files import atomic

    parts = split.parts.items()
    ids = [image for _, part in parts for image in part.ids]
    labels = [split.classes[label] for _, part in parts for label in part.labels]
    names = [name for name, part in parts for _ in part.ids]
    rows = features.rows[features.places(ids)].numpy()
    with atomic(output) as path:
        if output.suffix == ".npz":
            with path.open("wb") as file:
                np.savez(
                    file,
                    ids=np.array(ids, dtype=str),
                    labels=np.array(labels, dtype=str),
                    parts=np.array(names, dtype=str),
                    features=rows,
                )
        else:
            columns = pd.DataFrame({"id": ids, "label": labels, "part": names})
            numbers = pd.DataFrame(rows, columns=[f"f{n}" for n in range(rows.shape[1])])
            pd.concat([columns, numbers], axis=1).to_csv(path, index=False)
