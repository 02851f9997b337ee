"""A farm on fakes, with a clock of its own, and builders for what tests need in it."""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import insert

from nodeimage.protocol import project_key
from supervisor import queries
from supervisor.commands import jobs as commands
from supervisor.config import CloudConfig, Config, MoneyConfig
from supervisor.domain.file import FileStatus, is_blend
from supervisor.domain.ids import new_id
from supervisor.domain.job import JobStatus
from supervisor.domain.scene import Dependency, DependencyKind, Inspection, SceneInfo
from supervisor.domain.scene_json import inspection_to_json
from supervisor.domain.settings import JobSettings
from supervisor.farm import Farm
from supervisor.lifecycle.reconcile import Supervisor
from supervisor.store import jobs
from supervisor.store.database import Database
from supervisor.store.migrate import migrate
from supervisor.store.schema import files

from .account import FakeAccount
from .cloud import FakeCloud

BEGIN = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


@dataclass
class Clock:
    """Time that only passes when told to."""

    at: datetime = BEGIN

    def __call__(self) -> datetime:
        return self.at

    def pass_s(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    @property
    def ms(self) -> int:
        return int(self.at.timestamp() * 1000)


@dataclass
class FakeFarm:
    """A farm whose cloud, clock and wake-up call are at hand."""

    farm: Farm
    cloud: FakeCloud
    clock: Clock
    woken: threading.Event = field(default_factory=threading.Event)
    supervisor: Supervisor = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget whatever a supervisor remembers in memory, as a new process does."""
        self.supervisor = Supervisor(self.farm)

    def tick(self, *, after_s: float = 1.0) -> float:
        """Let time pass, and tick. Returns: how soon the next tick is wanted"""
        self.clock.pass_s(after_s)
        return self.supervisor.tick()

    def status(self, job: str) -> JobStatus:
        return queries.job_summary(self.farm, job).status

    def launch_failures(self, job: str) -> int:
        """How many of a job's launches in a row came to nothing."""
        with self.farm.db.read() as connection:
            found = jobs.find_job(connection, job)
        assert found is not None
        return found.launch_failures

    @classmethod
    def open(cls, folder: Path, *, slots: int | None = None, config: Config | None = None, account: FakeAccount | None = None) -> FakeFarm:
        """Open the farm of that data folder, made if need be. `account`: one that it rents in."""
        clock = Clock()
        cloud = FakeCloud(slots=slots, clock=clock, is_shared=bool(config and config.pool.mode == "shared"))
        cloud.account = account
        if not (folder / "kiln.db").exists():
            (folder / "kiln.db").write_bytes(new_database())
        db = Database.open(folder / "kiln.db")
        woken = threading.Event()
        farm = Farm(config=config or Config(), data=folder, db=db, cloud=cloud.ports, wake=woken.set, now=clock)
        return cls(farm=farm, cloud=cloud, clock=clock, woken=woken)

    def a_draft(
        self, *, name: str = "", blend: str | None = "shot.blend", inspection: Inspection | None = None, owner: str | None = None
    ) -> str:
        """A draft with one .blend of three frames. `owner`: a user's id."""
        job = commands.create_job(self.farm, name=name, owner_id=owner)
        if blend:
            self.a_file(job, blend, inspection=inspection or an_inspection())
        return job

    def a_file(
        self,
        job: str,
        path: str,
        *,
        body: bytes = b"BLENDER",
        status: FileStatus = FileStatus.READY,
        inspection: Inspection | None = None,
        is_read: bool = True,
    ) -> str:
        """A file of a job, uploaded and checked unless said otherwise. Not read: large, so its checksum comes later."""
        self.cloud.objects.place(project_key(job, path), body, etag="whole")
        return add_file(self.farm, job, path, body=body, status=status, inspection=inspection, is_read=is_read)

    def a_submitted_job(self, *, frames: str = "1-3", instances: int = 1, settings: JobSettings | None = None) -> str:
        """A job that waits for the supervisor."""
        job = self.a_draft()
        commands.submit_job(self.farm, job, replace(settings or JobSettings(), frames=frames, instances=instances))
        return job

    def a_rendering_job(self, *, frames: str = "1-3", instances: int = 1, settings: JobSettings | None = None) -> str:
        """A job whose instances run."""
        job = self.a_submitted_job(frames=frames, instances=instances, settings=settings)
        self.tick()
        self.tick()
        assert self.status(job) is JobStatus.RENDERING
        return job


def add_file(
    farm: Farm,
    job: str,
    path: str,
    *,
    body: bytes,
    status: FileStatus = FileStatus.READY,
    inspection: Inspection | None = None,
    is_read: bool = True,
) -> str:
    """Write down a file that is in the store already. Returns: its id"""
    file, found = new_id("file"), inspection or (an_inspection() if is_blend(path) else None)
    row = {
        "id": file,
        "job_id": job,
        "path": path,
        "path_folded": path.casefold(),
        "bytes": len(body),
        "checksum": f"crc32:{zlib.crc32(body):08x}" if is_read else "",
        "status": status,
        "problem": "it is truncated; upload it again" if status is FileStatus.BAD else "",
        "key": project_key(job, path),
        "inspection": inspection_to_json(found) if found else None,
        "created_at": farm.now(),
        "touched_at": farm.now(),
    }
    with farm.db.write() as connection:
        connection.execute(insert(files).values(**row))
    return file


def a_renting_farm(folder: Path, *, usd_per_h: str = "3.60", **money: float) -> FakeFarm:
    """A farm whose instances, all of one type, cost money. Shape: money: as `renting` takes it"""
    bench = FakeFarm.open(folder, config=renting(**money))
    set_price(bench.cloud, usd_per_h)
    return bench


def a_farm_that_stops(folder: Path, *, config: Config | None = None) -> FakeFarm:
    """A farm that rents where instances on demand can be stopped and started again."""
    bench = FakeFarm.open(folder, config=config or renting())
    bench.cloud.compute.can_stop = True
    return bench


def renting(**money: float) -> Config:
    """The configuration of a farm that rents. Shape: money: keys of `[money]`; without any, there is no cap"""
    caps = MoneyConfig.model_validate({"max_usd_per_job": 0.0, "max_usd_per_month": 0.0, **money})
    return Config(cloud=CloudConfig(provider="aws"), money=caps)


def set_price(cloud: FakeCloud, usd_per_h: str) -> None:
    """Let every instance cost that, and be of one type."""
    cloud.compute.price_usd_per_h = cloud.prices.default = Decimal(usd_per_h)
    cloud.prices.types = ("fake.large",)


@cache
def new_database() -> bytes:
    """An empty database, migrated once for all tests."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "kiln.db"
        db = Database.open(path)
        migrate(db, path)
        db.checkpoint()
        db.close()
        return path.read_bytes()


def an_inspection(
    *, version: tuple[int, int] = (4, 5), scenes: tuple[SceneInfo, ...] | None = None, dependencies: tuple[Dependency, ...] = ()
) -> Inspection:
    """What is found in a .blend with one scene of three frames."""
    return Inspection(
        version=version,
        is_compressed=False,
        scenes=scenes or (a_scene(),),
        current_scene=(scenes or (a_scene(),))[0].name,
        dependencies=dependencies,
    )


def a_scene(
    name: str = "Scene", *, camera: str | None = "Camera", cameras: tuple[str, ...] = ("Camera",), frames: tuple[int, int, int] = (1, 3, 1)
) -> SceneInfo:
    first, last, step = frames
    return SceneInfo(name=name, camera=camera, cameras=cameras, frame_start=first, frame_end=last, frame_step=step, engine="CYCLES")


def an_image(path: str) -> Dependency:
    return Dependency(path=f"//{path}", kind=DependencyKind.IMAGE, is_absolute=False, relative=path, used_by="wood")
