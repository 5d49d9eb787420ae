"""A table for a paper as a picture: python docs/picture_of_table.py RESULTS FILE.png.

Needs pdflatex with booktabs, and pdftoppm (Debian: texlive-latex-recommended, poppler-utils).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.reporting.tables import latex

DPI = 130
MARGIN = 20  # pixels around the table

results, picture = map(Path, sys.argv[1:])
names = ["balanced_accuracy", "macro_f1", "head", "medium", "tail"]
document = [
    r"\documentclass[11pt]{article}\usepackage{booktabs,graphicx}\pagestyle{empty}",
    r"\begin{document}",
    latex(compare(read_results(results), names=names)),
    r"\end{document}",
]
with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "table.tex").write_text("\n".join(document), encoding="utf-8")
    for command in (
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        ["pdftoppm", "-r", str(DPI), "-gray", "-singlefile", "-png", "table.pdf", "table"],
    ):
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    page = Image.open(Path(folder) / "table.png")
    left, top, right, bottom = ImageChops.invert(page).getbbox()
    around = (left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN)
    page.crop(around).quantize(16).save(picture, optimize=True)
