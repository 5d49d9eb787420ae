"""Options that several commands share. Nothing heavy is imported before an option is used."""

from __future__ import annotations

import functools
import re
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from lmdbench.cli.completion import complete
from lmdbench.core.errors import UserError
from lmdbench.core.files import check_new_file
from lmdbench.core.folders import default_cache, expanded

if TYPE_CHECKING:
    import torch

    from lmdbench.data.dataset import Dataset
    from lmdbench.data.splits.spec import SplitSpec

Command = TypeVar("Command", bound=Callable[..., Any])
MOST_NUMBERS = 1000  # of seeds or folds in a list


def stacked(command: Command, options: Iterable[Callable[[Any], Any]]) -> Command:
    """A command with options that its help lists in this order."""
    for option in reversed([*options]):
        command = option(command)
    return command


def data_root_option(command: Command) -> Command:
    """``--data-root``: passes ``data_root`` (Path or None); falls back to LMDBENCH_DATA."""
    return click.option(
        "--data-root",
        metavar="DIR",
        envvar="LMDBENCH_DATA",
        callback=_path,
        help="Folder that holds the data set's files (for 'folder': your folder, CSV, .npz or "
        "TOML).  "
        "[default: $LMDBENCH_DATA]",
    )(command)


dataset_option = click.option(
    "--dataset",
    required=True,
    metavar="NAME",
    shell_complete=complete("datasets"),
    help="See `lmdbench datasets`.",
)

skip_damaged_option = click.option(
    "--skip-damaged",
    is_flag=True,
    help="Go on without images that cannot be read; marks it as partial.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(["mixed", "float32"]),
    default="mixed",
    show_default=True,
    help="mixed: autocast on GPUs, in bfloat16 or, on those without, in float16 with a GradScaler; "
    "float32 on the CPU.",
)

execution_option = click.option(
    "--execution",
    type=click.Choice(["auto", "plain", "compiled"]),
    default="auto",
    show_default=True,
    help="compiled: torch.compile, and steps as CUDA graphs; auto: that on a GPU, plain elsewhere.",
)

deterministic_option = click.option(
    "--deterministic",
    is_flag=True,
    help="The same bits each time on a GPU, too, more slowly; on the CPU they are so in any case.",
)


calibrate_option = click.option(
    "--calibrate",
    type=click.Choice(["temperature", "bcts"]),
    help="Divide the logits of a run by a temperature fitted on its validation images; bcts adds a "
    "bias of each class to them, fitted with it.",
)

prior_option = click.option(
    "--prior",
    metavar="test|uniform|SHARES",
    help="Change the probabilities of a run from the classes' shares among its validation images "
    "to others: those of its test images, equal ones, or 0.7,0.2,0.1 in the order of the classes, "
    "or MEL=0.1,NV=0.9.",
)


def plugin_option(command: Command) -> Command:
    """``--plugin``, any number of times: loads the files while parsing and passes nothing."""
    return click.option(
        "--plugin",
        metavar="FILE.py",
        multiple=True,
        expose_value=False,
        is_eager=True,
        callback=_load_plugins,
        help="Python file that registers methods, data sets, metrics … of your own (repeatable).",
    )(command)


def split_options(command: Command) -> Command:
    """``--split`` and what belongs to it: passes ``choices``, a list of SplitSpec.

    It has one, or one for each fold of a k-fold split. See ``only``.
    """

    @functools.wraps(command)
    def with_choices(
        *args: Any,
        split: str | None,
        imbalance_factor: float | None,
        split_seed: int | None,
        folds: int | None,
        fold: list[int] | None,
        test_per_class: int | None,
        **others: Any,
    ) -> Any:
        from lmdbench.data.splits.given import MOST_FOLDS, number_of_folds
        from lmdbench.data.splits.spec import SplitSpec

        if fold is None and split == "kfold":
            name = others.get("dataset") or others.get("name") or ""
            there = folds or number_of_folds(name, others.get("data_root"), default_cache())
            fold = list(range(min(there, MOST_FOLDS)))
        choices = [
            SplitSpec(split, imbalance_factor, split_seed, folds, one, test_per_class)
            for one in (fold if fold else (None,))
        ]
        return command(*args, choices=choices, **others)

    options = (
        click.option(
            "--split",
            metavar="NAME|FILE.csv",
            help="lesion, balanced-test, kfold, or a CSV with the columns image and split.  "
            "[default: the data set's own, such as published]",
        ),
        click.option(
            "--imbalance-factor",
            metavar="X",
            callback=_imbalance_factor,
            help="Cut the long tail so that the largest class is X times the smallest.  "
            "[default: the data set's own]",
        ),
        click.option(
            "--split-seed",
            metavar="N",
            callback=_whole_number,
            help="Seed of the split, apart from the training seed.  [default: 42]",
        ),
        click.option(
            "--folds", metavar="K", callback=_whole_number, help="Of --split kfold.  [default: 5]"
        ),
        click.option(
            "--fold",
            metavar="LIST",
            callback=_numbers,
            help="Of --split kfold, such as 0 or 0-4.  [default: all]",
        ),
        click.option(
            "--test-per-class",
            metavar="N",
            callback=_whole_number,
            help="Of --split balanced-test.  [default: 100, or what the smallest class allows]",
        ),
    )
    return cast(Command, stacked(with_choices, options))


