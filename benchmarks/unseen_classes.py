"""Which measure of likeness finds images of classes that were left out of training.

    python benchmarks/unseen_classes.py [--splits 2]

Some classes of a data set are left out, a linear head is trained on frozen features of the others,
and each measure of likeness scores the unseen images and the head's own test images. Printed are
the AUROC of one against the other, and the share of the unseen that are found where 5 % of the own
are. The images are those of LMDBENCH_TEST_DATA, by default ../shared/data.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from lmdbench.data.store.decoding import decode
from lmdbench.models.backbones import build_encoder, get_backbone, resolve_weights
from lmdbench.runs.likeness import SHARE, nearness, unit
from lmdbench.training.views.augmentation import normalise

ROOT = Path(os.environ.get("LMDBENCH_TEST_DATA", "../shared/data"))
BACKBONE, SIZE, BATCH = "frozen/efficientnet-lite0", 224, 32
EPOCHS, LEARNING_RATE, HEAD_BATCH = 100, 0.03, 128  # of the head, as in docs/frozen.md
LEFT_OUT = {
    "hyper-kvasir": (
        ("hemorrhoids", "ileum", "polyps"),
        ("ulcerative-colitis-grade-3", "ulcerative-colitis-grade-2-3"),
        ("ulcerative-colitis-grade-1", "ulcerative-colitis-grade-0-1", "ileum"),
    ),
    "isic2019": (("VASC", "DF"), ("MEL", "AK"), ("BCC", "SCC")),
}
Score = Callable[[np.ndarray], np.ndarray]  # features (N, D) → (N,), higher for more alike


def images(data_set: str) -> Iterator[tuple[Path, str]]:
    """The image files at hand, with their classes."""
    folder = ROOT / data_set
    if data_set == "hyper-kvasir":
        for file in sorted((folder / "labeled-images/lower-gi-tract").rglob("*.jpg")):
            yield file, file.parent.name
        return
    with (folder / "ISIC_2019_Training_GroundTruth.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            file = folder / "ISIC_2019_Training_Input" / f"{row.pop('image')}.jpg"
            if file.exists():
                yield file, next(name for name, one in row.items() if float(one) == 1)


def features_of(files: Sequence[Path]) -> np.ndarray:
    """(N, D) float32, of the frozen encoder."""
    backbone = get_backbone(BACKBONE)
    encoder = build_encoder(backbone, resolve_weights(backbone, "imagenet", "imagenet")).eval()
    batches = []
    for start in range(0, len(files), BATCH):
        pixels = [decode(file.read_bytes(), SIZE) for file in files[start : start + BATCH]]
        pictures = torch.from_numpy(np.stack(pixels)).to(torch.float32) / 255
        with torch.inference_mode():
            batches.append(encoder(normalise(pictures)).numpy())
    return np.concatenate(batches)


def trained_head(features: np.ndarray, labels: np.ndarray, seed: int) -> Score:
    """Logits (N, C) of a linear head."""
    torch.manual_seed(seed)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    head = torch.nn.Linear(x.shape[1], int(y.max()) + 1)
    optimizer = torch.optim.SGD(head.parameters(), lr=LEARNING_RATE, momentum=0.9)
    steps = EPOCHS * -(-len(x) // HEAD_BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(HEAD_BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return lambda other: head(torch.from_numpy(other)).detach().numpy()


def measures(train: np.ndarray, labels: np.ndarray, logits: Score) -> dict[str, Score]:
    means = np.stack([train[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    centred = train - means[labels]
    root = np.linalg.cholesky(LedoitWolf(assume_centered=True).fit(centred).precision_)
    known = unit(train)

    def mahalanobis(other: np.ndarray) -> np.ndarray:
        apart = (other @ root)[:, None] - (means @ root)[None]
        return -(apart**2).sum(axis=2).min(axis=1)

    return {
        "5th nearest neighbour": lambda other: nearness(known, other),
        "Mahalanobis": mahalanobis,
        "largest probability": lambda other: softmax(logits(other), axis=1).max(axis=1),
        "largest logit": lambda other: logits(other).max(axis=1),
        "energy": lambda other: logsumexp(logits(other), axis=1),
    }


def parts_of(labels: np.ndarray, seed: int) -> np.ndarray:
    """0 train, 1 validation, 2 test: 70/10/20 of each class."""
    rng, part = np.random.default_rng(seed), np.empty(len(labels), int)
    for c in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == c))
        for number, piece in enumerate(
            np.split(rows, (np.array([0.7, 0.8]) * len(rows)).round().astype(int))
        ):
            part[piece] = number
    return part


def one_split(
    features: np.ndarray, names: np.ndarray, held: Sequence[str], seed: int
) -> dict[str, tuple[float, float]]:
    """Measure → AUROC, and the share of unseen images found."""
    unseen = np.isin(names, held)
    labels, own = np.unique(names[~unseen], return_inverse=True)[1], features[~unseen]
    train, test = (parts_of(labels, seed) == part for part in (0, 2))
    logits = trained_head(own[train], labels[train], seed)
    found = {}
    for name, score in measures(own[train], labels[train], logits).items():
        seen, new = score(own[test]), score(features[unseen])
        truth = np.repeat([1, 0], [len(seen), len(new)])
        area = roc_auc_score(truth, np.concatenate([seen, new]))
        found[name] = area, float((new < np.quantile(seen, SHARE)).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--splits", type=int, default=2)
    options = parser.parse_args()
    for data_set, rows in LEFT_OUT.items():
        listed = list(images(data_set))
        features = features_of([file for file, _ in listed])
        names = np.array([name for _, name in listed])
        for held in rows:
            splits = [one_split(features, names, held, seed) for seed in range(options.splits)]
            print(f"{data_set} without {', '.join(held)}: {np.isin(names, held).sum()} unseen")
            for measure in splits[0]:
                area, share = np.mean([split[measure] for split in splits], axis=0)
                print(f"  {measure:22} AUROC {area:.2f}, found {share:.0%}", flush=True)


if __name__ == "__main__":
    main()
