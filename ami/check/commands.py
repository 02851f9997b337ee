"""Run programs, and say well what went wrong with them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nodeimage.group import Group

PAUSE_S = 0.1
GRACE_S = 5.0


class Failed(Exception):
    """Something is not as it must be; the message says what, for a person."""


def run(*command: str | Path, env: Mapping[str, str] | None = None, limit_s: float = 900.0, status: int | None = 0) -> str:
    """Run a program to its end. Returns: what it printed. Errors: Failed - another exit status than `status` (None: any), or no end"""
    words = [str(word) for word in command]
    try:
        ran = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            env=env,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{words[0]} did not end within {limit_s:.0f} s: {' '.join(words)}") from error
    if status is not None and ran.returncode != status:
        raise Failed(f"{' '.join(words)[:300]}\nended with status {ran.returncode}:\n{ran.stdout[-4000:]}")
    return ran.stdout


@contextmanager
def running(*command: str | Path, log: Path, env: Mapping[str, str] | None = None) -> Iterator[Group]:
    """Have a program run in the background; at the end it and all it started are gone."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
    group = Group(process)
    try:
        yield group
    finally:
        group.signal(signal.SIGTERM)
        group.wait(GRACE_S)
        group.kill(GRACE_S)


def wait_until(is_so: Callable[[], bool], what: str, *, limit_s: float) -> None:
    """Wait for a condition. Errors: Failed"""
    until = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > until:
            raise Failed(f"{what}: not so within {limit_s:.0f} s")
        time.sleep(PAUSE_S)


def expect(is_so: bool, what: str) -> None:
    """Errors: Failed"""
    if not is_so:
        raise Failed(what)
