"""What a command refuses, in words a person can act on. The web face turns these into form errors and problem documents."""

from __future__ import annotations


class CommandError(Exception):
    """A command was refused and nothing was changed. `str(error)` is for people: what is wrong, and what to do."""


class Rejected(CommandError):
    """The input can't be used. `field` names the offending input (`frames`, `path`, …) or is empty."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NotFound(CommandError):
    """There is no such thing."""


class Conflict(CommandError):
    """The thing's status forbids it; the message names the status."""


class OutOfSpace(CommandError):
    """The farm's disk is too full; nothing was begun. Works again when there is room."""


class Forbidden(CommandError):
    """This user may not."""
