"""What the agent needs of the machine, and of whoever started it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nodeimage.protocol import NodeState

from .blender import Blender


class CannotPrepare(Exception):
    """The node can't have what it needs to work; the message is a sentence that says what to do."""


class Watcher(Protocol):
    """Whom a long preparation tells how far it is."""

    def look(self) -> None:
        """See whether there is a reason to end; to be called several times a second. Raises to end the preparation."""

    def tell(self, phase: str, problem: str = "") -> None:
        """Say how far it is, and what is in the way."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the agent needs of the machine."""

    start_blender: Callable[[int], Blender]  #: called with a number that grows
    first_blender: Blender | None  #: one already on its way: it starts while the agent does
    stop: threading.Event  #: once set, from any thread, the agent ends at once
    now_ms: Callable[[], int]  #: UTC
    free_bytes: Callable[[Path], int]  #: room on a folder's disk
    prepare: Callable[[Watcher], None] | None = None  #: what comes before Blender, such as the job's files. Errors: CannotPrepare
    interruption_at_ms: Callable[[], int] = lambda: 0  #: when the cloud takes the machine back (UTC); 0: nobody said so
    alive: Callable[[], None] = _nothing  #: called again and again while the agent's work goes on
    is_rented: bool = False  #: it costs money while it waits: what can't get better by itself is not waited for
    is_of_pool: bool = False  #: it goes on with other jobs: its end is no job's lost launch, and would be followed by others without end
    last_state: NodeState = NodeState.GONE  #: what its last heartbeat says; a node that goes on with another job says otherwise
