"""Workspaces on the tests' AWS, put together as the composition root does it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from supervisor.cloud.aws.assembly import AwsPlace, open_own_volumes
from supervisor.cloud.aws.own_machine import OwnInstance
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.aws.workspace_records import Record, Records
from supervisor.cloud.aws.workspaces import AwsWorkspaces
from supervisor.config import AwsConfig, WorkspaceConfig
from supervisor.domain.workspace import WorkspaceMode
from tests.fakes import FakeObjectStore

from .farm import IDENTITY, RELEASE, Renting, set_up_farm
from .moto_server import Moto
from .own_place import FakeMachine, PlayedFillings
from .staging_player import StagingPlayer

FARM = IDENTITY.farm
TYPES = ("c7i.xlarge", "c7a.xlarge")


class Clock(Protocol):
    """Time that can be put forward."""

    def __call__(self) -> datetime: ...

    def pass_s(self, seconds: float) -> None: ...


class MovingClock:
    """Real time, which can be put forward."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def pass_s(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)


@dataclass
class WorkspacePlace:
    """Workspaces on the tests' AWS, with everything around them."""

    moto: Moto
    session: AwsSession
    objects: FakeObjectStore = field(default_factory=FakeObjectStore)
    clock: Clock = field(default_factory=MovingClock)
    mode: WorkspaceMode = WorkspaceMode.SNAPSHOT
    agent: str = "agent/1.pyz"  #: that instances are told to fetch
    filled_by: Literal["auto", "staging_instance", "farm"] = "auto"
    here: OwnInstance | None = None  #: the instance that the farm runs on, where it may fill volumes
    parts: AwsPlace = field(init=False)
    fillings: PlayedFillings = field(init=False)  #: processes of the farm's that fill volumes here
    workspaces: AwsWorkspaces = field(init=False)
    player: StagingPlayer = field(init=False)

    def __post_init__(self) -> None:
        set_up_farm(self.moto)
        self.player = StagingPlayer(self.moto, self.objects)
        self.restart()

    def restart(self, *, believed_s: float = 1, snapshot_from_gib: float = 5.0) -> None:
        """Forget whatever workspaces remember in memory, as a new process does."""
        site = Renting(self.session, release=replace(RELEASE, key=self.agent)).site
        workspace = WorkspaceConfig(
            mode=self.mode.value, snapshot_from_gib=snapshot_from_gib, filled_by=self.filled_by, staging_instance_type=" ".join(TYPES)
        )
        self.fillings = PlayedFillings(self.player)
        self.parts = AwsPlace(
            session=self.session,
            identity=IDENTITY,
            site=site,
            objects=self.objects,
            aws=AwsConfig(describe_s=believed_s),
            workspace=workspace,
            own=open_own_volumes(
                self.session,
                IDENTITY,
                site=site,
                workspace=workspace,
                machine=FakeMachine(self.here),
                fillings=self.fillings,
                clock=lambda: self.clock().timestamp(),
            ),
            clock=self.clock,
        )
        self.workspaces = self.parts.open_workspaces()

    def record(self, job: str = "job_a") -> Record:
        """What the farm wrote down of a job's workspace."""
        record = Records(self.objects, clock=self.clock).find(job)
        assert record is not None
        return record

    def forget_answer(self, job: str) -> None:
        """Make it so as if the farm had died between asking for the instance and hearing of it."""
        Records(self.objects, clock=self.clock).save(replace(self.record(job), instance=""))

    def volumes(self) -> list[dict[str, Any]]:
        """Volumes that were made empty."""
        return [each for each in self.moto.client("ec2").describe_volumes()["Volumes"] if not each.get("SnapshotId")]

    def snapshots(self) -> list[dict[str, Any]]:
        """The farm's snapshots of workspaces."""
        ours = [{"Name": "tag:kiln:farm", "Values": [FARM]}]
        found: list[dict[str, Any]] = self.moto.client("ec2").describe_snapshots(OwnerIds=["self"], Filters=ours)["Snapshots"]
        return found
