"""The contract of a method, and the supervised epoch that most methods use."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.core.registry import Registry, registrar, unknown
from lmdbench.core.settings import LogUniform, at_least, below
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.definition import check_definition
from lmdbench.training.engine import NotReplayable
from lmdbench.training.optimisation import (
    Optimisation,
    Place,
    as_given,
    check_made,
    check_optimisation,
    clip,
    make_optimizer,
    places,
    prepare,
    warmup_factor,
)
from lmdbench.training.samplers import SamplerChoice
from lmdbench.training.stepper import Stepper
from lmdbench.training.task import Images, Raw, Task, batch_sizes

T = TypeVar("T")


class Start:
    """What a method starts from: the name of another method, with settings it wants there."""

    def __init__(self, method: str, **settings: Any) -> None:
        self.method = method
        self.settings: Mapping[str, Any] = settings


class Method(nn.Module):
    """A long-tail method: one class in one small file.

    A method is an ``nn.Module``; everything it learns or averages is a parameter, buffer or
    submodule, so that its checkpoint is its ``state_dict`` and its optimisers. It is given a
    ``Task`` (class counts, training images, a validation set for what its definition selects) and
    never sees test images before it is finished.

    Say with class attributes what can be said so, and override only the hooks you need:

    ``build``       make the modules around the encoder (default: a linear head)
    ``start``       take over from the finished run it starts from (default: encoder, new head)
    ``optimizers``  by name (default: one, as the settings say, over what ``trains`` names)
    ``loss``        of a batch (default: none; most methods write only this)
    ``samplers``    what draws the batches of an epoch (default: what ``sampler`` names)
    ``prepared``    a drawn batch, told how strong its views are (default: as it was drawn)
    ``step``        one update (default: backward through ``loss``, then every optimiser)
    ``epoch``       one epoch (default: ``step`` over the sampler's batches)
    ``finish``      after the last epoch, or alone where ``epochs`` is 0: fit without training
    ``predict``     logits of images (default: the model's)
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raise it when results change; it is part of a run's identity
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""  # paper, venue, equation
    deviations: ClassVar[tuple[str, ...]] = ()  # from the source, one sentence each
    starts_from: ClassVar[str | Start | None] = None
    views: ClassVar[tuple[str, ...]] = ("strong",)
    sampler: SamplerChoice | tuple[SamplerChoice, ...] = "instance"  # a tuple gives a batch each
    trains: ClassVar[Literal["all", "head"]] = "all"
    # Whether the encoder's weights stay what they are, though something within it is trained.
    keeps_encoder: ClassVar[bool] = False
    # Why the features of a frozen encoder can't take the place of images, where they can't.
    needs_images: ClassVar[str] = ""
    of_encoder: ClassVar[tuple[str, ...]] = ()  # settings that do nothing where it is frozen
    scaffolding: ClassVar[tuple[str, ...]] = ()  # submodules needed for training only, never saved
    authors: ClassVar[Mapping[str, Any]] = {}  # settings → their defaults, where ours differ
    # What training costs: passes through the encoder of as many images as there are training
    # images, an epoch, forward and backward. Where it is empty: (1, 1), or (1, 0) for a head.
    passes: ClassVar[tuple[float, float] | None] = None
    # Whether ``step`` goes backward more than once through one forward pass: see ``gradients``.
    goes_back_twice: ClassVar[bool] = False
    # Whether training looks at validation images, as its definition has it: see ``logits``.
    uses_validation: ClassVar[bool] = False
    # Settings that are chosen on validation images where they are None, each kept in a buffer of
    # its name: a refit, which has no such images, is given what its run chose.
    chosen_on_validation: ClassVar[tuple[str, ...]] = ()
    # Whether ``step`` does the same work on every batch, whatever numbers are in it, and draws none
    # itself: then a GPU replays it as one graph. What else it depends on is its ``phase``.
    replayable: ClassVar[bool] = False
    # Of a step or epoch of its own: whether it does what it says where several batches make one
    # update (``accumulate``). All updates are ``update``'s then; ``place`` tells what is done once.
    accumulates: ClassVar[bool] = False

    @dataclass(frozen=True, kw_only=True)
    class Settings(Optimisation):
        """The recipe of LMD's stage 1, as each of its four processes has it, shared by every method
        unless its definition differs."""

        epochs: int = 100  # passes over the training images
        batch_size: int = 128  # images of an update
        lr: Annotated[float, LogUniform(1e-3, 1e-1)] = 0.01  # of SGD
        momentum: float = 0.9  # of SGD
        weight_decay: Annotated[float, LogUniform(1e-5, 1e-2)] = 0.0
        schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate, step by step

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, epochs=0, batch_size=1, lr=0, momentum=0, weight_decay=0)
            below(self, momentum=1)

    @dataclass(frozen=True, kw_only=True)
    class WarmupSettings(Settings):
        """The same for methods whose official recipe for CIFAR begins with 5 epochs of 200 in which
        the learning rate rises: in epoch e = 1 … 5 by e/5 (Cao et al., NeurIPS 2019)."""

        warmup_steps: ClassVar[int | None] = 5

        warmup: float = 0.025  # share of the epochs in which the rate rises, in 5 steps; 0: none

    @dataclass(frozen=True, kw_only=True)
    class HeadSettings(Settings):
        """The recipe of methods that train a head on a frozen encoder (Kang et al., ICLR 2020)."""

        epochs: int = 10
        # Range: up to those of the official recipes of cRT and BALMS, .2 and .5 at batch 512.
        lr: Annotated[float, LogUniform(1e-3, 0.5)] = 0.01  # of SGD
        schedule: Literal["constant", "cosine"] = "cosine"
        bn: Literal["eval", "train"] = "eval"  # of the frozen encoder

    settings: Any
    model: Classifier

    def __init__(self, task: Task, settings: Any, encoder: Encoder) -> None:
        super().__init__()
        self.task = task
        self.settings = settings
        self._progress = 0.0
        self.place = Place()  # of the batch that is trained on, where several make one update
        self.made_as_set = False  # whether an optimiser is the one that the settings name
        self.stepper = Stepper(self)
        check_optimisation(self, Method)
        prepare(encoder, settings)
        self.build(encoder)
        if self.trains == "head":
            self.model.encoder.requires_grad_(False)

    @property
    def epochs(self) -> int:
        return int(self.settings.epochs)

    @property
    def progress(self) -> float:
        """Share of the epochs done, for schedules.

        Raises NotReplayable within a step that is replayed, unless the method has phases.
        """
        if self.task.execution.replaying and type(self).phase is Method.phase:
            raise NotReplayable("its step reads progress and names no phases")
        return self._progress

    @progress.setter
    def progress(self, share: float) -> None:
        self._progress = share

    @cached_property
    def usual_size(self) -> int:
        """Images in an epoch's batches, but for the last ones."""
        return batch_sizes(len(self.task.train), self.settings.batch_size)[0]

    @property
    def evaluation_batch_size(self) -> int:
        """Images that are looked at together, without gradients. On a GPU as many as in training,
        whose memory then suffices: larger ones would not fit between what it left; but where that
        is few, some more."""
        if self.task.device.type != "cuda":
            return 256
        trained = int(getattr(self.settings, "batch_size", 64))
        return min(512, max(trained, min(64, 4 * trained)))

    # Hooks

    def build(self, encoder: Encoder) -> None:
        self.model = Classifier(encoder, nn.Linear(encoder.out_features, self.task.num_classes))

    def start(self, ancestor: Method) -> None:
        try:
            self.model.encoder.load_state_dict(ancestor.model.encoder.state_dict())
        except RuntimeError as error:  # other modules, or of other sizes
            raise UserError(
                f"{self.name} takes over one encoder, and that of {ancestor.name} is built "
                f"otherwise (experts, branches): {self.start_instead(ancestor)}"
            ) from error

    def start_instead(self, ancestor: Method) -> str:
        """What to do where a method can't start from this one, in words."""
        usual = self.starts_from
        usual = usual.method if isinstance(usual, Start) else usual
        such = f", such as {usual}" if usual and usual != ancestor.name else ""
        return f"start it from another method{such}"

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        trained = (p for p in self.parameters() if p.requires_grad)
        return {self.settings.optimizer: self.new_optimizer(trained)}

    def loss(self, batch: Any) -> Tensor:
        """Of a ``Batch``, or of a tuple of them where ``sampler`` is a tuple. A scalar."""
        raise NotImplementedError(f"{type(self).__name__} defines neither loss, step nor epoch")

    def step(self, batch: Any) -> dict[str, Tensor]:
        """One update. Returns what to log: scalars, left on the device."""
        with self.task.autocast():
            loss = self.loss(batch)
        self.update(loss)
        return {"loss": loss.detach()}

    def epoch(self, number: int) -> dict[str, float]:
        """One epoch, counted from 0. Returns the means of what its steps log."""
        logs = MeanLogs()
        for share, raws in self.draws():
            self.progress = (number + share) / self.epochs
            logs.add(self.execute(raws))
        return logs.means()

    def phase(self) -> Hashable:
        """What a replayable ``step`` depends on besides its batch and the method's tensors, such as
        ``self.progress >= 0.8``: each value met makes a graph of its own."""
        return None

    def samplers(self) -> Sequence[SamplerChoice]:
        """Of a batch each. Asked anew each epoch."""
        sampler = type(self).sampler  # of the class: of self, a plain function would be a method
        return sampler if isinstance(sampler, tuple) else (sampler,)

    @property
    def images_an_epoch(self) -> int:
        """How many images an epoch goes over: as many as there are training images, but for methods
        that train on a part of them."""
        return len(self.task.train)

    def prepared(self, raw: Raw) -> Raw:
        """A batch that was drawn, before its views are made: where its labels or positions tell
        how strong they are, it is said here, in the numbers that the views are made by."""
        return raw

    def finish(self) -> None:
        """Nothing to do after training, for most methods."""

    def predict(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W) in the test view."""
        return self.model(images)

    # What hooks are made of

    def new_optimizer(
        self, parameters: Iterable[nn.Parameter], lr: float | None = None
    ) -> torch.optim.Optimizer:
        """The optimiser that the settings name. ``lr``: None for that of the settings."""
        self.made_as_set = True
        rate = self.settings.lr if lr is None else lr
        return make_optimizer(parameters, self.settings, rate, self)

    def sgd(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """``new_optimizer`` by the name that it had when there was no other than SGD."""
        return self.new_optimizer(parameters)

    def update(self, loss: Tensor, *names: str) -> None:
        """Backward, then a step of the optimisers named (all of them, if none is named) at the
        schedule's learning rate; where batches are accumulated, after the last one of them, whose
        losses are weighted by their images. In float16 the loss is scaled, see ``LossScaler``."""
        if not (isinstance(loss, Tensor) and loss.numel() == 1):
            raise TypeError(f"the loss of {self._called} {_no_scalar(loss)}")
        optimizers = [self._optimizer(name) for name in names or self.running_optimizers]
        for optimizer in optimizers if self.place.first else ():
            optimizer.zero_grad(set_to_none=True)
        share = self.place.share
        self.task.scaler.scale(loss if share is None else loss * share).backward()
        if self.place.last:
            self._descend(optimizers)

    def _descend(self, optimizers: Collection[torch.optim.Optimizer]) -> None:
        """A step of each along the gradients, scaled ones in float16, that its parameters have."""
        scaler = self.task.scaler
        if most := getattr(self.settings, "clip_norm", 0):
            for optimizer in optimizers:
                scaler.unscale_(optimizer)
            clip(optimizers, most)
        for optimizer in optimizers:
            self.set_rates(optimizer)
            scaler.step(optimizer)
        scaler.update()

    @property
    def optimized(self) -> list[nn.Parameter]:
        """The parameters of all optimisers, in their order."""
        return _parameters_of(self.running_optimizers.values())

    def gradients(self, loss: Tensor, *, again: bool = False) -> list[Tensor]:
        """Of a scalar, by each parameter in ``optimized``; 0 where it does not matter. In float16
        they are computed of the scaled loss, and not finite where that was too large.

        ``again``: another call goes backward through the same forward pass. A method that needs it
        says ``goes_back_twice``.
        """
        scaler, parameters = self.task.scaler, self.optimized
        scaled = torch.autograd.grad(
            scaler.scale(loss), parameters, retain_graph=again, materialize_grads=True
        )
        return scaler.unscaled(scaled)

    def update_along(self, gradients: Iterable[Tensor], *names: str) -> None:
        """A step of the optimisers named (all of them, if none is named) along these gradients of
        their parameters, which are in the order of ``optimized``, at the schedule's learning rate:
        for a ``step`` that makes its gradient of several."""
        optimizers = [self._optimizer(name) for name in names or self.running_optimizers]
        for parameter, gradient in zip(_parameters_of(optimizers), gradients, strict=True):
            scaled = self.task.scaler.scale(gradient)
            # Laid out as the parameter is, which fused optimisers take for granted
            parameter.grad = torch.empty_like(parameter).copy_(scaled)
        self._descend(optimizers)

    @property
    def _called(self) -> str:
        return getattr(self, "name", type(self).__name__)

    def _optimizer(self, name: str) -> torch.optim.Optimizer:
        found = self.running_optimizers.get(name)
        if found is None:
            problem = unknown("optimizer", name, list(self.running_optimizers))
            raise UserError(f"update(loss, {name!r}) of {self._called}: {problem}")
        return found

    def set_rates(self, optimizer: torch.optim.Optimizer) -> None:
        """Learning rates by the schedule. In a replayed step they are tensors, set before it."""
        replaying = self.task.execution.replaying
        scheduled = getattr(self.settings, "schedule", "constant") != "constant" or getattr(
            self.settings, "warmup", 0
        )
        for group in optimizer.param_groups:
            rate = group.setdefault("base_lr", group["lr"])
            if replaying:
                if scheduled and not isinstance(group["lr"], Tensor):
                    raise NotReplayable("its optimiser takes no tensor for a learning rate")
            elif isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * self.schedule_factor())
            else:
                group["lr"] = as_given(optimizer, rate * self.schedule_factor())

    def schedule_factor(self) -> float:
        """The learning rate now, as a share of the one set."""
        cosine = getattr(self.settings, "schedule", "constant") == "cosine"
        factor = 0.5 * (1 + math.cos(math.pi * self.progress)) if cosine else 1.0
        warmup = getattr(self.settings, "warmup", 0.0)
        if not warmup:
            return factor
        steps = self.settings.warmup_steps
        return factor * warmup_factor(self.progress, warmup, steps, self.share_of_update)

    @property
    def share_of_update(self) -> float:
        """An update's share of the training."""
        s = self.settings
        batches = len(batch_sizes(self.images_an_epoch, s.batch_size))
        return 1 / (self.epochs * math.ceil(batches / s.accumulate))

    def placed(self, draws: Iterable[T], sizes: Sequence[int]) -> Iterator[T]:
        """An epoch's batches, of so many images each; while one is out, ``place`` is its own."""
        accumulate = getattr(self.settings, "accumulate", 1)
        for drawn, self.place in zip(draws, places(sizes, accumulate), strict=True):
            yield drawn
        self.place = Place()

    def draws(self) -> Iterator[tuple[float, tuple[Raw, ...]]]:
        """The epoch's batches before their views are made, one for each sampler, each with the
        share of the epoch done before it, or before the update that it is a part of."""
        images, batch_size = self.images_an_epoch, self.settings.batch_size
        drawn = self.task.draws(self.samplers(), self.views, batch_size, images=images)
        done = begun = 0
        for raws in self.placed(drawn, batch_sizes(images, batch_size)):
            begun = done if self.place.first else begun
            yield begun / images, tuple(map(self.prepared, raws))
            done += len(raws[0])

    def batches(self) -> Iterator[tuple[float, Any]]:
        """The same with their views: what ``step`` is given."""
        for share, raws in self.draws():
            yield share, self.stepper.batch(raws)

    def execute(self, raws: tuple[Raw, ...]) -> Mapping[str, Tensor]:
        """``step`` as the run's execution has it, see ``Stepper``."""
        return self.stepper(raws)

    @torch.no_grad()
    def features(self, images: Images) -> Tensor:
        """Features (N, D) float32 of a part's images in the test view, the encoder in eval mode."""
        encoder = self.model.encoder
        was_training = encoder.training
        encoder.eval()
        batches = self.task.in_order(images, self.evaluation_batch_size)
        with self.task.execution.eagerly(), self.task.autocast():
            features = [encoder(batch.images).float() for batch in batches]
        encoder.train(was_training)
        return torch.cat(features)  # not within, where the next replay would write over them

    @torch.no_grad()
    def logits(self, images: Images) -> Tensor:
        """Logits (N, C) float32 of a part's images, as they are predicted. A method that asks for
        those of ``task.validation`` while it trains says ``uses_validation``."""
        was_training = self.training
        self.eval()
        batches = self.task.in_order(images, self.evaluation_batch_size)
        with self.task.execution.eagerly(), self.task.autocast():
            logits = [self.predict(batch.images).float() for batch in batches]
        self.train(was_training)
        return torch.cat(logits)  # not within, where the next replay would write over them

    def train(self, mode: bool = True) -> Method:
        super().train(mode)
        if self.trains == "head" and getattr(self.settings, "bn", "eval") == "eval":
            self.model.encoder.eval()
        return self

    def start_training(self) -> None:
        """Make the optimisers, once the weights are where they start from."""
        if self.uses_validation and len(self.task.validation) == 0:
            raise UserError(
                f"{self._called} looks at validation images while it trains, and this split has "
                "none: choose a --split that has some"
            )
        self.running_optimizers = self.optimizers()
        check_made(self)


def _parameters_of(optimizers: Iterable[torch.optim.Optimizer]) -> list[nn.Parameter]:
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return [parameter for group in groups for parameter in group["params"]]


def _no_scalar(loss: Any) -> str:
    """What is wrong with a loss that is no scalar tensor, in words."""
    if isinstance(loss, Tensor):
        return f"must be a scalar, but has the shape {tuple(loss.shape)}: return its mean()"
    return f"must be a tensor, but is {type(loss).__name__}: return what torch made, unchanged"


class MeanLogs:
    """Means of scalars logged step by step, summed on the device so that no step waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, logs: Mapping[str, Tensor | float]) -> None:
        self._steps += 1
        for name, number in logs.items():
            value = torch.as_tensor(number)
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value

    def means(self) -> dict[str, float]:
        return {name: float(total) / self._steps for name, total in self._sums.items()}


METHODS: Registry[type[Method]] = Registry(
    "method", "lmdbench.methods", group="lmdbench.methods", base=Method
)


def is_built_in(method: type[Method]) -> bool:
    """Whether it is of this repository, and not of a plug-in or another package."""
    return method.__module__.startswith(f"{METHODS.home}.")


def built_in_methods() -> list[type[Method]]:
    """The methods of this repository by name."""
    return [method for method in map(METHODS.get, METHODS.names()) if is_built_in(method)]


@registrar
def register_method(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: make a method available under a name. See ``Registry.register``.

    Raises UserError for what makes no sense in a method.
    """

    def decorate(cls: type[Method]) -> type[Method]:
        if isinstance(cls, type) and issubclass(cls, Method):
            check_definition(name, cls, Method)
        return METHODS.register(name)(cls)

    return decorate
