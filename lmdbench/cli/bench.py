"""``lmdbench bench``: whether this machine is well used, and what limits it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from lmdbench.cli.completion import complete_backbone
from lmdbench.cli.options import (
    execution_option,
    json_option,
    parse_device,
    parse_size,
    precision_option,
    stop_on_sigterm,
)
from lmdbench.cli.text import json_text
from lmdbench.core.errors import UserError

if TYPE_CHECKING:
    from lmdbench.bench.workload import Workload

UNWRAPPED = 200  # columns, where the output is no terminal

# What is measured where nothing is said. On a CPU it is less, or it would take an hour.
ON_GPU = {"batch_size": 128, "images": 4888, "seconds": 3.0}
ON_CPU = {"batch_size": 8, "images": 16, "seconds": 2.0}


@click.command()
@click.option(
    "--backbone",
    metavar="NAME",
    shell_complete=complete_backbone,
    help="[default: resnet18]",
)
@click.option("--image-size", metavar="PIXELS", help="Side.  [default: 224]")
@click.option(
    "--batch-size", type=click.IntRange(min=2), help="[default: 128 on a GPU, 8 on a CPU]"
)
@click.option("--classes", type=click.IntRange(min=2), help="[default: 7]")
@click.option(
    "--images",
    type=click.IntRange(min=2),
    help="Training images.  [default: 4888 on a GPU, 16 on a CPU, or two batches]",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")
@precision_option
@execution_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    help="How long each thing is timed, about.  [default: 3 on a GPU, 2 on a CPU]",
)
@json_option
def bench(
    backbone: str | None,
    image_size: str | None,
    batch_size: int | None,
    classes: int | None,
    images: int | None,
    device: str,
    precision: Literal["mixed", "float32"],
    execution: Literal["auto", "plain", "compiled"],
    seconds: float | None,
    as_json: bool,
) -> None:
    """Measure how fast this machine trains, and what limits it.

    Random images go through the real training loop, and through the network alone, which is the
    ceiling. On a CPU it takes two minutes or so.

    \b
    lmdbench bench
    lmdbench bench --backbone resnet50 --batch-size 64 --device cuda:1
    lmdbench bench --json > speed.json
    """
    stop_on_sigterm()
    sizes: dict[str, Any] = {
        "backbone": backbone,
        "image_size": None if image_size is None else parse_size(image_size),
        "batch_size": batch_size,
        "classes": classes,
        "images": images,
        "seconds": seconds,
    }
    given = {name: size for name, size in sizes.items() if size is not None}
    if backbone is not None:
        from lmdbench.models.backbones import get_backbone

        if get_backbone(backbone).frozen:
            raise UserError(f"--backbone {backbone}: bench times training; leave out frozen/")
    chosen = workload(device, precision, execution, given)
    from lmdbench.bench.bench import measure

    if chosen.device.type == "cpu":
        say(
            f"on a CPU: {chosen.images} images in batches of {chosen.batch_size}, "
            f"{chosen.seconds:g} s for each thing"
        )
    found = measure(chosen, say)
    if as_json:
        click.echo(json_text(found))
    else:
        show(found)


def workload(
    device: str,
    precision: Literal["mixed", "float32"],
    execution: Literal["auto", "plain", "compiled"],
    given: dict[str, Any],
) -> Workload:
    """What is asked for, the rest by the device. Raises UserError for what does not go together."""
    from lmdbench.bench.workload import Workload
    from lmdbench.runs.model import autocast_type
    from lmdbench.training.engine import execution_mode

    place = parse_device(device)
    sizes: dict[str, Any] = {**(ON_GPU if place.type == "cuda" else ON_CPU), **given}
    if "images" not in given:
        sizes["images"] = max(sizes["images"], 2 * sizes["batch_size"])
    if sizes["images"] < sizes["batch_size"]:
        raise UserError(
            f"--images {sizes['images']} is less than one batch; give at least "
            f"{sizes['batch_size']}, or a smaller --batch-size"
        )
    mode = execution_mode(execution, place)
    made = Workload(place, mode, autocast_type(precision, place), **sizes)
    if made.images < made.classes:
        raise UserError(
            f"--classes {made.classes}: more than there are images; give --images {made.classes} "
            "or more"
        )
    return made


def say(text: str) -> None:
    click.echo(text, err=True)


def show(found: dict[str, Any]) -> None:
    from rich.console import Console

    from lmdbench.bench.report import print_measured

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=UNWRAPPED)
    print_measured(found, console)
