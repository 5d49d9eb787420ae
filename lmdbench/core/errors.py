"""The ways a command can end early."""


class UserError(Exception):
    """Something the user can mend: one line naming the thing and what to do. Exit code 2."""


class DiskError(UserError):
    """A disk that is full, read-only or away: what may pass without anyone changing the request."""


class RunFailed(Exception):
    """A run that broke while it worked; its directory holds the traceback. Exit code 1."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM, with a word on how to go on. Exit code 130."""
