"""The ways a command can end early."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can mend: one line naming the thing and what to do. Exit code 2."""


class DiskError(UserError):
    """A disk that is full, read-only or away: what may pass without anyone changing the request."""


class Damaged(UserError):
    """A file that cannot be what was written there: cut short, changed, absent, or no file."""


class RunFailed(Exception):
    """A run that broke while it worked; its directory holds the traceback. Exit code 1."""


class DeviceLost(RunFailed):
    """A GPU that broke beneath a run, which is as it was saved last: another process can go on with
    it. ``how``: what became of this one, after ``its process``."""

    def __init__(self, run: str, how: str) -> None:
        super().__init__(f"{run}: its process {how}; the same command goes on in another")
        self.how = how


class Interrupted(Exception):
    """Ctrl-C or SIGTERM, with a word on how to go on. Exit code 130."""


@contextmanager
def told_of(thing: object) -> Iterator[None]:
    """What is wrong inside is told of a thing, whose name comes first."""
    try:
        yield
    except DiskError:
        raise
    except UserError as error:
        raise UserError(f"{thing}: {error}") from None
