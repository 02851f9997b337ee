"""A child with all that it started: how it ended is known before it is collected, and nobody is signalled after."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeimage.group import Group
from tests.waiting import wait_until

from .agent_fakes import PATIENCE_S

#: Starts a child of its own, says its number, and then ends or does not.
LEADER = """
import os, signal, subprocess, sys, time
print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
"""

Start = Callable[[str], tuple[Group, subprocess.Popen[bytes]]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a leader with a child, and what the program says then."""
    groups: list[Group] = []

    def start(program: str) -> tuple[Group, subprocess.Popen[bytes]]:
        leader = subprocess.Popen([sys.executable, "-c", LEADER + program], stdout=subprocess.PIPE, start_new_session=True)
        groups.append(Group(leader))
        return groups[-1], leader

    yield start
    assert all([group.kill(PATIENCE_S) for group in groups])


def child_of(leader: subprocess.Popen[bytes]) -> int:
    """The number that the leader says."""
    assert leader.stdout is not None
    with leader.stdout as said:
        return int(said.readline())


def state(pid: int) -> str:
    """A process's letter in /proc. Returns: empty for one that is gone"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize(
    ("program", "status"), [("os._exit(7)", 7), ("os._exit(0)", 0), ("os.kill(os.getpid(), 9)", -9), ("os.abort()", -6)]
)
def test_end_of_the_child_is_known_before_it_is_collected(start: Start, program: str, status: int) -> None:
    group, leader = start(program)
    left = child_of(leader)
    assert group.wait_for_end() == status
    assert (group.status(), group.wait(0.0)) == (status, status)
    assert state(leader.pid) == "Z", "its number could be somebody else's"
    assert state(left) not in "ZX"

    assert group.kill(PATIENCE_S)

    assert group.status() == status
    assert state(leader.pid) == ""
    wait_until(lambda: state(left) in "ZX", what="the end of what the child had started")


def test_child_that_runs_has_no_status_until_the_group_is_signalled(start: Start) -> None:
    group, leader = start("time.sleep(600)")
    left = child_of(leader)
    assert group.wait(0.0) is None
    group.signal(signal.SIGTERM)
    assert group.wait(PATIENCE_S) == -signal.SIGTERM
    wait_until(lambda: state(left) in "ZX", what="the end of what the child had started")


def test_group_whose_number_is_somebody_elses_by_now_is_signalled_no_more(start: Start) -> None:
    group, leader = start("os._exit(0)")
    child_of(leader)
    assert group.kill(PATIENCE_S)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as stranger:
        leader.pid = stranger.pid
        group.signal(signal.SIGKILL)
        assert group.kill(0.0)
        said, _ = stranger.communicate(b"I live", timeout=PATIENCE_S)
    assert (said, stranger.returncode) == (b"I live", 0)
