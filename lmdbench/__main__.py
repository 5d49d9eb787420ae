"""``python -m lmdbench``: the same as the ``lmdbench`` command."""

from lmdbench.cli.main import main

main()
