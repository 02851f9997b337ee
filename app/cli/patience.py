"""Go on through a server's restart: what may be asked twice is asked again for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TypeVar

from .client import ApiError, ServerUnreachable

_T = TypeVar("_T")

#: Waits between tries, in seconds: about two minutes in all, enough for an upgrade of the farm.
WAITS_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 30.0)

_PASSING = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


def is_passing(error: Exception) -> bool:
    """Say whether a failure may be over in a moment."""
    return isinstance(error, ServerUnreachable) or (isinstance(error, ApiError) and error.status in _PASSING)


def patiently(ask: Callable[[], _T], *, waits_s: tuple[float, ...] = WAITS_S, sleep: Callable[[float], object] = time.sleep) -> _T:
    """Ask until there is an answer. Repeat: `ask` must be safe to repeat. Errors: the last one, when patience is over"""
    waits: Iterator[float] = iter(waits_s)
    while True:
        try:
            return ask()
        except (ServerUnreachable, ApiError) as error:
            wait_s = next(waits, None)
            if wait_s is None or not is_passing(error):
                raise
            sleep(wait_s)
