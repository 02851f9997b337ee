"""Jobs' whole lives on AWS end right, whatever befalls the farm: a slice of the crash matrix and of the fault storm, and real deaths.

The whole of both: `make crash-matrix`, `make fault-storm`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.domain.instance import Market
from supervisor.domain.workspace import WorkspaceMode
from tests.conventions.sources import ROOT

from .faults import Fault
from .lives.account import Account, open_account
from .lives.killed import Death, on_a_wire, play_killed
from .lives.life import Life, Wish

#: Programs that take half a minute on two cores of their own.
pytestmark = pytest.mark.timeout(900)

#: Of the first job of the storm here; those that follow have the seeds that follow.
STORM_SEED, STORM_JOBS = 4000, 10
#: The life with most kinds of calls, and each of how many of its points is played.
LIFE, EVERY = "on-demand, snapshot, pause", 37


def _last_line(module: str, *options: str) -> str:
    """Run a program of the tests to its good end. Returns: the last line that it prints"""
    ran = subprocess.run([sys.executable, "-m", module, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    said = f"{module} {' '.join(options)}\n{ran.stdout}{ran.stderr}"
    assert ran.returncode == 0, said
    return ran.stdout.strip().splitlines()[-1]


def test_a_job_ends_right_wherever_the_farm_dies() -> None:
    last = _last_line("tests.aws.crash_matrix", "--life", f"={LIFE}", "--every", str(EVERY))

    counts = re.fullmatch(r"(\d+) points: (\d+) ended right, 0 leaked, 0 doubled", last)
    assert counts, last
    assert int(counts[1]) == int(counts[2]) > 10


def test_jobs_in_a_storm_of_faults_end_right() -> None:
    last = _last_line("tests.aws.fault_storm", "--seed", str(STORM_SEED), "--jobs", str(STORM_JOBS))

    counts = re.fullmatch(rf"{STORM_JOBS} jobs: {STORM_JOBS} ended right; the farm died (\d+) times; \d+ s", last)
    assert counts, last
    assert int(counts[1]) > 0, "a storm without a death tries little"


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with open_account() as account:
        yield account


@pytest.fixture(scope="module")
def url(account: Account) -> Iterator[str]:
    with on_a_wire() as url:
        yield url


@pytest.mark.parametrize(
    "death",
    [
        Death(operation="RunInstances", fault=Fault.DIED_AFTER),
        Death(operation="CreateSnapshot", fault=Fault.DIED_AFTER),
        Death(operation="CreateFleet", fault=Fault.DIED_AFTER),
        Death(operation="TerminateInstances", fault=Fault.DIED_BEFORE),
    ],
    ids=str,
)
def test_a_job_ends_right_when_the_process_of_the_farm_is_killed(account: Account, url: str, tmp_path: Path, death: Death) -> None:
    life = Life(market=Market.SPOT, mode=WorkspaceMode.SNAPSHOT, wish=Wish.STRAIGHT, is_deleted=True)

    play = play_killed(account, url, life, tmp_path / "data", death=death)

    assert play.was_killed
    assert [str(fault) for fault in play.faults] == []
