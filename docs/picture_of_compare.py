"""What ``lmdbench compare`` prints, as an SVG: python docs/picture_of_compare.py RESULTS FILE."""

import io
import sys
from pathlib import Path

from rich.console import Console

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.reporting.tables import print_comparison

results, picture = map(Path, sys.argv[1:])
console = Console(record=True, width=118, force_terminal=True, file=io.StringIO())
print_comparison(compare(read_results(results)), console)
console.save_svg(str(picture), title="lmdbench compare")
