"""What the command line shows while it works: a bar on a terminal, lines elsewhere. All of it on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

_LINE_EVERY_S = 5.0
_REDRAW_S = 0.1
_BAR_CHARACTERS = 30


class Progress:
    """One thing that goes on, from 0 to `total`."""

    def __init__(self, label: str, *, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._out = out or sys.stderr
        self._clock = clock
        self._is_terminal = self._out.isatty()
        self._shown = ""
        self._shown_at = -1e9

    def show(self, done: int, total: int, text: str) -> None:
        """Say how far it is; called as often as one likes."""
        line = f"{self._label}: {text}"
        pause_s = _REDRAW_S if self._is_terminal else _LINE_EVERY_S
        if line == self._shown or (self._clock() - self._shown_at < pause_s and done < total):
            return
        self._shown, self._shown_at = line, self._clock()
        if not self._is_terminal:
            print(line, file=self._out, flush=True)
            return
        filled = _BAR_CHARACTERS * done // total if total else 0
        print(f"\r\x1b[K{'█' * filled}{'░' * (_BAR_CHARACTERS - filled)} {line}", end="", file=self._out, flush=True)

    def say(self, text: str) -> None:
        """Print a line of its own above the bar."""
        if self._is_terminal and self._shown:
            print("\r\x1b[K", end="", file=self._out)
        print(text, file=self._out, flush=True)
        self._shown = ""

    def close(self) -> None:
        if self._is_terminal and self._shown:
            print(file=self._out)
        self._shown = ""


def size_text(count: int) -> str:
    """Write bytes for people: 1.5 GiB."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit takes everything")
