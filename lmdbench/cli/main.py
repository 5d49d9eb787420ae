"""The ``lmdbench`` command."""


def main() -> None: ...
