"""Processes of the local cloud: told apart for good, ended for good."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cloud.local import processes
from tests.waiting import wait_until


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home for processes, none of which outlives the test."""
    yield tmp_path
    processes.end_all(processes.with_environment(f"HOME={tmp_path}/"), grace_s=0)


def start(home: Path, code: str) -> processes.ProcessId:
    """Start a Python that has said `ready`."""
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", f"import signal, subprocess, sys, time\n{code}\nprint('ready')\nsignal.pause()"],
        stdout=subprocess.PIPE,
        env={"HOME": f"{home}/"},
        start_new_session=True,
    )
    assert child.stdout is not None
    with child.stdout as output:
        assert output.readline() == b"ready\n"
    process = processes.identify(child.pid)
    assert process is not None
    child.returncode = 0  # waited for by its number, below
    return process


def test_process_that_was_asked_ends_within_its_grace(home: Path) -> None:
    process = start(home, "")
    assert process.is_alive()
    assert processes.end_all([process], grace_s=10) is True
    assert not process.is_alive()


def test_process_that_ignores_being_asked_is_killed(home: Path) -> None:
    process = start(home, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert processes.end_all([process], grace_s=0.1) is True
    assert not process.is_alive()


def test_children_in_the_group_end_with_it(home: Path) -> None:
    parent = start(home, "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])")
    family = processes.with_environment(f"HOME={home}/")
    assert len(family) == 2
    parent.kill()
    wait_until(lambda: not any(process.is_alive() for process in family))


def test_zombie_counts_as_ended(home: Path) -> None:
    process = start(home, "")
    os.kill(process.pid, 9)
    wait_until(lambda: not process.is_alive())
    os.waitpid(process.pid, 0)  # it was one: it could be collected only now


def test_number_that_was_used_again_is_another_process() -> None:
    ours = processes.identify(os.getpid())
    assert ours is not None
    forerunner = processes.ProcessId(pid=ours.pid, started=ours.started - 1)
    assert not forerunner.is_alive()
    processes.end_all([forerunner], grace_s=0)
    assert ours.is_alive()


def test_process_that_never_was_has_no_start() -> None:
    assert processes.identify(2**22 + 1) is None
    assert processes.command_line(2**22 + 1) == []
