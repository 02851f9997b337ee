"""Wait until something is so, and say what was waited for if it never is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: At once, as a busy machine counts: what must not be waited for takes far longer.
AT_ONCE_S = 10.0


def wait_until(condition: Callable[[], T], *, timeout_s: float = 20.0, what: str = "", every_s: float = 0.01) -> T:
    """Ask until the answer is true. Returns: that answer. Errors: AssertionError - it never was"""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain{f' for {what}' if what else ''}: still {answer!r}"
        time.sleep(every_s)


def wait_for(is_so: Callable[[], bool], what: str, *, within_s: float = 30.0) -> None:
    """Errors: AssertionError - it was not so within that time"""
    wait_until(is_so, timeout_s=within_s, what=what)
