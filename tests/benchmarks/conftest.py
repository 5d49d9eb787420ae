"""The scripts of benchmarks/speed import each other by name, as when they are run."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks" / "speed"))
