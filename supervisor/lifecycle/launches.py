"""Launches that were asked for: whether everything that came of them has been seen."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from supervisor.store.instances import Launch

#: What a launch granted is listed within this time, or never came to be: the sweep finds what comes later still.
_SHOWN_WITHIN = timedelta(seconds=300)
#: A launch that we were cut off from (the server died in the call) has shown its instances within this time.
_UNKNOWN_SHOWN_WITHIN = timedelta(seconds=60)


def expected(launches: Iterable[Launch], *, now: datetime) -> int:
    """How many instances are granted and not shown by the cloud yet."""
    return sum(max((launch.granted or 0) - launch.shown, 0) for launch in launches if now - launch.at < _SHOWN_WITHIN)


def is_all_shown(launches: Iterable[Launch], *, now: datetime) -> bool:
    """Say whether no further instance can come of what was asked for."""
    asked = list(launches)
    in_doubt = any(launch.granted is None and now - launch.at < _UNKNOWN_SHOWN_WITHIN for launch in asked)
    return not in_doubt and not expected(asked, now=now)
