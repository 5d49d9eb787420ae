"""What a download tells whoever watches it; by itself it says nothing."""

from __future__ import annotations


class Watch:
    """Progress of one thing at a time. Called from one thread, except ``say``."""

    def say(self, text: str) -> None:
        """A line for the user."""

    def begin(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        """Something begins, of which ``done`` of ``total`` units ("bytes" or "images") are there;
        a total of None is unknown."""

    def update(self, done: int) -> None: ...

    def end(self) -> None: ...