def groups_option(command: Command) -> Command:
    """``--groups``: passes ``groups`` (str or None)."""
    return click.option(
        "--groups",
        metavar="RULE",
        help="Head, medium and tail: rank, rank:2,3,3, count:500,100 or a list such as "
        "'head=NV,MEL;tail=DF'.  [default: the data set's own]",
    )(command)


def check_output(path: Path) -> None:
    """Raise UserError where ``--output`` can't be written, before anything is computed."""
    if path.is_dir():
        raise UserError(f"--output {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}; make it first")
    check_new_file(path)


def only(choices: list[SplitSpec]) -> SplitSpec:
    """The one choice of a command that works on one split. Raises UserError for several folds."""
    if len(choices) > 1:
        raise UserError("this works on one fold: say which with --fold N")
    return choices[0]


def json_option(command: Command) -> Command:
    """``--json``: passes ``as_json`` (bool)."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def results_option(command: Command) -> Command:
    """``--results``: passes ``results`` (Path); falls back to LMDBENCH_RESULTS, then ./results."""
    return click.option(
        "--results",
        metavar="DIR",
        envvar="LMDBENCH_RESULTS",
        default="results",
        callback=_results_folder,
        help="Folder that runs are written to and read from.  "
        "[default: $LMDBENCH_RESULTS, else ./results]",
    )(command)


def make_dataset(name: str, data_root: Path | None) -> Dataset:
    """``dataset.open_dataset`` with the default cache."""
    from lmdbench.data.dataset import open_dataset

    return open_dataset(name, data_root, default_cache())


def _path(_context: click.Context, _option: click.Parameter, value: str | None) -> Path | None:
    if value is None:
        return None
    if not value.strip():
        raise UserError("--data-root is empty; give the folder that holds the data set's files")
    return expanded(value)


def _results_folder(_context: click.Context, _option: click.Parameter, value: str) -> Path:
    if not value.strip():
        raise UserError("--results is empty; give the folder that holds the runs")
    return expanded(value)


def _load_plugins(
    context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> None:
    if context.resilient_parsing or not values:
        return
    from lmdbench.core.registry import load_plugin

    for value in values:
        load_plugin(value)


def _imbalance_factor(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        raise UserError(
            f"--imbalance-factor {value!r} is no number; "
            "give one that is at least 1, for example 100 or 12.5"
        ) from None


def _whole_number(
    _context: click.Context, option: click.Parameter, value: str | None
) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise UserError(
            f"{option.opts[0]} {value!r} is no whole number; give one like 42"
        ) from None


def _numbers(
    _context: click.Context, option: click.Parameter, value: str | None
) -> list[int] | None:
    return None if value is None else parse_numbers(value, option.opts[0])


def parse_numbers(text: str, option: str) -> list[int]:
    """``0-4`` or ``0,2,5`` or both, sorted. Raises UserError for anything else."""
    numbers: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first:
            raise UserError(f"{option} {text!r}: give numbers from 0 on, such as 0, 0-4 or 0,2,5")
        if last >= 2**31 or last - first >= MOST_NUMBERS:
            raise UserError(f"{option} {text!r}: {MOST_NUMBERS} numbers below 2^31 at most")
        numbers.extend(range(first, last + 1))
    return sorted(set(numbers))


def parse_size(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 16 <= int(text) <= 2048:
        raise UserError(f"--image-size {text!r}: give a number of pixels from 16 to 2048")
    return int(text)


def parse_device(text: str) -> torch.device:
    """See ``environment.choose_device``; says so where ``auto`` leaves a GPU unused."""
    from lmdbench.core.environment import choose_device, unused_gpu

    device = choose_device(text)
    if text == "auto" and (why := unused_gpu()):
        click.echo(why, err=True)
    return device


def stop_on_sigterm() -> None:
    """Take SIGTERM, a queue's way of saying Ctrl-C, as such."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
