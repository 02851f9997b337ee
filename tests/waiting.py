"""Wait until something is so, and say what was waited for if it never is."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(is_so: Callable[[], bool], what: str, *, within_s: float = 30.0) -> None:
    """Errors: AssertionError - it was not so within that time"""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {within_s:g} s in vain for {what}"
        time.sleep(0.01)
