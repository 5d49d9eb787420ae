"""A sampler and a view of one's own, and the method that uses them."""

import torch

from lmdbench import Batch, Method, register_method, register_sampler, register_view


@register_sampler("square-root")
class SquareRootSampler:
    """Images with replacement: a class comes as often as the root of its share says."""

    def __init__(self, labels):  # (N,) int64, of the training images
        counts = torch.bincount(labels)
        self.weights = counts.to(torch.float64).rsqrt()[labels]

    def draw(self, n, generator):  # positions of n training images, (n,) int64
        return torch.multinomial(self.weights, n, replacement=True, generator=generator)


def shifts(n, generator):
    return (torch.rand(n, 1, 1, 1, generator=generator, device=generator.device) - 0.5,)


@register_view("brightness", draw=shifts)
def brightness(pixels, shift):  # (B, 3, H, W) uint8, and what draw gave
    """Brighter or darker by a fifth at most."""
    return pixels.to(torch.float32) / 127.5 - 1 + 0.4 * shift


@register_method("ce-square-root")
class SquareRoot(Method):
    """Cross-entropy on batches of the square-root sampler."""

    title = "CE, square-root sampling"
    source = "Kang et al., ICLR 2020, equation 1 with q = 1/2"
    sampler = "square-root"
    views = ("brightness",)

    def loss(self, batch: Batch):
        return torch.nn.functional.cross_entropy(self.model(batch.images), batch.labels)
