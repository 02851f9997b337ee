"""The driver's side of the conversation with the agent: JSON lines, commands in, events out.

Commands: {"cmd": "open", …}, {"cmd": "render", …}, {"cmd": "quit"}; see `session.py`.
Events:   hello, opened, cannot_open, progress, alive, saved, rendered, failed; each {"ev": name, …}.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

#: Progress is sent so often, and that Python lives, at least.
PROGRESS_S = 0.25
ALIVE_S = 2.0

#: How lack of memory is worded: by Python and Blender, by C++, and by Cycles for a GPU (“System is out of GPU and shared host memory”).
_OUT_OF_MEMORY = ("out of memory", "bad_alloc", "out of gpu")


class Channel:
    """Commands and events of one driver process."""

    def __init__(self, events_fd: int) -> None:
        self._fd = events_fd
        self._lock = threading.Lock()
        self._commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._latest: dict[str, Any] | None = None

    def start(self) -> None:
        """Begin to read commands and to say that Python lives. Both go on while Blender renders."""
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        threading.Thread(target=self._tell, name="progress", daemon=True).start()

    def emit(self, event: str, **fields: Any) -> None:
        """Send an event. The process ends if nobody listens any more."""
        data = json.dumps({"ev": event, **fields}).encode() + b"\n"
        try:
            with self._lock:
                while data:
                    data = data[os.write(self._fd, data) :]
        except OSError:
            os._exit(0)

    def commands(self) -> Iterator[dict[str, Any]]:
        """Yield commands until `quit`."""
        while True:
            command = self._commands.get()
            if command["cmd"] == "quit":
                return
            yield command

    def _read(self) -> None:
        # Raw reads: a TextIOWrapper on stdin would be closed under this thread by Blender's own teardown.
        with os.fdopen(os.dup(0), "rb") as source:
            for line in source:
                if line.strip():
                    self._commands.put(json.loads(line))
        # The agent is gone: nobody would take what we render. The agent itself says `quit` first when it only wants us to end.
        os._exit(0)

    def tell_latest(self, progress: dict[str, Any] | None) -> None:
        """Let this be the progress that is sent next. Cheap: Blender calls it many times a second, then not for a minute."""
        self._latest = progress

    def _tell(self) -> None:
        pause = threading.Event()
        alive_at = time.monotonic()
        while not pause.wait(PROGRESS_S):
            latest, self._latest = self._latest, None
            if latest is not None:
                self.emit("progress", **latest)
            if time.monotonic() - alive_at > ALIVE_S:
                alive_at = time.monotonic()
                self.emit("alive", peak_memory_bytes=peak_memory_bytes())


def peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def is_lack_of_memory(error: BaseException) -> bool:
    """Say whether what Blender raised means that memory ran out, the machine's or the GPU's."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY)


def limit_memory(limit_bytes: int | None) -> None:
    """Let this process have no more than so much address space."""
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def print_by_line() -> None:
    """Make what Blender prints reach the log line by line: into a file, C would keep up to 4 KiB back, and lose it in a crash."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    libc = ctypes.CDLL(None)
    line_buffered = 1  # _IOLBF of glibc and musl
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, line_buffered, 0)


def log_bytes() -> int:
    """How long the log is by now: what follows in it belongs to what is done next."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)
    return os.fstat(2).st_size


def leave(status: int) -> None:
    """End the process at once: Blender's own exit hangs for ever in 4.5 or crashes in 4.2 where a file has Python drivers."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)
    os._exit(status)
