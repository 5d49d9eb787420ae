"""``lmdbench predict``: finished runs on other images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmdbench.cli.completion import complete
from lmdbench.cli.options import (
    calibrate_option,
    data_root_option,
    json_option,
    only,
    parse_device,
    plugin_option,
    prior_option,
    results_option,
    split_options,
    stop_on_sigterm,
)
from lmdbench.cli.text import json_text
from lmdbench.core.errors import RunFailed, UserError
from lmdbench.core.folders import default_cache, expanded
from lmdbench.core.words import some

if TYPE_CHECKING:
    import numpy as np

    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.runs.prediction_sets import PredictionSet

FEW = 20  # images whose predictions are printed; of more a file is written
NAMED = 5  # images that a message names
AFTER = "lmdbench.predict.after"  # in a context: how many words stand behind a --


class RunsAndImages(click.Command):
    """A command whose words before a ``--`` are runs, and images behind it. Options are read on
    both sides."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            runs, images = args[: args.index("--")], args[args.index("--") + 1 :]
            values, _, _ = self.make_parser(ctx).parse_args(list(images))
            words = values["words"]  # where there are none, what else click's version has
            ctx.meta[AFTER] = len(words) if isinstance(words, tuple) else 0
            args = [*runs, *images]
        return super().parse_args(ctx, args)


