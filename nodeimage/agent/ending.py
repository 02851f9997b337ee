"""Why an agent ends, and how: the ways out of its work."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EndKind(StrEnum):
    """Why an agent ended, sorted by what its machine does next."""

    NO_WORK = "no_work"  #: there was nothing to do for too long
    DRAINED = "drained"  #: the farm wants no more frames; it may stop the machine, to start it again
    STOPPED = "stopped"  #: the farm says stop, or the job is gone
    TOLD = "told"  #: a signal, or whoever started the agent
    UNREACHABLE = "unreachable"  #: the store did not answer for too long
    OLD = "old"  #: it has lived for as long as it may
    UNFIT = "unfit"  #: the node can't work here: its files, Blender, or the farm's language
    INTERRUPTED = "interrupted"  #: the cloud takes the machine back


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why an agent ended."""

    kind: EndKind
    reason: str  #: in a sentence without its full stop
    attempts: int = 0  #: at frames, that ended in the agent's life


class Stopped(BaseException):
    """The agent is to end at once. A BaseException, because a signal may raise it anywhere."""

    def __init__(self, kind: EndKind, reason: str) -> None:
        super().__init__(reason)
        self.ending = Ending(kind=kind, reason=reason)


class Finished(Exception):
    """There is a reason to end in good order; the message says which."""

    def __init__(self, kind: EndKind, reason: str) -> None:
        super().__init__(reason)
        self.ending = Ending(kind=kind, reason=reason)


class Interrupted(Exception):
    """The cloud takes the machine back, and there is no time for what is at hand."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.ending = Ending(kind=EndKind.INTERRUPTED, reason=reason)
