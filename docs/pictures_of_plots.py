"""The pictures of docs/plots.md, of ce, crt and lmd on demo, three seeds each:
python docs/pictures_of_plots.py RESULTS FOLDER."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

CLASS = "round-streaked"  # of the tail
OF_LMD = ("--method", "lmd")
KINDS = {
    "per-class": (),
    "groups": (),
    "forest": ("--reference", "ce"),
    "confusion": (),
    "roc": ("--class", CLASS),
    "precision-recall": ("--class", CLASS),
    "decision-curve": ("--class", CLASS),
    "operating-points": ("--class", CLASS),
    "rank-stability": (),
    "curves": OF_LMD,
    "embedding": (*OF_LMD, "--images", "50"),
}

results, folder = map(Path, sys.argv[1:])
for kind, options in KINDS.items():
    picture = folder / f"plot-{kind}.png"
    words = ["plot", kind, "--results", str(results), *options, "--output", str(picture)]
    subprocess.run([sys.executable, "-m", "lmdbench", *words], check=True)
    Image.open(picture).quantize(64).save(picture, optimize=True)
