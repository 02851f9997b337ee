"""A process of the farm: everything that it remembers is lost with it, and a new one goes on with the data folder and the cloud."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from app.bootstrap import OpenFarm, open_farm
from app.bootstrap_aws import Clocks, Here, aws_farm
from supervisor.cloud.aws.session import AwsSession
from supervisor.config import Config
from supervisor.farm import Farm
from supervisor.timers import Timer, Timers
from tests.fakes.farm import Clock, new_database

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
    """The farm as it is served, from its start to its end, put together by the composition root."""

    session: AwsSession
    clock: Clock
    config: Config
    data: Path
    here: PlayedHere | None = None  #: None: the farm does not run on an instance
    farm: Farm = field(init=False)

    def __post_init__(self) -> None:
        here = Here(machine=self.here, fillings=self.here) if self.here else None
        opened = opened_farm(self.session, self.clock, self.config, self.data, serves=True, here=here)
        self.farm = opened.farm
        self._due = [_Due(timer, self.clock()) for timer in Timers(opened.farm, upkeep=opened.upkeep).rounds()]

    def work(self) -> None:
        """Do whatever is due, each thing once. Timers catch what is an error; what is raised here is the end of the process."""
        for due in self._due:
            now = self.clock()
            if now >= due.at:
                due.run(now)

    def let_go(self) -> None:
        """Close the database's file; it is opened again when it is needed."""
        self.farm.db.close()


def opened_farm(session: AwsSession, clock: Clock, config: Config, data: Path, *, serves: bool, here: Here | None = None) -> OpenFarm:
    """Open a life's farm: as whoever serves it, or beside him, as a command does."""
    clocks = Clocks(now=clock, monotonic=lambda: clock().timestamp())
    return open_farm(config, data, serves=serves, open_aws=partial(aws_farm, session=session, clocks=clocks, here=here), now=clock)


def make_data_folder(data: Path) -> Path:
    """Make the data folder of a new farm."""
    data.mkdir(parents=True)
    (data / "kiln.db").write_bytes(new_database())
    return data
