"""What the released stage 1 of LMD computes on four processes, written anew.

``python released_rrl.py FOLDER`` starts them and leaves, of the first, the gradients of each loss
with its weight as they come out of DistributedDataParallel in ``FOLDER/gradients.pt``. The released
training (github.com/peterlipan/LMD: stage1.py, utils/train.py, utils/loss.py; 4 GPUs × 128 images,
ResNet-18) is followed in: features gathered with a gradient to the own ones alone, squared
differences divided by all 512 images, weights 10, 10, 5, batch norm of the student synchronised,
that of the teacher not. The network is a small one of the same width.
"""

import multiprocessing
import sys
from pathlib import Path

import torch
import torch._dynamo  # which DistributedDataParallel needs: here once for all processes
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

PROCESSES, IMAGES, WIDTH, CLASSES = 4, 128, 512, 8


class Sum(torch.autograd.Function):
    """Over all processes; so is the gradient."""

    @staticmethod
    def forward(_: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return Sum.forward(ctx, gradient)


class BatchNorm(nn.Module):
    """By the statistics of the batch, over all processes where it is synchronised: (N, D)."""

    def __init__(self, width: int, synchronised: bool) -> None:
        super().__init__()
        self.synchronised = synchronised
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, width))
        self.bias = nn.Parameter(torch.linspace(-1, 1, width))

    def mean(self, x: Tensor) -> Tensor:
        own = x.mean(dim=0)
        return Sum.apply(own) / PROCESSES if self.synchronised else own

    def forward(self, x: Tensor) -> Tensor:
        centred = x - self.mean(x)
        return centred / (self.mean(centred.square()) + 1e-5).sqrt() * self.weight + self.bias


class Network(nn.Module):
    """Images (N, 3, 4, 4) to features (N, 512) and logits (N, 8)."""

    def __init__(self, synchronised: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(48, 24)
        self.norm = BatchNorm(24, synchronised)
        self.features = nn.Linear(24, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        z = F.softplus(self.features(self.norm(self.stem(images.flatten(1))).relu()))
        return z, self.head(z)


def network(synchronised: bool, seed: int = 0) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(synchronised).double()


def batch(rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A process's images in the student's view, labels, and what the teacher makes of its own."""
    generator = torch.Generator().manual_seed(rank)
    images = torch.randn(IMAGES, 3, 4, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (IMAGES,), generator=generator)
    weak = images + 0.3 * torch.randn(images.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        return images, labels, *network(synchronised=False, seed=1)(weak)


def everything() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The batches of all processes, one behind the other."""
    return tuple(torch.cat(parts) for parts in zip(*map(batch, range(PROCESSES)), strict=True))


def gathered(z: Tensor) -> Tensor:
    """The features of all processes; the gradient reaches the own ones."""
    all_z = [torch.empty_like(z) for _ in range(PROCESSES)]
    dist.all_gather(all_z, z.detach())
    all_z[dist.get_rank()] = z
    return torch.cat(all_z)


def relation_loss(S_student: Tensor, S_teacher: Tensor) -> Tensor:
    student, teacher = (S / S.norm(dim=1, keepdim=True) for S in (S_student, S_teacher))
    return ((student - teacher) ** 2 / (PROCESSES * IMAGES)).sum()


def main(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES
    )
    images, labels, z_teacher, logits_teacher = batch(rank)

    def loss_of(name: str, z: Tensor, logits: Tensor) -> Tensor:
        if name == "ce":
            return F.cross_entropy(logits, labels)
        if name == "prob":
            p_teacher = logits_teacher.softmax(dim=1)
            divergence = p_teacher * (p_teacher.log() - logits.softmax(dim=1).log())
            return 5 * divergence.sum() / IMAGES
        own, other = gathered(z), gathered(z_teacher)
        if name == "batch":
            return 10 * relation_loss(own @ own.T, other @ other.T)
        return 10 * relation_loss(own.T @ own, other.T @ other)

    gradients = {}
    for name in ("ce", "batch", "channel", "prob"):
        student = network(synchronised=True)
        parallel = DistributedDataParallel(
            student, find_unused_parameters=name in ("batch", "channel")
        )
        loss_of(name, *parallel(images)).backward()
        gradients[name] = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in student.parameters()
        ]
    if rank == 0:
        torch.save(gradients, folder / "gradients.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:  # torch is imported once
        pool.starmap(main, [(Path(sys.argv[1]), rank) for rank in range(PROCESSES)], chunksize=1)
