"""What a run is: its specification and id, its directory, and the chain of runs it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmdbench.core.errors import Damaged, UserError
from lmdbench.core.registry import unknown
from lmdbench.core.settings import describe, recorded, resolve
from lmdbench.core.words import listed
from lmdbench.data.dataset import PARTS, Dataset, Prepared
from lmdbench.data.reading import read_remarks
from lmdbench.models.backbones import Backbone, Weights, is_of_features
from lmdbench.runs.code_digest import changed_part, code_digests
from lmdbench.runs.record import (
    MOVED_ASIDE,
    AncestorRecord,
    Precision,
    RunRecord,
    RunSpec,
    Selection,
    read_record,
)
from lmdbench.runs.state import LENGTHS, State, run_state, runs_with_id
from lmdbench.training.method import METHODS, Method, Start
from lmdbench.training.optimisation import OF_ENCODER, of_encoder
from lmdbench.training.recipes import in_order, recipes_for


def check_interval(selection: Selection, validate_every: int) -> None:
    """Raise UserError where epochs that are not scored could have been the best."""
    if selection == "best" and validate_every != 1:
        raise UserError(
            f"--validate-every {validate_every} (in a sweep: validate_every) with selection best: "
            "the best epoch is one of those that are scored; leave it out, or select the last"
        )


@dataclass(frozen=True)
class ResolvedContext:
    """What every run of a chain has in common."""

    prepared: Prepared
    backbone: Backbone
    weights: Weights
    image_size: int
    precision: Precision
    selection: Selection
    results: Path
    tuning: str = "full"

    @property
    def folder(self) -> Path:
        """Where the runs of this data set and split lie."""
        return self.results / self.prepared.dataset.results_name / self.prepared.split.label

    @property
    def split_identity(self) -> dict[str, Any]:
        return self.prepared.split.identity


@dataclass(frozen=True)
class PlannedRun:
    """A run with its place on disk and the run it starts from."""

    spec: RunSpec
    context: ResolvedContext
    directory: Path
    ancestor: PlannedRun | None = None
    changed_settings: Mapping[str, Any] = field(default_factory=dict)  # by the user
    usual_ancestor: bool = True  # it starts from what its definition says, unchanged
    given: bool = False  # named by --starts-from: used as it is, never trained
    refit_of: Path | None = None  # where the run lies that it repeats on more images

    @property
    def method(self) -> type[Method]:
        return METHODS.get(self.spec.method)

    @property
    def title(self) -> str:
        fold = self.spec.split.get("fold")
        of_fold = "" if fold is None else f" fold {fold}"
        return f"{self.spec.method} seed {self.spec.seed}{of_fold}"

    @property
    def length(self) -> int | None:
        """Epochs or rounds that its settings name; None where they name neither."""
        if self.spec.refit is not None:
            return int(self.spec.refit["epochs"])
        return next((int(n) for n, _ in self._lengths), None)

    @property
    def length_text(self) -> str:
        """The same in words."""
        if self.spec.refit is not None:
            stopped = f", stopped after {self.length} of its epochs" if self.length else ""
            chosen = "".join(f", with its {k}={v:g}" for k, v in self.spec.chosen.items())
            return f"refit of {self.spec.refit['run'][:8]}{stopped}{chosen}"
        texts = (f"{n} {name.removesuffix('s') if n == 1 else name}" for n, name in self._lengths)
        return next(texts, "no epochs")

    @property
    def _lengths(self) -> list[tuple[Any, str]]:
        found = ((self.spec.settings.get(name), name) for name in LENGTHS)
        return [(n, name) for n, name in found if n is not None]

    @property
    def chain(self) -> list[PlannedRun]:
        """From the first ancestor to this run."""
        return [*(self.ancestor.chain if self.ancestor else []), self]

    @property
    def state(self) -> State:
        return run_state(self.directory)

    @property
    def code(self) -> dict[str, str]:
        """Digests of the code that it would be trained by now, see ``digest.code_digests``."""
        return code_digests(self.method, self.context.backbone)

    def record(self) -> RunRecord:
        """The directory's ``run.json``."""
        return read_record(self.directory)

    def describe(self) -> RunRecord:
        """Its record as far as it is known before the run begins."""
        split, ancestor = self.context.prepared.split, None
        if self.ancestor is not None:
            spec, directory = self.ancestor.spec, str(self.ancestor.directory)
            ancestor = AncestorRecord(spec.method, spec.id, directory, self.usual_ancestor)
        dataset = self.context.prepared.dataset
        costs = {true: dict(row) for true, row in dataset.costs.items()}
        return RunRecord(
            id=self.spec.id,
            spec=self.spec,
            results_name=dataset.results_name,
            split_label=split.label,
            ancestor=ancestor,
            classes=list(split.classes),
            class_counts={part: split.counts(part).tolist() for part in PARTS},
            groups={group: list(names) for group, names in split.groups.items()},
            group_rule=split.group_rule,
            ordered_classes=list(dataset.ordered_classes) or None,
            costs=costs or None,
            split_notes=list(split.notes),
            data_notes=_data_notes(dataset),
            partial=split.partial.record if split.partial else None,
            synthetic=dataset.synthetic,
            backbone=origin.record if (origin := self.context.backbone.origin) else None,
            changed_settings=dict(self.changed_settings),
        )


