"""Processes that outlive the one that started them: told apart by number and start time, ended by group. Linux only (/proc)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """A process for good: numbers are used again, a number with its start time is not."""

    pid: int
    started: int  #: clock ticks since the machine's start

    def is_alive(self) -> bool:
        """Say whether it runs. A zombie has ended."""
        return start_time(self.pid) == self.started

    def kill(self) -> None:
        """Kill it, with its whole group where it leads one. Repeat: safe"""
        send(self, signal.SIGKILL)


def start_time(pid: int) -> int | None:
    """Returns: when the process started, in clock ticks since the machine's start; None when it has ended, zombies included."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command's name stands in parentheses and may itself hold any character.
    fields = stat.rpartition(")")[2].split()
    has_ended = fields[0] in {"Z", "X"}
    # Killed with many threads, a process is a zombie while the last of them still hold its files and ports.
    return None if has_ended and int(fields[17]) <= 1 else int(fields[19])


def identify(pid: int) -> ProcessId | None:
    """Returns: None when there is no such process (any more)."""
    started = start_time(pid)
    return None if started is None else ProcessId(pid=pid, started=started)


def command_line(pid: int) -> list[str]:
    """Returns: empty when the process has ended or is not ours to read."""
    try:
        return [word.decode(errors="replace") for word in (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]]
    except OSError:
        return []


def with_environment(text: str) -> list[ProcessId]:
    """List the processes whose environment at their start has `text` in it, such as a home folder that only they were given.

    Those of other users can't be seen.
    """
    sought = text.encode()
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if sought in (entry / "environ").read_bytes():
                    found.append(identify(int(entry.name)))
    return [process for process in found if process is not None]


def send(process: ProcessId, number: signal.Signals) -> None:
    """Signal a process, with its whole group where it leads one. One that has ended is no error."""
    if not process.is_alive():
        return
    with suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)


def reap(pids: Iterable[int]) -> None:
    """Collect those of our children that have ended. Those of others are no error: their parent collects them."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def end_all(processes: Iterable[ProcessId], *, grace_s: float) -> bool:
    """Ask processes to end, wait at most `grace_s` for all of them together, and kill those left.

    Returns: whether all are gone (a killed one may need a moment more than is waited for)
    """
    waiting = list(processes)
    for process in waiting:
        send(process, signal.SIGTERM)
    waiting = wait_for_end(waiting, timeout_s=grace_s)
    for process in waiting:
        send(process, signal.SIGKILL)
    return not wait_for_end(waiting, timeout_s=1.0)


def wait_for_end(processes: Iterable[ProcessId], *, timeout_s: float) -> list[ProcessId]:
    """Wait until the processes have ended. Returns: those still alive after `timeout_s`."""
    waiting = list(processes)
    deadline = time.monotonic() + timeout_s
    while True:
        reap(process.pid for process in waiting)
        waiting = [process for process in waiting if process.is_alive()]
        if not waiting or time.monotonic() >= deadline:
            return waiting
        time.sleep(_POLL_S)
