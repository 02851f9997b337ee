"""What one tick saw, and what the supervisor remembers from tick to tick. Restarting loses nothing but patience: leases begin anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from nodeimage.protocol import Heartbeat
from supervisor.cloud.ports import RentedInstance
from supervisor.domain.budget import Month
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A node's status object that changed since the last tick."""

    etag: str
    heartbeat: Heartbeat | None  #: None: it can't be read, which is a sign of life all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What was seen, once, for everything that this tick does."""

    now: datetime
    rented: Sequence[RentedInstance]
    beats: Mapping[str, Beat]  #: by node: those that changed
    watching_since: datetime  #: nodes have been watched without a gap since then


#: A gap between two ticks so long means that nobody watched the nodes: their leases begin anew.
_GAP = timedelta(seconds=15)
#: How often a job's whole journal is read, for entries that a node with a wrong clock put before the cursor.
_WHOLE_JOURNAL_EVERY = timedelta(minutes=5)


@dataclass
class PoolWatch:
    """What is remembered of the shared pool."""

    gone: list[Instance] = field(default_factory=list)  #: that may have left claims behind, this tick
    order: bytes = b""  #: as it was written last
    idle_since: dict[str, datetime] = field(default_factory=dict)  #: instance -> since when its node has no job
    problem: str = ""  #: why there are fewer instances than are wanted
    problem_seen_at: datetime | None = None
    forgot_at: datetime | None = None  #: when old instances were forgotten last


@dataclass
class Watch:
    """What is remembered between ticks, in memory only."""

    since: datetime | None = None
    last: datetime | None = None
    running_since: dict[str, datetime] = field(default_factory=dict)  #: instance -> since when it is seen to run
    missing_since: dict[str, datetime] = field(default_factory=dict)  #: instance -> since when the cloud does not show it
    idle_since: dict[str, dict[str, datetime]] = field(default_factory=dict)  #: job -> instance -> since when it has no work and none waits
    whole_journal_at: dict[str, datetime] = field(default_factory=dict)  #: job -> when its whole journal was read last
    refusals: dict[str, int] = field(default_factory=dict)  #: job -> askings in a row that got nothing
    money_seen_at: dict[str, datetime] = field(default_factory=dict)  #: job -> when its cost was looked at last
    ahead_usd: dict[str, Decimal] = field(default_factory=dict)  #: job -> what was as good as spent of it then
    month: Month | None = None  #: what the month costs, as it was looked at last
    is_slot_promised: bool = False  #: a job that comes before the others found too few free slots in this tick: those that get free are its

    pool: PoolWatch = field(default_factory=PoolWatch)

    def saw(self, now: datetime) -> datetime:
        """Note that the nodes were looked at. Returns: since when they are, without a gap"""
        if self.since is None or self.last is None or now - self.last > _GAP:
            self.since = now
        self.last = now
        return self.since

    def is_whole_journal_due(self, job: str, now: datetime) -> bool:
        read_at = self.whole_journal_at.get(job)
        return read_at is None or now - read_at >= _WHOLE_JOURNAL_EVERY

    def forget_job(self, job: str) -> None:
        self.whole_journal_at.pop(job, None)
        self.refusals.pop(job, None)
        self.idle_since.pop(job, None)
        self.money_seen_at.pop(job, None)
        self.ahead_usd.pop(job, None)


#: The shortest wait between two ticks that wait for the same thing.
_SOON_S = 0.1


def soon_s(job: Job, tick: Tick) -> float:
    """How soon to look again at something that is about to happen: a tenth of the time that it was waited for already."""
    return max(_SOON_S, (tick.now - job.status_since).total_seconds() / 10)