@click.command(cls=RunsAndImages)
@click.argument("words", metavar="RUN... [--] FOLDER|DATASET|IMAGE...", nargs=-1, required=True)
@click.option(
    "--method",
    metavar="NAME",
    shell_complete=complete("methods"),
    help="Instead of RUN: all runs of the row of this method, its seeds and folds.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    shell_complete=complete("datasets"),
    help="Instead of RUN: the runs that were trained on this data set.",
)
@click.option(
    "--run-split",
    metavar="LABEL",
    help="Instead of RUN: those of this split, named as its folder under the results.",
)
@click.option("--sweep", metavar="SWEEP", help="Instead of RUN: those that this sweep asks for.")
@split_options
@click.option(
    "--part",
    type=click.Choice(["train", "validation", "test", "all"]),
    help="Of a data set, or of a folder that is split.  [default: test]",
)
@data_root_option
@click.option("--allow-missing", is_flag=True, help="Go on without images whose files are missing.")
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="LABEL=CLASS,…|FILE",
    help="What the run calls a label of these images (repeatable), or a file of such lines.",
)
@click.option(
    "--ignore-unknown",
    is_flag=True,
    help="Go on where none of the labels is a class of the run: nothing is scored.",
)
@click.option("--unlabelled", is_flag=True, help="Take no labels: names of folders are only names.")
@click.option(
    "--output",
    metavar="FILE.csv",
    help=f"A row an image.  [default: for more than {FEW} images a file named after run and "
    "images, in this folder]",
)
@click.option("--logits", is_flag=True, help="Logits instead of probabilities in the file.")
@calibrate_option
@prior_option
@click.option(
    "--operate",
    multiple=True,
    metavar="CLASS:sensitivity=SHARE",
    help="Flag images as a class from a probability up, chosen on the validation images for this "
    "sensitivity, or CLASS:specificity=SHARE (repeatable).",
)
@click.option(
    "--abstain",
    metavar="error=SHARE|share=SHARE",
    help="Answer only images of a largest probability from a threshold up, chosen on the "
    "validation images for this error of the answers, or for answering this share.",
)
@click.option(
    "--maps",
    "maps_folder",
    metavar="FOLDER",
    help="A picture of each image beside what in it spoke for the answer: Grad-CAM, or the "
    "gradient where a backbone has no maps.",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=256, show_default=True, metavar="N"
)
@results_option
@plugin_option
@click.option("--accept-changed", is_flag=True, help="Trust a run whose code has changed since.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
def predict(
    words: tuple[str, ...],
    method: str | None,
    dataset: str | None,
    run_split: str | None,
    sweep: str | None,
    choices: list[SplitSpec],
    part: str | None,
    data_root: Path | None,
    allow_missing: bool,
    maps: tuple[str, ...],
    ignore_unknown: bool,
    unlabelled: bool,
    output: str | None,
    logits: bool,
    calibrate: str | None,
    prior: str | None,
    operate: tuple[str, ...],
    abstain: str | None,
    maps_folder: str | None,
    force: bool,
    device: str,
    batch_size: int,
    results: Path,
    accept_changed: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Predict images with a finished RUN: its directory, or 8 digits or more of its id.

    The images are a folder (with a sub-folder a class, or without labels), a table, a .npz or a
    description as `--dataset folder` reads them, a data set's name, or image files. Where they
    have labels, they are scored. Of several runs, before a --, or all of a row of a table, the
    mean of the probabilities answers.

    \b
    lmdbench predict 4f0c2a91 other-hospital/ --map 'melanoma=MEL,nevus=NV'
    lmdbench predict results/isic2019/…/seed0-4f0c2a91 photo.jpg
    lmdbench predict 4f0c2a91 isic2019 --data-root ~/data --part validation --output v.csv
    lmdbench predict 4f0c2a91 77aa01bc 0d9e5511 -- other-hospital/
    lmdbench predict --method crt --dataset isic2019 other-hospital/
    """
    stop_on_sigterm()
    from lmdbench.runs.state import check_model

    chosen = (dataset, method, run_split)
    names, words = _runs_and_images(words, results, by_row=any((*chosen, sweep)))
    directories = _directories(names, chosen, sweep, results, data_root)
    for directory in directories:
        check_model(directory)
    if output is not None:
        _check_output(expanded(output), f"{directories[0].name}.csv", force)
    import torch

    from lmdbench.cli import predict_table, predict_words
    from lmdbench.cli.predict_outcome import Outcome
    from lmdbench.core.progress import watcher
    from lmdbench.data.vectors import refuse_vectors
    from lmdbench.evaluation.metrics import softmax
    from lmdbench.evaluation.recalibration import parse_calibration
    from lmdbench.runs.decisions import Known, decisions, parse_abstention
    from lmdbench.runs.ensemble import answers, load_ensemble, scores
    from lmdbench.runs.prediction import check_kind
    from lmdbench.runs.prediction_sets import SetOptions, match_labels, open_target, parse_map

    if unlabelled and (maps or ignore_unknown):
        other = "--map" if maps else "--ignore-unknown"
        raise UserError(f"--unlabelled takes no labels, and {other} is about labels: leave one out")
    progress = watcher(quiet)
    asked = parse_map(maps)
    calibration = parse_calibration(calibrate, prior)
    abstention = parse_abstention(abstain)
    chosen_device = parse_device(device)
    choice = SetOptions(data_root, only(choices), part, unlabelled, allow_missing)
    target = open_target(words, choice, default_cache(), progress.say)
    ensemble = load_ensemble(directories, chosen_device, calibration, accept_changed=accept_changed)
    for run in ensemble.runs:
        check_kind(run, target.vectors)
    decided = decisions(ensemble, operate, abstention)
    matched = match_labels(target.labels, ensemble.classes, asked, ignore_unknown=ignore_unknown)
    file = _output(output, _stem(directories, ensemble.lead.spec.method), target, force, as_json)
    maps_at = None if maps_folder is None else expanded(maps_folder)
    if maps_at is not None:
        from lmdbench.runs.maps import check_folder, write_maps

        refuse_vectors(target.vectors, "--maps")
        check_folder(maps_at, len(target), force)
    if logits and file is None:
        raise UserError("--logits is about the file: ask for one by --output FILE.csv")
    if not as_json:
        click.echo(predict_words.about(ensemble, target, matched))
    try:
        said = answers(
            ensemble, target.images, batch_size, default_cache(), progress.prepare, progress.say
        )
    except torch.cuda.OutOfMemoryError:
        raise UserError("out of GPU memory: try a smaller --batch-size, or --device cpu") from None
    finally:
        progress.end()
    lost = [f"{target.ids[row]} ({why})" for row, why in said.unreadable.items()]
    if len(lost) == len(target):
        raise UserError(f"none of the images can be read: {some(lost, NAMED)}")
    rows = [
        row for row, code in enumerate(matched.codes) if code >= 0 and row not in said.unreadable
    ]
    codes, logits_of_rows, units = (
        matched.codes[rows],
        said.logits[rows],
        _column(target.groups)[rows],
    )
    scored = scores(ensemble, codes, logits_of_rows, units) if rows else []
    reached = None
    if rows:
        known = Known(codes, softmax(logits_of_rows), units if any(units) else None)
        reached = decided.measured(known)
    outcome = Outcome(ensemble, target, matched, said, scored, len(rows), decided, reached, file)
    if file is not None:
        predict_table.write(file, outcome, logits)
    drawn = None
    if maps_at is not None:
        drawn = write_maps(ensemble, target.ids, target.files, said, maps_at)
    if as_json:
        click.echo(json_text(predict_table.as_json(outcome)))
    else:
        click.echo("\n" + predict_words.found(outcome))
        if drawn is not None:
            click.echo(f"maps: {maps_at} ({' and '.join(drawn)} of the answer)")
    if lost:
        raise RunFailed(
            f"{len(lost)} of {len(target):,} images can't be read: {some(lost, NAMED)}; "
            "the others are predicted"
        )


def _runs_and_images(
    words: tuple[str, ...], results: Path, *, by_row: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words that name runs and those that name images. ``by_row``: whether options name the
    runs. Raises UsageError where one of them is lacking, UserError for runs among the images."""
    from lmdbench.runs.state import runs_with_id

    context = click.get_current_context()
    behind = context.meta.get(AFTER)
    runs = len(words) - behind if behind is not None else (0 if by_row else 1)
    if by_row and runs:
        raise UserError(
            "runs are named by themselves, or by --method, --dataset, --run-split and --sweep: "
            "leave one out"
        )
    if not by_row and not runs:
        raise click.UsageError("Missing argument 'RUN': before the --, name one or more")
    if len(words) == runs:
        raise click.UsageError("Missing argument 'FOLDER|DATASET|IMAGE...'.")
    for word in words[runs:]:
        if (expanded(word) / "run.json").is_file() or runs_with_id(results, word):
            raise UserError(f"{word} is a run: name all runs before a --, and images behind it")
    return words[:runs], words[runs:]


def _directories(
    names: Sequence[str],
    chosen: tuple[str | None, str | None, str | None],
    sweep: str | None,
    results: Path,
    data_root: Path | None,
) -> list[Path]:
    """Of the named runs, else of the row that data set, method and split, and a sweep, choose."""
    from lmdbench.runs.state import find_run

    if names:
        return [find_run(name, results) for name in names]
    from lmdbench.api import asked_by
    from lmdbench.comparison.results import read_results
    from lmdbench.comparison.row import runs_of_row

    keys = asked_by([] if sweep is None else [sweep], results, data_root)
    return runs_of_row(read_results(results), *chosen, keys)


def _stem(directories: Sequence[Path], method: str) -> str:
    """What the file's name begins with."""
    one = len(directories) == 1
    return f"{method}-{directories[0].name if one else f'{len(directories)}-runs'}"


def _output(
    output: str | None, stem: str, target: PredictionSet, force: bool, as_json: bool
) -> Path | None:
    """Where the predictions are written, if anywhere. Raises UserError before any is made."""
    if output is None and (as_json or len(target) <= FEW):
        return None
    name = f"{stem}-on-{target.name}.csv"
    path = expanded(output) if output is not None else Path(name)
    _check_output(path, name, force)
    return path


def _check_output(path: Path, name: str, force: bool) -> None:
    """Raise UserError where the predictions can't be written. ``name``: one that could be given."""
    from lmdbench.core.files import check_new_file

    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise UserError(f"--output {path}: {what}; give a file, such as {name}")
    if path.suffix.lower() != ".csv":
        raise UserError(f"--output {path}: give a name that ends in .csv, such as {name}")
    if path.exists() and not force:
        raise UserError(f"{path} is there already; --force replaces it, --output names another")
    check_new_file(path)


def _column(values: Sequence[str]) -> np.ndarray:
    import numpy as np

    return np.array(values, dtype=str)
