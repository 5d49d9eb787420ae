"""MRC-VFC, the predecessor of LMD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmdbench.methods.lmd import LMD
from lmdbench.training.method import Start, register_method


@register_method("mrc-vfc")
class MRCVFC(LMD):
    """Virtual feature compensation on the encoder of stage 1, which is the same as LMD's
    (multi-view relation-aware consistency, here `rrl`). Rounds are as in `lmd`: virtual features
    from each class's Gaussian train the head, long-tailed images train the encoder. What differs:

    - The encoder's loss is generalised cross-entropy through the frozen head, (1 − p_y^q)/q with
      q = .8, and nothing else: no feature distribution consistency.
    - No ridge on the covariances: a singular one spans only what the class's images span.
    - 500 rounds, and 256 virtual features an update.

    Its stage 1 is in the released form: updates of 512 images, L_channel divided by them.
    With another batch size set `rrl.channel_mean=width`, or L_channel weighs width / images."""

    title = "MRC-VFC: virtual feature compensation on RRL, as published"
    version = 3
    source = (
        "Pan et al., Combat Long-Tails in Medical Classification with Relation-Aware Consistency "
        "and Virtual Features Compensation, MICCAI 2023; settings from the official code, "
        "github.com/peterlipan/MRC_VFC, stage2.py"
    )
    deviations = (
        "As published where the official code differs: there the head is evaluated without "
        "gradient, so that the encoder's loss never moves it (here: through_head=false), q is .7, "
        "and the last, incomplete batch of images is dropped, also for the Gaussians.",
        "In the official code the scores after each round are of features encoded before its "
        "E-step; here, as in the final test of some of its versions, the encoder is the last one.",
        "Virtual features are shuffled; in the versions of the official stage2.py that could be "
        "read (commits 8510349, 736bbc0 and f33c8ea) they are trained on class after class.",
        "A class with one training image has no covariance, and its virtual features are that "
        "image's; the official code divides by 0 there.",
        "Images are resized with antialiasing for both stages; the official stage 1 resizes "
        "without.",
    )
    authors = {"gce_q": 0.7}
    starts_from = Start("rrl", batch_size=512, channel_mean="images")

    @dataclass(frozen=True, kw_only=True)
    class Settings(LMD.Settings):
        rounds: int = 500  # of expectation and maximisation; the last one counts
        ridge: float = 0.0  # added to the diagonal of every covariance
        head_batch_size: int = 256  # virtual features an update
        label_loss: Literal["ce", "gce"] = "gce"  # of the E-step; gce: (1 − p^q)/q
        gce_q: float = 0.8  # q of gce
        fdc_weight: float = 0.0  # 0: no FDC, which is LMD's
