"""What is measured on: random images, the task made of them, and methods ready to train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.core.randomness import Streams
from lmdbench.models.backbones import get_backbone
from lmdbench.models.classifier import Classifier
from lmdbench.training.engine import Mode
from lmdbench.training.method import METHODS, Method
from lmdbench.training.task import Images, Task

HELD_OUT = 703 / 4888  # validation images a training image, as on the images of the targets
IMBALANCE = 100  # the largest class to the smallest
MEMORY_SHARE = 0.8  # of what is free, that a training step may be expected to take


@dataclass(frozen=True)
class Workload:
    """Sizes, and how the device works on them. ``seconds``: about how long each thing is timed,
    thrice that where it is slow."""

    device: torch.device
    mode: Mode
    precision: torch.dtype | None
    backbone: str = "resnet18"
    image_size: int = 224
    batch_size: int = 128
    images: int = 4888
    classes: int = 7
    virtual_per_class: int = 50_000
    seconds: float = 2.0

    def describe(self) -> dict[str, Any]:
        sizes = asdict(self)
        for name in ("device", "mode", "precision", "seconds"):
            del sizes[name]
        sizes["image_size_pixels"] = sizes.pop("image_size")
        return {**sizes, "seconds_each": self.seconds}

    @cached_property
    def parts(self) -> tuple[Images, Images]:
        """Training and validation images: random pixels, the classes a long tail."""
        counts = long_tail(self.images, self.classes)
        labels = torch.arange(self.classes).repeat_interleave(torch.tensor(counts))
        held_out = max(1, round(HELD_OUT * self.images))
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(
            *(0, 256, (self.images, 3, self.image_size, self.image_size)),
            dtype=torch.uint8,
            generator=generator,
        )
        rows = torch.arange(self.images)
        validation = torch.arange(held_out)
        return (
            Images(pixels, rows, labels, self.device),
            Images(pixels, validation % self.images, validation % self.classes, self.device),
        )

    def forget_images(self) -> None:
        """Let go of the images; they are drawn anew, alike, when next they are needed."""
        vars(self).pop("parts", None)

    def task(self, mode: Mode | None = None) -> Task:
        """A new task, compiled anew, over the same images."""
        train, validation = self.parts
        return Task(
            classes=tuple(f"class {c}" for c in range(self.classes)),
            train=train,
            validation=validation,
            streams=Streams(0, self.device),
            device=self.device,
            precision=self.precision,
            mode=mode or self.mode,
        )

    def method(self, name: str, task: Task) -> Method:
        """A method with random weights in its own recipe, ready to train."""
        cls = METHODS.get(name)
        asked = {"batch_size": self.batch_size, "virtual_per_class": self.virtual_per_class}
        settings: Any = {key: n for key, n in asked.items() if hasattr(cls.Settings, key)}
        torch.manual_seed(0)
        made = cls(
            task, cls.Settings(**settings), get_backbone(self.backbone, self.image_size).construct()
        )
        made = made.to(task.device).to(memory_format=torch.channels_last)
        made.start_training()
        return made


def long_tail(images: int, classes: int) -> list[int]:
    """So many images in classes that shrink evenly to a hundredth, each with at least one."""
    shares = [IMBALANCE ** (-c / max(1, classes - 1)) for c in range(classes)]
    counts = [max(1, int(images * share / sum(shares))) for share in shares]
    counts[0] += images - sum(counts)
    return counts


@contextmanager
def memory_errors(workload: Workload) -> Iterator[None]:
    """Turn a lack of memory within into one line that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(
            words in str(error) for words in ("can't allocate memory", "not enough memory")
        )
        if not short:
            raise
        raise _too_large(workload, "does not fit", workload.batch_size // 2) from error


def require_memory(workload: Workload) -> None:
    """Raise UserError for a batch that the CPU's memory can't hold: allocating it anyway would
    have the system end this process, or others. A GPU says so itself."""
    if workload.device.type != "cpu":
        return
    free = available_bytes()
    each = step_bytes(workload)
    pixels = workload.images * 3 * workload.image_size**2
    most = int((MEMORY_SHARE * free - pixels) / each) if free else workload.batch_size
    if workload.batch_size > most:
        needs = f"needs about {each * workload.batch_size / 2**30:.0f} GiB of memory"
        has = f"{needs}, and {(free - pixels) / 2**30:.1f} GiB are free"
        raise _too_large(workload, has, 1 << max(0, most.bit_length() - 1))


def step_bytes(workload: Workload) -> int:
    """About what a training step of the backbone keeps for each image, in bytes."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images = torch.zeros(2, 3, workload.image_size, workload.image_size)
    encoder = get_backbone(workload.backbone, workload.image_size).construct()
    parameters = sum(p.numel() * p.element_size() for p in encoder.parameters())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = encoder(images)
    del features
    return max(1, (sum(saved.values()) - parameters) // 2)


def available_bytes() -> int:
    """Free memory of the machine; 0 where it can't be told."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    sizes = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines)}
    return 1024 * int(sizes.get("MemAvailable", 0))


def _too_large(workload: Workload, why: str, smaller: int) -> UserError:
    w = workload
    advice = f"try --batch-size {smaller}" if smaller >= 2 else "try a smaller --image-size"
    return UserError(
        f"--batch-size {w.batch_size}: {w.backbone} at {w.image_size} px {why}; {advice}"
    )


class BareStep:
    """A plain PyTorch training step of a classifier: cross-entropy and SGD, nothing else."""

    def __init__(self, model: Classifier, optimizer: torch.optim.Optimizer, task: Task) -> None:
        self.model, self.optimizer, self.task = model, optimizer, task

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        with self.task.autocast():
            loss = F.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}


class BareStudentAndTeacher(BareStep):
    """The same with the forward pass of a teacher on another view: what RRL can't do without."""

    def __init__(
        self, model: Classifier, optimizer: torch.optim.Optimizer, task: Task, teacher: nn.Module
    ) -> None:
        super().__init__(model, optimizer, task)
        self.teacher = teacher

    def __call__(self, images: Tensor, other: Tensor, labels: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        with torch.no_grad(), self.task.autocast():
            seen = self.teacher(other)
        return {**super().__call__(images, labels), "teacher": seen}
