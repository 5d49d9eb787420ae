"""A finished run trained once more, on training and validation images together: as long as before,
with the settings of before, and with what it chose on validation images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safetensors.torch import load

from lmdbench.core.errors import UserError
from lmdbench.core.words import listed
from lmdbench.runs.kept import saved_weights
from lmdbench.runs.plan import PlannedRun, ResolvedContext
from lmdbench.runs.record import RunRecord, read_record
from lmdbench.runs.state import ancestor_directory, require_weights, run_state, train_anew
from lmdbench.training.method import METHODS


def plan_refit(context: ResolvedContext, directory: Path) -> PlannedRun:
    """The refit of the run in ``directory``, and of what it started from. ``context``: that of the
    run itself, with its split as it was.

    Raises UserError for a run that is not finished, was imported, is a refit already, was made by
    another version of its method, or did otherwise than the context says.
    """
    record = read_record(directory)
    _check(context, directory, record)
    refitted = replace(
        context,
        selection="last",
        prepared=replace(context.prepared, split=context.prepared.split.refitted()),
    )
    return _plan(refitted, directory, record)


def _plan(context: ResolvedContext, directory: Path, record: RunRecord) -> PlannedRun:
    _check_run(directory, record)
    ancestor = None
    if record.ancestor is not None:
        above = ancestor_directory(directory, record.ancestor)
        ancestor = _plan(context, above, read_record(above))
    epochs = record.selected_epoch if record.spec.selection == "best" else record.epochs
    chosen = _chosen(directory, record)
    spec = replace(
        record.spec,
        selection="last",
        ancestor=ancestor.spec.id if ancestor else None,
        split=context.split_identity,
        refit={"run": record.id, "epochs": epochs, **({"chosen": chosen} if chosen else {})},
    )
    usual = record.ancestor is None or bool(record.ancestor.usual)
    return PlannedRun(
        spec,
        context,
        context.folder / spec.method / spec.folder,
        ancestor,
        record.changed_settings,
        usual,
        refit_of=directory,
    )


def _chosen(directory: Path, record: RunRecord) -> dict[str, float]:
    """The settings that a run chose on its validation images, as its weights have them. Raises
    UserError where these are gone or lack them."""
    spec = record.spec
    names = METHODS.get(spec.method).chosen_on_validation
    names = tuple(name for name in names if spec.settings.get(name) is None)
    if not names:
        return {}
    try:
        require_weights(directory, spec.method, spec.seed)
    except UserError as error:
        raise UserError(
            f"--refit: {listed(names)}, chosen on validation images, can't be read: {error}"
        ) from None
    anew = train_anew(spec.method, spec.seed)
    weights = load(saved_weights(directory, record, anew))
    try:
        return {name: float(str(weights[name].numpy())) for name in names}  # the shortest decimals
    except (KeyError, ValueError):
        raise UserError(
            f"--refit: {spec.method} does not keep {listed(names)}, which it chose on validation "
            "images, as a number in a buffer of that name"
        ) from None


def _check_run(directory: Path, record: RunRecord) -> None:
    spec = record.spec
    state = run_state(directory)
    if state != "finished":
        raise UserError(f"--refit: {directory} is {state}, not finished: its length is not known")
    if record.was_imported or record.epochs is None:
        raise UserError(f"--refit: {directory} does not say how long it was trained")
    if spec.refit is not None:
        raise UserError(f"--refit: {directory} is a refit already")
    if not sum(record.class_counts.get("validation", ())):
        raise UserError(f"--refit: {directory} has no validation images to be trained on as well")
    if METHODS.get(spec.method).uses_validation:
        raise UserError(
            f"--refit: {spec.method} looks at validation images while it trains, and a refit has "
            "none"
        )
    version = METHODS.get(spec.method).version
    if version != spec.method_version:
        raise UserError(
            f"--refit: {directory} was made by version {spec.method_version} of {spec.method}; "
            f"here is version {version}"
        )


def _check(context: ResolvedContext, directory: Path, record: RunRecord) -> None:
    """Raise UserError where the run was trained on other images, or began with other weights."""
    here = {
        "results_name": context.prepared.dataset.results_name,
        "split": context.split_identity,
        "weights": context.weights.identity,
    }
    for name, value in here.items():
        there = getattr(record.spec, name)
        if there != value:
            raise UserError(
                f"--refit: the {name} of {directory} is {there}, here it is {value}; give the same "
                "--data-root, --split and --weights as for the run"
            )
