"""Tell systemd that the program works: `READY=1`, `WATCHDOG=1`, and what it does. Where systemd does not listen, nothing is told.

`rootfs/usr/lib/systemd/system/kiln-node.service` relies on it: an agent that does not say `alive` for `WatchdogSec` is killed and started
again. So `alive` is to be called from where the work is done, not from a thread that lives while all else hangs.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Self


class Systemd:
    """The line to the service manager."""

    def __init__(self, address: str) -> None:
        """Shape:   `address`: a path, or `@` and an abstract name; empty: nobody listens"""
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        return cls(env.get("NOTIFY_SOCKET", ""))

    def ready(self) -> None:
        """Say that the program has come up: from now on it must say `alive`."""
        self._tell("READY=1")

    def alive(self) -> None:
        """Say that work goes on."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Say in a line what is being done, for `systemctl status`."""
        self._tell("STATUS=" + text.replace("\n", " "))

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        # Nobody is helped by a node that ends because systemd is busy: a lost word is followed by others.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.connect(self._address)
            line.sendall(message.encode())
