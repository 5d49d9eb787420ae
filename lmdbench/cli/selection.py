"""Which finished runs ``compare``, ``plot`` and ``report`` are about: their options, once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from lmdbench.cli.completion import complete
from lmdbench.cli.options import (
    calibrate_option,
    data_root_option,
    groups_option,
    prior_option,
    results_option,
    stacked,
)

if TYPE_CHECKING:
    from lmdbench.comparison.compare import Comparison

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Selection:
    """What a user chose; ``comparison`` scores it."""

    results: Path
    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    splits: tuple[str, ...]
    sweeps: tuple[str, ...]
    names: tuple[str, ...]
    part: str
    drop_leaked: bool
    data_root: Path | None
    groups: str | None
    folds: str
    reference: str
    margin: float
    simultaneous: bool
    calibrate: str | None
    prior: str | None
    percent: bool

    def comparison(self, **more: Any) -> Comparison:
        """The comparison of what was chosen; ``more`` as ``api.compare`` takes it.

        Runs that can't be read are told on standard error.
        """
        from lmdbench import api

        return api.compare(
            self.results,
            datasets=self.datasets,
            methods=self.methods,
            splits=self.splits,
            metrics=self.names,
            part=self.part,
            reference=more.pop("reference", self.reference),
            margin=self.margin,
            simultaneous=self.simultaneous,
            calibrate=self.calibrate,
            prior=self.prior,
            groups=self.groups,
            sweeps=self.sweeps,
            pool_folds=self.folds == "pooled",
            drop_leaked=self.drop_leaked,
            data_root=self.data_root,
            say=lambda text: click.echo(text, err=True),
            **more,
        )


def selection_options(command: Command) -> Command:
    """All options that choose runs and what is measured of them: passes ``selection``."""

    @functools.wraps(command)
    def with_selection(*args: Any, compared_with: str, **values: Any) -> Any:
        names = [name for name in Selection.__dataclass_fields__ if name != "reference"]
        chosen = {name: values.pop(name) for name in names}
        chosen["reference"] = compared_with
        return command(*args, selection=Selection(**chosen), **values)

    return cast(Command, stacked(with_selection, _OPTIONS))


class Borders(click.ParamType):
    """Numbers with commas between them, as 40,60."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(float(border) for border in value.split(","))
        except ValueError:
            self.fail(f"{value!r}: give numbers with commas between them, as 40,60", param, ctx)


def division_options(command: Command) -> Command:
    """Options for scores of lesions or patients and of subgroups: passes ``unit``, ``by`` and
    ``bands`` in ``division``, as ``api.compare`` takes them."""

    @functools.wraps(command)
    def with_division(*args: Any, **values: Any) -> Any:
        division = {
            "unit": values.pop("unit") or "",
            "by": values.pop("by"),
            "bands": values.pop("bands") or (),
        }
        return command(*args, division=division, **values)

    return cast(Command, stacked(with_division, _DIVISION))


unit_option = click.option(
    "--unit",
    type=click.Choice(["lesion", "patient"]),
    help="A second table that scores lesions or patients: the prediction of one is the mean of its "
    "images' probabilities.",
)
_DIVISION: tuple[Callable[[Any], Any], ...] = (
    unit_option,
    click.option(
        "--by",
        multiple=True,
        metavar="COLUMN",
        help="Scores of subgroups, too: by sex, age, site, or a column of the data set's table "
        "(repeatable; mostly needs --data-root).",
    ),
    click.option(
        "--bands",
        type=Borders(),
        metavar="N,N…",
        help="With --by a column of numbers: where bands begin.  [default: 40,60 for age]",
    ),
)

# Of finished runs, by what their folders are called.
CHOICES: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--dataset",
        "datasets",
        multiple=True,
        shell_complete=complete("datasets"),
        metavar="NAME",
        help="Only this data set (repeatable).",
    ),
    click.option(
        "--method",
        "methods",
        multiple=True,
        metavar="NAME",
        shell_complete=complete("methods"),
        help="Only this method (repeatable).",
    ),
    click.option(
        "--split",
        "splits",
        multiple=True,
        metavar="LABEL",
        help="Only this split, named as its folder under the results (repeatable).",
    ),
)
_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    *CHOICES,
    click.option(
        "--sweep",
        "sweeps",
        multiple=True,
        metavar="SWEEP",
        help="Only the runs that this sweep asks for: a file, a preset, or the folder of one that "
        "was imported (repeatable).",
    ),
    click.option(
        "--metric",
        "names",
        multiple=True,
        shell_complete=complete("metrics"),
        metavar="NAME",
        help="Only this metric (repeatable); the first is the one that is tested: a name that "
        "`lmdbench metrics` lists, such as macro_f1, auprc, kappa or sensitivity@specificity=0.9, "
        "a group such as tail, or one of a class or group, such as precision:melanoma.  "
        "[default: the first four and every group]",
    ),
    click.option(
        "--reference",
        "compared_with",  # a command may have a parameter "reference" of its own
        default="lmd",
        show_default=True,
        metavar="METHOD",
        shell_complete=complete("methods"),
        help="Compare the others with this method, or with the row of this label.",
    ),
    click.option(
        "--margin",
        type=float,
        default=1.0,
        show_default=True,
        metavar="POINTS",
        help="Methods whose difference is shown to be smaller are practically equal.",
    ),
    click.option(
        "--simultaneous",
        is_flag=True,
        help="Intervals of the differences that are tested hold the truth together in 95 % of "
        "tables, instead of each for itself.",
    ),
    click.option(
        "--part",
        type=click.Choice(["test", "validation"]),
        default="test",
        show_default=True,
        help="Which images.",
    ),
    click.option(
        "--drop-leaked",
        is_flag=True,
        help="A second table without the test images that share a lesion, or a picture, with "
        "training or validation images: by the audit kept beside the results, else by the tables.",
    ),
    calibrate_option,
    prior_option,
    data_root_option,
    groups_option,
    click.option(
        "--folds",
        type=click.Choice(["pooled", "each"]),
        default="pooled",
        show_default=True,
        help="Of a k-fold split: one table in which each image was tested once, or a table a fold "
        "(as always for validation images).",
    ),
    click.option(
        "--percent/--fraction",
        default=True,
        show_default=True,
        help="Percent with one decimal, or fractions with three. CSV and JSON hold full fractions.",
    ),
    results_option,
)
