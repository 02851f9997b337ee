"""A child process with all that it started, as one group: looked at, signalled and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress

_POLL_S = 0.02


class Group:
    """The group of a child that was started in a session of its own.

    Its number is the child's, and is given to nobody else before the child is collected. So it is collected last, when all was killed: a
    signal never reaches a stranger's group. Linux only (waitid).
    """

    def __init__(self, leader: subprocess.Popen[bytes]) -> None:
        """Shape:   leader: started with `start_new_session`; from here on nobody else polls it or waits for it"""
        self._leader = leader
        self._lock = threading.Lock()  # from the question whether it is collected to the signal

    def status(self) -> int | None:
        """How the child ended, as Popen tells it. Returns: None while it runs"""
        with self._lock:
            return self._status(os.WNOHANG)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the child's end. Returns: as `status`, after `timeout_s` at most"""
        deadline = time.monotonic() + timeout_s
        while (status := self.status()) is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return status

    def wait_for_end(self) -> int:
        """Wait for the child's end, however long that takes. Returns: as `status`"""
        status = self._status(0)  # without the lock: others go on meanwhile
        assert status is not None, "waitid waits without WNOHANG"
        return status

    def signal(self, number: signal.Signals) -> None:
        """Signal all of the group. One that has ended is no error."""
        with self._lock:
            if self._leader.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._leader.pid, number)

    def kill(self, within_s: float) -> bool:
        """Kill all of the group, and collect the child. Repeat: safe. Returns: False if it is not gone within the time: a disk holds it"""
        self.signal(signal.SIGKILL)
        self.wait(within_s)
        with self._lock:
            return self._leader.poll() is not None

    def _status(self, flags: int) -> int | None:
        if self._leader.returncode is not None:
            return self._leader.returncode
        try:
            found = os.waitid(os.P_PID, self._leader.pid, os.WEXITED | os.WNOWAIT | flags)
        except ChildProcessError:
            return self._leader.wait()  # collected this moment, by `kill`
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
