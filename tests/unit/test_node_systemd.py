"""The line to systemd: what is said on it, and that nobody needs to listen."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeimage.systemd import Systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager that listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(5)
        yield line


def test_manager_hears_that_the_program_is_ready_and_lives(manager: socket.socket, tmp_path: Path) -> None:
    systemd = Systemd.from_env({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    systemd.ready()
    systemd.alive()
    systemd.status("rendering\nframe 3")
    assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STATUS=rendering frame 3"]


def test_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        # of the whole machine are such names: another run of the tests must not listen at ours
        name = f"kiln-test-notify-{os.getpid()}"
        line.bind(f"\0{name}")
        line.settimeout(5)
        Systemd.from_env({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert line.recv(100) == b"READY=1"


def test_manager_that_is_gone_for_a_while_hears_the_next_word(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    systemd = Systemd.from_env({"NOTIFY_SOCKET": address})
    systemd.ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(address)
        line.settimeout(5)
        systemd.alive()
        assert line.recv(100) == b"WATCHDOG=1"


def test_without_a_manager_nothing_is_told(manager: socket.socket) -> None:
    Systemd.from_env({}).ready()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
