"""Options that several commands share. Nothing heavy is imported before an option is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lmdbench.errors import UserError

if TYPE_CHECKING:
    from lmdbench.data.dataset import Dataset

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULT_SPLIT_SEED = 42


def data_root_option(command: Command) -> Command:
    """``--data-root``: passes ``data_root`` (Path or None); falls back to LMDBENCH_DATA."""
    return click.option(
        "--data-root",
        metavar="DIR",
        envvar="LMDBENCH_DATA",
        callback=_path,
        help="Folder that holds the data set's files (for 'folder': your folder or CSV).  "
        "[default: $LMDBENCH_DATA]",
    )(command)


def plugin_option(command: Command) -> Command:
    """``--plugin``, any number of times: loads the files while parsing and passes nothing."""
    return click.option(
        "--plugin",
        metavar="FILE.py",
        multiple=True,
        expose_value=False,
        is_eager=True,
        callback=_load_plugins,
        help="Python file that registers methods or data sets of your own (repeatable).",
    )(command)


def imbalance_factor_option(command: Command) -> Command:
    """``--imbalance-factor``: passes ``imbalance_factor`` (float or None)."""
    return click.option(
        "--imbalance-factor",
        metavar="X",
        callback=_imbalance_factor,
        help="Cut the long tail so that the largest class is X times the smallest.  "
        "[default: the data set's own]",
    )(command)


def split_seed_option(command: Command) -> Command:
    """``--split-seed``: passes ``split_seed`` (int)."""
    return click.option(
        "--split-seed",
        metavar="N",
        default=str(DEFAULT_SPLIT_SEED),
        show_default=True,
        callback=_split_seed,
        help="Seed of the split, apart from the training seed.",
    )(command)


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


def default_cache() -> Path:
    """Where files may be made: $LMDBENCH_CACHE or ~/.cache/lmdbench."""
    return Path(os.environ.get("LMDBENCH_CACHE") or "~/.cache/lmdbench").expanduser()


def make_dataset(name: str, data_root: Path | None, cache: Path | None = None) -> Dataset:
    """The data set of that name, on the files under ``data_root``.

    Raises UserError for an unknown name, and where the data set needs a root that is not given or
    not there.
    """
    from lmdbench.data.dataset import DATASETS

    kind = DATASETS.get(name)
    if kind.needs_root:
        if data_root is None:
            raise UserError(
                f"data set {name} needs --data-root DIR (or LMDBENCH_DATA): where its files lie. "
                f"It comes from: {kind.source}"
            )
        if not data_root.exists():
            raise UserError(
                f"data set {name}: --data-root {data_root} does not exist. "
                f"The data set comes from: {kind.source}"
            )
    return kind(data_root, cache or default_cache())


def _path(_context: click.Context, _option: click.Parameter, value: str | None) -> Path | None:
    if value is None:
        return None
    if not value.strip():
        raise UserError("--data-root is empty; give the folder that holds the data set's files")
    return Path(value).expanduser()


def _results_folder(_context: click.Context, _option: click.Parameter, value: str) -> Path:
    if not value.strip():
        raise UserError("--results is empty; give the folder that holds the runs")
    return Path(value).expanduser()


def _load_plugins(
    context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> None:
    if context.resilient_parsing or not values:
        return
    from lmdbench.registry import load_plugin

    for value in values:
        load_plugin(Path(value).expanduser())


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


def _split_seed(_context: click.Context, _option: click.Parameter, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UserError(f"--split-seed {value!r} is no whole number; give one like 42") from None
