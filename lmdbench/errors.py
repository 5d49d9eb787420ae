"""The two ways a command can fail."""


class UserError(Exception):
    """Something the user can mend: one line naming the thing and what to do. Exit code 2."""


class RunFailed(Exception):
    """A run that broke while it worked; its directory holds the traceback. Exit code 1."""