def _data_notes(dataset: Dataset) -> list[str] | None:
    """What the data set remarks, in letters that may be shared; None if that is nothing."""
    lines = read_remarks(dataset)
    return ["".join(c if c.isprintable() else "�" for c in line) for line in lines] or None


def staleness(run: PlannedRun, store_digest: str | None = None) -> str | None:
    """Why a directory's contents may not be what its id promises; None if they are.

    Without ``store_digest`` (a plan, that opens no images) the images are not checked. Raises
    UserError where its logits are of the same classes in another order: those can't be used; and
    Damaged for the record of a finished run.
    """
    if not (run.directory / "run.json").exists():
        return None
    kept = (run.directory / name for name in ("checkpoint.pt", "predictions.npz"))
    used = run.state != "failed" or any(path.exists() for path in kept)
    try:
        record = run.record()
    except Damaged:
        if (run.directory / "done").exists():
            raise
        return None  # nothing of it is used
    above = run.ancestor
    origin = above.record() if above is not None and above.state == "finished" else None
    return staleness_of(run, record, origin, run.code, store_digest, used=used)


def staleness_of(
    run: PlannedRun,
    record: RunRecord,
    above: RunRecord | None,
    code: Mapping[str, str],
    store_digest: str | None = None,
    *,
    used: bool = True,
) -> str | None:
    """``staleness`` of a run of which the records are read.

    ``above``: that of the run it starts from, if that is finished. ``code``: the digests of now.
    ``used``: not of a run that broke before its first epoch was done: nothing of it is used.
    """
    if record.id != run.spec.id:
        return f"its run.json is of another run ({record.id[:8]})"
    if record.classes != list(run.context.prepared.split.classes):
        raise UserError(
            f"{run.directory}: its classes stand in another order, {listed(record.classes)}; "
            "order them so (class_order), or give the data set another name"
        )
    if not used:
        return None
    made = record.digests
    changed = changed_part(made, code)
    if changed is not None:
        return f"the code of {code_in_words(changed, run.spec)} has changed since this run"
    if store_digest is not None and made.get("store") != store_digest:
        return "the images have changed since this run"
    if above is not None and made.get("ancestor") not in (None, above.digests.get("model")):
        return f"the {above.spec.method} run it started from has been trained anew"
    return None


def code_in_words(part: str, spec: RunSpec) -> str:
    """A part of the code behind a run, for a sentence."""
    return {
        "method": spec.method,
        "loop": "lmdbench's training",
        "views": "its views of images",
        "samplers": "its sampler of images",
        "backbone": f"the backbone {spec.backbone}",
    }[part]


def plan(
    context: ResolvedContext,
    method: str,
    seed: int,
    overrides: Mapping[str, str],
    starts_from: str | None = None,
) -> PlannedRun:
    """The run of a method with everything it starts from.

    ``overrides``: settings as text, ``key`` for the method itself, ``ancestor.key`` for what it
    starts from. ``starts_from``: another method's name, a run's id or a run directory.
    """
    if context.selection == "best" and not len(context.prepared.split.parts["validation"]):
        raise UserError("--selection best: the split has no validation images; use last")
    own = {key: text for key, text in overrides.items() if "." not in key}
    by_ancestor: dict[str, dict[str, str]] = {}
    for key, text in overrides.items():
        if "." in key:
            name, _, setting = key.partition(".")
            by_ancestor.setdefault(name, {})[setting] = text
    own.update(by_ancestor.pop(method, {}))
    run = _plan(context, method, seed, own, {}, by_ancestor, starts_from)
    trained = [link.spec.method for link in run.chain[:-1]]
    for name in by_ancestor:
        if name not in trained:
            chain = " → ".join([*trained, method])
            raise UserError(f"--set {name}.…: {method} does not start from {name}: {chain}")
    for link in run.chain:
        if not link.given:
            _check_validation(link)
        _look_at_code(link)
    return run


