"""CICL: a linear classifier on class-balanced contrastive features."""

from __future__ import annotations

from lmdbench.methods.crt import ClassifierRetraining
from lmdbench.training.method import register_method


@register_method("cicl")
class CICL(ClassifierRetraining):
    """Class imbalance met by contrastive learning. The encoder comes from `supcon`: supervised
    contrastive learning in class-balanced batches gives every class its room among the features.
    Here it is frozen, the projector is dropped, and a new linear head is trained as in crt:

        L = CE(W φ + b, y), in class-balanced batches."""

    title = "CICL: fighting class imbalance with contrastive learning"
    source = (
        "Marrakchi et al., Fighting Class Imbalance with Contrastive Learning, MICCAI 2021; "
        "official code YMarrakchi/CICL, main_linear.py"
    )
    deviations = (
        "An epoch is as many draws as there are training images; in the official code it is the "
        "number of classes times the largest class.",
        "The recipe of crt here (10 epochs at .01, batch 128, cosine); official: 100 epochs at 1, "
        "batch 512, steps by .2 at 60, 75 and 90 epochs.",
        "The strong view; the official second stage crops and flips, and in one version of the "
        "code takes colour out of a fifth of the images, in another jitters colours.",
    )
    authors = {"epochs": 100, "batch_size": 512, "lr": 1.0, "weight_decay": 1e-4}
    starts_from = "supcon"
