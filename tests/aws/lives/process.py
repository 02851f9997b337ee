"""A process of the farm: everything that it remembers is lost with it, and a new one goes on with the data folder and the cloud."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from app.bootstrap import open_farm
from app.bootstrap_aws import Clocks, Here, aws_farm
from supervisor.config import Config
from supervisor.farm import Farm
from supervisor.timers import Timer, Timers
from tests.fakes.farm import Clock, new_database

from .account import Account
from .filled_here import PlayedHere


@dataclass
class _Due:
    """Something that the farm does by itself, and when it does it next."""

    timer: Timer
    at: datetime

    def run(self, now: datetime) -> None:
        self.at = now + timedelta(seconds=self.timer.every_s)
        self.timer.call()


@dataclass
class Process:
    """The farm as it is served, from its start to its end, put together by the composition root; its time is the account's."""

    account: Account
    config: Config
    data: Path
    here: PlayedHere | None = None  #: None: the farm does not run on an instance
    farm: Farm = field(init=False)

    def __post_init__(self) -> None:
        clock: Clock = self.account.clock
        clocks = Clocks(now=clock, monotonic=lambda: clock().timestamp())
        here = Here(machine=self.here, fillings=self.here) if self.here else None
        opened = open_farm(
            self.config,
            self.data,
            serves=True,
            open_aws=partial(aws_farm, session=self.account.session, clocks=clocks, here=here),
            now=clock,
        )
        self.farm = opened.farm
        self._due = [_Due(timer, clock()) for timer in Timers(opened.farm, upkeep=opened.upkeep).rounds()]

    def work(self) -> None:
        """Do whatever is due, each thing once. Timers catch what is an error; what is raised here is the end of the process."""
        for due in self._due:
            now = self.account.clock()
            if now >= due.at:
                due.run(now)

    def let_go(self) -> None:
        """Close the database's file; it is opened again when it is needed."""
        self.farm.db.close()


def make_data_folder(data: Path) -> Path:
    """Make the data folder of a new farm."""
    data.mkdir(parents=True)
    (data / "kiln.db").write_bytes(new_database())
    return data