def _check_validation(run: PlannedRun) -> None:
    """Raise UserError for a method that needs validation images where the split has none."""
    method = run.method
    if len(run.context.prepared.split.parts["validation"]):
        return
    way = "this split has none: choose a --split that has some"
    if method.uses_validation:
        raise UserError(f"{method.name} looks at validation images while it trains, and {way}")
    for name in method.chosen_on_validation:
        if run.spec.settings[name] is None:
            raise UserError(
                f"{method.name} chooses {name} on validation images, and {way}, or set it "
                f"(--set {method.name}.{name}=…)"
            )


def _look_at_code(run: PlannedRun) -> None:
    """Remember the code that is loaded, before an edit can come between."""
    known = run.spec.method in METHODS  # that of a given run need not be
    if known and (seen := (run.method, run.context.backbone.name)) not in _SEEN:
        _SEEN.add(seen)
        _ = run.code


_SEEN: set[tuple[type[Method], str]] = set()  # methods and backbones whose code was looked at


def _plan(
    context: ResolvedContext,
    name: str,
    seed: int,
    own: Mapping[str, str],
    asked: Mapping[str, Any],
    by_ancestor: Mapping[str, Mapping[str, str]],
    starts_from: str | None,
    above: tuple[str, ...] = (),
) -> PlannedRun:
    if name in above:
        raise UserError(f"{' ← '.join([*above, name])}: a method can't start from itself")
    if above and name not in METHODS.names():
        raise unknown(f"method (which {above[-1]} starts from)", name, METHODS.names())
    method = METHODS.get(name)
    start = method.starts_from
    if isinstance(start, str):
        start = Start(start)
    if starts_from is not None and start is None:
        raise UserError(f"--starts-from: {name} starts from no other run")
    ancestor = None
    if start is not None:
        ancestor = _existing(context, starts_from) if starts_from is not None else None
        if ancestor is None:
            if starts_from is not None:
                start = Start(_known_method(starts_from))
            ancestor = _plan(
                context,
                start.method,
                seed,
                by_ancestor.get(start.method, {}),
                start.settings,
                by_ancestor,
                None,
                (*above, name),
            )
        elif ancestor.spec.method in by_ancestor:
            raise UserError(
                f"--set {ancestor.spec.method}.…: the run it starts from is given and finished; "
                f"leave out --set, or --starts-from"
            )
    dataset = context.prepared.dataset
    backbone = context.backbone
    of_backbone = recipes_for(method, f"backbone {backbone.architecture!r}", backbone.recipes)
    of_dataset = recipes_for(method, f"data set {dataset.name!r}", dataset.recipes)
    for key in asked:
        if key not in describe(method.Settings):
            raise unknown(
                f"setting of {name}, which {above[-1]} asks for,",
                key,
                list(describe(method.Settings)),
            )
    recipes = in_order(of_backbone, asked, of_dataset)
    if backbone.frozen:
        recipes = [{k: v for k, v in r.items() if k not in OF_ENCODER} for r in recipes]
    usual = resolve(name, method.Settings, recipes, {})
    settings = resolve(name, method.Settings, recipes, own)
    if context.backbone.frozen:
        check_frozen(method, settings, own, above, backbone)
    spec = RunSpec(
        method=name,
        method_version=method.version,
        settings=recorded(settings),
        selection=context.selection,
        ancestor=ancestor.spec.id if ancestor else None,
        dataset=dataset.name,
        results_name=dataset.results_name,
        split=context.split_identity,
        seed=seed,
        backbone=context.backbone.name,
        weights=context.weights.identity,
        image_size=context.image_size,
        precision=context.precision,
        tuning=context.tuning,
    )
    changed = {k: v for k, v in asdict(settings).items() if v != getattr(usual, k)}
    directory = context.folder / name / spec.folder
    usual_ancestor = starts_from is None and (
        ancestor is None or (ancestor.usual_ancestor and not ancestor.changed_settings)
    )
    return PlannedRun(spec, context, directory, ancestor, changed, usual_ancestor)


KEPT_VIEWS = (("strong",), ("test",))  # of a method: there can be features of them


