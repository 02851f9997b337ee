"""Read models: what pages and the API are shown. Plain values; nothing here reads or changes anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from supervisor.domain.cost import Cost, MonthCost
from supervisor.domain.download import DownloadStatus
from supervisor.domain.file import FileStatus
from supervisor.domain.frame import FrameCounts, FrameStatus
from supervisor.domain.instance import InstanceStatus, Market
from supervisor.domain.job import JobStatus
from supervisor.domain.problem import Problem
from supervisor.domain.scene import DependencyFound, Inspection, SceneInfo
from supervisor.domain.settings import JobSettings
from supervisor.store.ledger import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """A job as a list shows it."""

    id: str
    name: str
    owner: str  #: user name; empty: nobody's
    owner_id: str | None  #: None: its owner was removed, or it came through the inbox
    status: JobStatus
    reason: str  #: of the status, for people
    status_since: datetime
    created_at: datetime
    submitted_at: datetime | None
    ended_at: datetime | None
    frames: FrameCounts
    instances_running: int
    eta_s: float | None  #: seconds until completed, from measured frame times; None: not known
    cost_usd: Decimal  #: so far
    cover_frame: int | None  #: a received frame with a preview, the newest; None: none yet
    version: int  #: grows with every change


@dataclass(frozen=True, slots=True, kw_only=True)
class FileView:
    """A file of a job."""

    id: str
    job: str
    path: str
    bytes: int
    status: FileStatus
    problem: str  #: BAD only
    is_main: bool
    inspection: Inspection | None  #: of a .blend that is READY


@dataclass(frozen=True, slots=True, kw_only=True)
class Scouting:
    """The frames of a job that are rendered before a person is asked for the rest."""

    frames: tuple[int, ...]
    received: tuple[int, ...]
    has_ended: bool  #: they are received or failed: the rest waits for a yes


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetail:
    """A job as its page and the API show it."""

    summary: JobSummary
    settings: JobSettings  #: as asked for
    has_pool: bool  #: jobs share a pool: instances, market, price, types and the way of the files are its own, not the settings'
    frames_spec: str  #: what will be or is rendered, written as a spec; empty: not known yet (no .blend)
    main_file: FileView | None
    main_candidates: tuple[FileView, ...]  #: the READY .blend files: with two or more the user picks
    scene: SceneInfo | None  #: the scene that the settings name, of the main file
    dependencies: tuple[DependencyFound, ...]  #: of the main file and what it links
    file_count: int
    file_bytes: int
    uploading: int  #: files whose upload is not complete
    checking: int  #: files that are being looked through: zips being unpacked, large ones being read
    problems: tuple[Problem, ...]  #: errors first
    blockers: tuple[str, ...]  #: draft only: why it can't be submitted yet, for people
    cost: Cost
    cap_usd: Decimal | None  #: what it may cost; None: there is no cap
    farm_cap_usd: Decimal | None  #: what its owner may raise its cap to; None: there is no limit
    scouting: Scouting | None  #: None: it is not scouted, or a person said yes to the rest
    blender_version: str  #: of the Blender that renders it, or would render a draft; empty: not known yet
    blender_words: str  #: a sentence where that is of another series than the one that saved the main file; empty: it is not
    seconds_per_frame: float | None  #: median of the received frames
    can_pause: bool
    can_resume: bool
    can_cancel: bool
    can_retry: bool
    can_delete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputView:
    name: str
    bytes: int
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameView:
    """A frame of a job."""

    number: int
    status: FrameStatus
    attempt: int
    node: str | None
    instance: str | None
    render_s: float | None
    outputs: tuple[OutputView, ...]
    has_preview: bool
    has_log: bool
    reason: str  #: of its last failure
    damage: str  #: of a received one: what is wrong with its outputs in the store, as far as known; empty: nothing
    progress_pct: float | None  #: while rendering, where Blender says
    elapsed_s: float | None  #: while rendering


@dataclass(frozen=True, slots=True)
class FrameMark:
    """A frame in brief, for grids of a hundred thousand."""

    number: int
    status: FrameStatus
    attempt: int
    has_preview: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceView:
    """An instance of a job with what its node says."""

    id: str
    node: str
    status: InstanceStatus
    market: Market
    instance_type: str
    price_usd_per_h: Decimal
    launched_at: datetime
    ended_at: datetime | None
    taken_back_at: datetime | None  #: when the cloud took it back, or will by its notice; None: it does not
    note: str
    doing: str  #: a sentence: “rendering frame 12, sample 40 of 64”
    frame: int | None
    progress_pct: float | None
    elapsed_s: float | None
    finished: int  #: frames it delivered
    device: str
    beat_at: datetime | None
    log_tail: tuple[str, ...]
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadView:
    """A zip of a job's frames."""

    id: str
    job: str
    status: DownloadStatus
    reason: str
    name: str
    frames: int
    done_bytes: int
    total_bytes: int
    created_at: datetime
    ready_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthView:
    """What all jobs together cost in this calendar month."""

    month: str  #: 2026-01, in UTC
    cost: MonthCost
    cap_usd: Decimal | None
    is_near: bool  #: people are to be warned
    is_reached: bool
    jobs: tuple[Entry, ...]  #: deleted ones too, the dearest first; without those that cost nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeFigures:
    """What came of one kind of instance, in all jobs, deleted ones too."""

    instance_type: str
    market: str
    jobs: int
    instances: int
    frames: int
    frame_s: float | None  #: seconds that a frame rendered, the mean
    frames_per_h: float | None  #: of one instance, boot and idle included
    frames_per_usd: float | None  #: None: it cost nothing
    boot_s: float | None  #: from a launch to its node's first word, the mean
    rendering_pct: float | None  #: of the time that is paid for
    paid_s: float
    usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    is_alive: bool  #: the last tick is recent, though it may have been skipped
    last_tick_s: float | None  #: seconds since the last good tick; None: none yet
    provider: str
    trouble: str  #: why the last tick was skipped, for people; empty: it was not, or another process knows
