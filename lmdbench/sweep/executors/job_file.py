"""Do a job that lies in a file: ``python -m lmdbench.sweep.executors.job_file FILE.json``."""

from __future__ import annotations

import sys
from pathlib import Path

from lmdbench.core.errors import RunFailed, UserError
from lmdbench.core.files import read_json
from lmdbench.sweep.executors.slurm_job import SweepJob


def main() -> None:
    try:
        SweepJob(read_json(Path(sys.argv[1]))).work()
    except (UserError, RunFailed) as error:
        sys.exit(f"lmdbench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
