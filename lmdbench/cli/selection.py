"""Which finished runs ``compare``, ``plot`` and ``report`` are about: their options, once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from lmdbench.cli.options import (
    data_root_option,
    groups_option,
    make_dataset,
    results_option,
)

if TYPE_CHECKING:
    from lmdbench.comparison.compare import Comparison
    from lmdbench.comparison.results import Run
    from lmdbench.comparison.scoring import LeaksOf
    from lmdbench.data.check.audit import Leaks
    from lmdbench.data.dataset import Dataset

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
    percent: bool

    @functools.cached_property
    def leaked(self) -> LeaksOf | None:
        """Tells the test images of a run that leak; None unless they are to be left out."""
        return _leaked(self.results, self.data_root) if self.drop_leaked else None

    def comparison(self, **more: Any) -> Comparison:
        """The comparison of what was chosen; ``more`` as ``comparison.compare`` takes it.

        Runs that can't be read are told on standard error.
        """
        from lmdbench.cli.sweep_common import asked_runs
        from lmdbench.comparison.compare import compare
        from lmdbench.comparison.results import read_results

        results = read_results(self.results)
        for problem in results.unreadable:
            click.echo(f"left out: {problem}", err=True)
        chosen: dict[str, Any] = {
            "datasets": self.datasets,
            "methods": self.methods,
            "splits": self.splits,
            "names": self.names,
            "part": self.part,
            "pooled": self.folds == "pooled",
            "leaked": self.leaked,
            "groups": self.groups,
            "sweep": asked_runs(self.sweeps, self.results, self.data_root) if self.sweeps else None,
            "reference": self.reference,
        }
        compared = compare(results, **{**chosen, **more})
        for problem in compared.not_dropped:
            click.echo(f"not without leaked images: {problem}", err=True)
        return compared


def selection_options(command: Command) -> Command:
    """All options that choose runs and what is measured of them: passes ``selection``."""

    @functools.wraps(command)
    def with_selection(*args: Any, compared_with: str, **values: Any) -> Any:
        names = [name for name in Selection.__dataclass_fields__ if name != "reference"]
        chosen = {name: values.pop(name) for name in names}
        chosen["reference"] = compared_with
        return command(*args, selection=Selection(**chosen), **values)

    decorated: Any = with_selection
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return cast(Command, decorated)


# Of finished runs, by what their folders are called.
CHOICES: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--dataset",
        "datasets",
        multiple=True,
        metavar="NAME",
        help="Only this data set (repeatable).",
    ),
    click.option(
        "--method", "methods", multiple=True, metavar="NAME", help="Only this method (repeatable)."
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
        metavar="NAME",
        help="Only this metric (repeatable); the first is the one that is tested: "
        "balanced_accuracy, macro_f1, macro_auroc, accuracy, mcc, group_mean, macro_precision, "
        "macro_specificity, nll, brier, ece, nll_balanced, brier_balanced, ece_balanced, a group "
        "such as tail, STAT:CLASS with recall, precision, f1, specificity or auroc, or a metric of "
        "a plug-in.  "
        "[default: the first four and every group]",
    ),
    click.option(
        "--reference",
        "compared_with",  # a command may have a parameter "reference" of its own
        default="lmd",
        show_default=True,
        metavar="METHOD",
        help="Compare the others with this method, or with the row of this label.",
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


def _leaked(results: Path, data_root: Path | None) -> LeaksOf:
    from lmdbench.comparison.leaks import leaked_images
    from lmdbench.data.dataset import DATASETS

    def open_dataset(name: str) -> Dataset | None:
        if data_root is None and DATASETS.get(name).needs_root:
            return None
        return make_dataset(name, data_root)

    by_split: dict[tuple[str, str], Leaks] = {}

    def leaked(run: Run) -> Leaks:
        split = (str(run.record.split_label), str(run.spec.split["fingerprint"]))
        if split not in by_split:
            by_split[split] = leaked_images(results, run, open_dataset)
        return by_split[split]

    return leaked
