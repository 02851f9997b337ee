"""What time it is in the tests' AWS: the machine's, or that of a clock that a test moves on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from moto.core import utils

from .patching import mend

_clocks: list[Callable[[], datetime]] = [lambda: datetime.now(UTC)]


def now() -> datetime:
    """The time, in UTC, as the cloud writes it down."""
    return _clocks[-1]()


@contextmanager
def told_by(clock: Callable[[], datetime]) -> Iterator[None]:
    """Let the cloud's time be the clock's."""
    _clocks.append(clock)
    try:
        yield
    finally:
        _clocks.remove(clock)


def repair() -> None:
    """moto asks the machine for the time; each of its modules has the function for that by name."""
    before = utils.utcnow
    for name, module in list(sys.modules.items()):
        if name.startswith("moto.") and getattr(module, "utcnow", None) is before:
            mend(module, "utcnow", lambda original: _utcnow)


def _utcnow() -> datetime:
    return now().replace(tzinfo=None)