def check_frozen(
    method: type[Method],
    settings: Any,
    own: Mapping[str, str],
    above: tuple[str, ...],
    backbone: Backbone,
) -> None:
    """Raise UserError for a method that can't do with the features of a frozen encoder, and for a
    setting of the user's ``own`` that then does nothing. ``above``: what starts from the method.
    """
    why = method.needs_images
    if len(method.views) > 1:
        why = "it compares several views of an image, and such features are of one"
    elif getattr(settings, "bn", "eval") == "train":
        why = "with bn=train its batch norm follows the batches; --set bn=eval"
    elif backbone.drawn_views and method.views not in KEPT_VIEWS:
        why = f"it trains by the view {method.views[0]}, and the drawn ones are strong"
    if why:
        way = "let the encoder be trained, without frozen/ and --tuning head"
        if is_of_features(backbone.name):
            way = "it wants the images themselves"
        if above and not METHODS.get(above[-1]).needs_images:
            way = f"start {above[-1]} from another method, --starts-from ce, or {way}"
        raise UserError(
            f"{method.name} can't work on the features of a frozen encoder: {why}; {way}"
        )
    acting = [key for key in method.of_encoder if getattr(settings, key)]
    for key in (*acting, *of_encoder(settings)):
        if key in own:
            raise UserError(
                f"{method.name}.{key} acts on the training of the encoder, which is frozen; "
                "leave it out"
            )


def _known_method(name: str) -> str:
    if "/" in name:
        raise UserError(f"--starts-from {name}: no such run directory")
    if name not in METHODS.names():
        problem = unknown("method", name, METHODS.names())
        raise UserError(f"--starts-from: neither a run's id nor a run directory, and {problem}")
    return name


def _existing(context: ResolvedContext, reference: str) -> PlannedRun | None:
    """The finished run that an id or a directory names; None if the reference is neither."""
    if reference in METHODS.names():
        return None
    directory = Path(reference)
    if not (directory / "run.json").is_file():
        if directory.is_dir():
            raise UserError(f"--starts-from {reference}: no run directory, it has no run.json")
        found = runs_with_id(context.results, reference)
        if not found:
            return None
        if len(found) > 1:
            where = ", ".join(map(str, found))
            raise UserError(f"--starts-from {reference}: several runs have this id: {where}")
        (directory,) = found
    record = read_record(directory)
    state = run_state(directory)
    if state != "finished":
        raise UserError(f"--starts-from {reference}: {directory} is {state}, not finished")
    spec = record.spec
    wanted = {
        "dataset": context.prepared.dataset.name,
        "results_name": context.prepared.dataset.results_name,
        "split": context.split_identity,
        "backbone": context.backbone.name,
        "image_size": context.image_size,
        "tuning": context.tuning,
    }
    if context.backbone.frozen:  # else the given run brings its own encoder
        wanted["weights"] = context.weights.identity
    for key, value in wanted.items():
        there = getattr(spec, key)
        if there != value:
            raise UserError(f"--starts-from {reference}: its {key} is {there}, here it is {value}")
    return PlannedRun(spec, context, directory, None, record.changed_settings, given=True)


def nearest(run: PlannedRun) -> tuple[Path, dict[str, tuple[Any, Any]]] | None:
    """The existing run of the same method that differs least, and how: name → (there, here).

    One that differs in the seed alone is not worth a word.
    """
    here = _facts(asdict(run.spec), asdict(run.ancestor.spec) if run.ancestor else None)
    best = None
    for path in sorted(run.directory.parent.glob("seed*/run.json")):
        if MOVED_ASIDE in path.parent.name:
            continue
        try:
            record = read_record(path.parent)
        except UserError:
            continue
        there = _facts(asdict(record.spec), _ancestor_spec(record))
        differences = {
            name: (there.get(name), here.get(name))
            for name in dict.fromkeys([*here, *there])
            if there.get(name) != here.get(name)
        }
        if differences.keys() - {"seed"} and (best is None or len(differences) < len(best[1])):
            best = (path.parent, differences)
    return best


def _ancestor_spec(record: RunRecord) -> Mapping[str, Any] | None:
    if record.ancestor is None:
        return None
    try:
        return asdict(read_record(Path(record.ancestor.directory)).spec)
    except UserError:
        return {"method": record.ancestor.method, "settings": {}}


def _facts(spec: Mapping[str, Any], ancestor: Mapping[str, Any] | None) -> dict[str, Any]:
    """A specification, flat; of the ancestor its method and settings instead of its id."""
    facts: dict[str, Any] = {}
    for key, value in spec.items():
        if key == "split":
            facts |= {f"split {name}": v for name, v in value.items() if name != "fingerprint"}
            facts["images"] = value["fingerprint"][:8]
        elif key == "settings":
            facts |= value
        elif key != "ancestor":
            facts[key] = value
    if ancestor is not None:
        facts["starts from"] = ancestor["method"]
        facts |= {f"{ancestor['method']}.{k}": v for k, v in ancestor["settings"].items()}
    return facts
