"""How well the audit finds near-duplicates: planted copies of real images, and false alarms.

    python benchmarks/near_duplicates.py [--copies 20] [--backbone efficientnet-lite0]

Copies of randomly chosen images, each changed in one way or two, are looked for among all images of
a data set. Printed are, for each change, the share found, and how many pairs were reported that
were not planted; these are drawn into a sheet, to be judged by eye: some are real. The images are
those of LMDBENCH_TEST_DATA, by default ../shared/data.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from lmdbench.data.check.contact_sheet import draw_pairs
from lmdbench.data.check.pictures import Pair, find_pairs
from lmdbench.models.backbones import build_encoder, get_backbone, resolve_weights

ROOT = Path(os.environ.get("LMDBENCH_TEST_DATA", "../shared/data"))
FOLDERS = {
    "isic2019": "isic2019/ISIC_2019_Training_Input",
    "hyper-kvasir": "hyper-kvasir/labeled-images",
}
Change = Callable[[Image.Image], Image.Image]


def compressed(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        content = io.BytesIO()
        image.save(content, "JPEG", quality=quality)
        return Image.open(content).convert("RGB")

    return change


def resized(x: float, y: float) -> Change:
    return lambda image: image.resize((round(image.width * x), round(image.height * y)))


def cut(left: float, top: float, right: float, bottom: float) -> Change:
    return lambda i: i.crop(
        (
            round(i.width * left),
            round(i.height * top),
            round(i.width * (1 - right)),
            round(i.height * (1 - bottom)),
        )
    )


def lit(brightness: float, contrast: float, colour: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        image = ImageEnhance.Brightness(image).enhance(brightness)
        return ImageEnhance.Color(ImageEnhance.Contrast(image).enhance(contrast)).enhance(colour)

    return change


def turned(how: Image.Transpose) -> Change:
    return lambda image: image.transpose(how)


def both(first: Change, second: Change) -> Change:
    return lambda image: second(first(image))


# What was done to a copy → how.
CHANGES: dict[str, Change] = {
    "JPEG quality 60": compressed(60),
    "JPEG quality 30": compressed(30),
    "half size": resized(0.5, 0.5),
    "narrower by 30 %": resized(0.7, 1),
    "mirrored": turned(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": turned(Image.Transpose.FLIP_TOP_BOTTOM),
    "turned by 90°": turned(Image.Transpose.ROTATE_90),
    "cut by 5 % a side": cut(0.05, 0.05, 0.05, 0.05),
    "cut by 10 % a side": cut(0.1, 0.1, 0.1, 0.1),
    "cut by 10 % at two sides": cut(0.1, 0, 0, 0.1),
    "brighter": lit(1.25, 1.2, 1.2),
    "darker": lit(0.75, 0.8, 0.8),
    "half size, quality 30": both(resized(0.5, 0.5), compressed(30)),
    "turned, cut by 10 %": both(turned(Image.Transpose.ROTATE_90), cut(0.1, 0.1, 0.1, 0.1)),
    "cut by 10 %, brighter": both(cut(0.1, 0.1, 0.1, 0.1), lit(1.25, 1.2, 1.2)),
    "mirrored, quality 30": both(turned(Image.Transpose.FLIP_LEFT_RIGHT), compressed(30)),
}


def measure(name: str, copies: int, backbone: str, sheets: Path) -> None:
    originals = {path.stem: path for path in sorted((ROOT / FOLDERS[name]).rglob("*.jpg"))}
    ids = list(originals)
    rng = np.random.default_rng(0)
    encoder = None
    if backbone != "none":
        known = get_backbone(backbone)
        encoder = build_encoder(known, resolve_weights(known, "imagenet", "imagenet"))
    with tempfile.TemporaryDirectory() as folder:
        files, source, change_of = dict(originals), {}, {}
        for change, apply in CHANGES.items():
            for row in rng.choice(len(ids), copies, replace=False):
                copy = f"{len(source)}-of-{ids[row]}"
                files[copy] = Path(folder, f"{copy}.png")
                apply(Image.open(originals[ids[row]]).convert("RGB")).save(files[copy])
                source[copy], change_of[copy] = ids[row], change
        begun = time.perf_counter()
        found = find_pairs(files, [ids, list(source)], encoder)
        seconds = time.perf_counter() - begun
        hits = {pair.first for pair in found.pairs if source[pair.first] == pair.second}
        alarms = [pair for pair in found.pairs if source[pair.first] != pair.second]
        print(
            f"\n{name}: {len(source)} copies among {len(ids):,} images, by perceptual hash"
            f"{f' and {backbone}' if encoder is not None else ''}, {seconds:.0f} s"
        )
        for change in CHANGES:
            planted = [copy for copy in source if change_of[copy] == change]
            print(f"  {change:26} {sum(copy in hits for copy in planted):3} of {len(planted)}")
        print(f"  {'all':26} {len(hits):3} of {len(source)}")
        distinct = {frozenset((source[pair.first], pair.second)): pair for pair in alarms}
        print(
            f"  not planted: {len(distinct)} pairs of originals, of "
            f"{len(source) * (len(ids) - 1):,} compared"
        )
        if distinct:
            shown = [
                Pair(source[p.first], p.second, False, p.agreement, p.hash_distance, p.cosine)
                for p in distinct.values()
            ]
            sheet = sheets / f"{name}-not-planted.png"
            draw_pairs(sheet, shown, originals, dict.fromkeys(ids, ""))
            print(f"  drawn into {sheet}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=20, help="of each change")
    parser.add_argument("--backbone", default="none")
    parser.add_argument("--sheets", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    for name in FOLDERS:
        measure(name, options.copies, options.backbone, options.sheets)


if __name__ == "__main__":
    main()
