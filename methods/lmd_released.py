"""LMD as its released code has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lmdbench.core.settings import Times
from lmdbench.methods.lmd import LMD
from lmdbench.training.method import Start, register_method


@register_method("lmd-released")
class LMDReleased(LMD):
    """Stage 2 of LMD with the differences between the released code and the publication:

    - The head is evaluated without gradient, so the label loss (GCE) never moves the encoder.
    - FDC has the opposite sign: repulsion − attraction, which pushes features off their own class.
    - The Gaussians are of a class-balanced draw of N training images with replacement.
    - The last, incomplete batch of images is dropped, in the E-step and from the draw.
    - A round's scores come from features encoded before its E-step, and the last head belongs to
      that encoder. So each round here opens with the E-step of the round before: the same steps in
      the same order, except that the last E-step is not done: no score is of its encoder (the
      released code saves that encoder, without the head).

    It starts from an `rrl` in the released form: updates of 512 images, L_channel divided by them.
    With another batch size set `rrl.channel_mean=width`, or L_channel weighs width / images.
    """

    title = "LMD: iterative classifier calibration on RRL, as in the released code"
    version = 3
    source = f"{LMD.source}; github.com/peterlipan/LMD, commit 0d632d3"
    deviations = (
        "Every class is drawn equally often for the Gaussians; the released code draws each image "
        "with a probability of 1/n of its class, so that this holds on average.",
        "Batch norm of the E-step sees all images of a batch; the released code divides them over "
        "four devices and keeps the statistics of the first.",
        "With `fdc_weight=0` the encoder's parameters stay as they are; the released code crashes.",
        "Of fewer images than a batch, one batch is made; the released code would see none.",
        "Images are resized with antialiasing for both stages; the released stage 1 resizes "
        "without.",
    )
    starts_from = Start("rrl", batch_size=512, channel_mean="images")
    drop_last = True
    e_step_opens_round = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(LMD.Settings):
        gaussians: Literal["training-set", "balanced-draw"] = (
            "balanced-draw"  # what they are fitted to; balanced-draw: N images drawn by class
        )
        label_loss: Literal["ce", "gce"] = "gce"  # of the E-step; gce: (1 − p^q)/q
        through_head: bool = False  # whether the label loss's gradient reaches the encoder
        fdc_weight: Annotated[float, Times(0.1, 10.0)] = (
            -1e-4  # negative: the released sign; 0: no FDC
        )
