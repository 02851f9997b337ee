"""What a person wants of a job, from its submission to its end, and what must have come of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nodeimage.launch import Role
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.domain.workspace import WorkspaceMode


class Wish(StrEnum):
    """What a person does about a job that renders."""

    STRAIGHT = "straight"  #: nothing
    PAUSE = "pause"  #: pauses it when the first frames are there, and resumes it when it is paused
    CANCEL = "cancel"  #: cancels it when the first frames are there
    EARLY_PAUSE = "early pause"  #: pauses it while its files are brought to where they are needed, and resumes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One job's life."""

    market: Market
    mode: WorkspaceMode
    wish: Wish
    instances: int = 2
    is_deleted: bool = False  #: a person deletes the job when it has ended; otherwise its files are kept until `keep_hours` are over
    frame_count: int = 0  #: 0: as many as the wish needs
    is_filled_here: bool = False  #: the farm runs on an instance, and fills the volume itself
    is_whole: bool = False  #: from the upload of its files, past the doctor, to the download of its frames
    is_shared: bool = False  #: on a farm with a shared pool of so many instances

    @property
    def name(self) -> str:
        more = ", filled here" * self.is_filled_here + ", whole" * self.is_whole + ", shared pool" * self.is_shared
        return f"{self.market.value.replace('_', '-')}, {self.mode.value}, {self.wish.value}{more}"

    @property
    def role(self) -> Role:
        """What the instances are that render it."""
        return Role.POOL if self.is_shared else Role.RENDER

    @property
    def frames(self) -> range:
        return range(1, 1 + (self.frame_count or (8 if self.wish in {Wish.PAUSE, Wish.CANCEL} else 3)))

    @property
    def settings(self) -> JobSettings:
        spec = f"{self.frames[0]}-{self.frames[-1]}"
        return JobSettings(frames=spec, instances=self.instances, market=self.market, workspace_mode=self.mode)

    @property
    def ends(self) -> frozenset[JobStatus]:
        """The statuses in which it may end: a person who cancels may come too late."""
        return frozenset({JobStatus.CANCELLED, JobStatus.COMPLETED} if self.wish is Wish.CANCEL else {JobStatus.COMPLETED})

    @property
    def most_launched(self) -> int:
        """Instances that there is reason to launch in all: spot ones are given back at a pause, and launched anew; AWS replaces those of a
        group that ended because nobody gave them work.
        """
        return self.instances * (2 if self.wish is Wish.PAUSE or self.is_shared else 1)

    @property
    def most_staged(self) -> int:
        """Volumes that there is reason to fill: one that was given back half full is filled anew."""
        return 0 if self.mode is WorkspaceMode.S3 else 2 if self.wish is Wish.EARLY_PAUSE else 1


LIVES = (
    *(
        Life(market=market, mode=mode, wish=wish, is_deleted=wish is not Wish.PAUSE)
        for mode in (WorkspaceMode.S3, WorkspaceMode.SNAPSHOT)
        for market in Market
        for wish in (Wish.STRAIGHT, Wish.PAUSE, Wish.CANCEL)
    ),
    Life(market=Market.ON_DEMAND, mode=WorkspaceMode.SNAPSHOT, wish=Wish.EARLY_PAUSE, is_deleted=True),
    Life(market=Market.ON_DEMAND, mode=WorkspaceMode.SNAPSHOT, wish=Wish.STRAIGHT, is_deleted=True, is_filled_here=True),
    Life(market=Market.SPOT, mode=WorkspaceMode.SNAPSHOT, wish=Wish.STRAIGHT, is_deleted=True, is_whole=True),
    Life(market=Market.ON_DEMAND, mode=WorkspaceMode.S3, wish=Wish.STRAIGHT, is_whole=True),
    # so many frames that a pool is thought to need both instances for them
    Life(market=Market.SPOT, mode=WorkspaceMode.S3, wish=Wish.STRAIGHT, is_shared=True, is_deleted=True, frame_count=12),
)
