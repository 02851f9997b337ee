"""Workspaces on the tests' AWS, put together as the composition root does it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodeimage.launch import LaunchData, Role, WorkspaceKind
from supervisor.cloud.aws.inventory import Inventory
from supervisor.cloud.aws.session import AwsSession, Keys
from supervisor.cloud.aws.staging_hands import StagingHands, StagingPlace
from supervisor.cloud.aws.staging_sight import Sight
from supervisor.cloud.aws.workspace_records import Records
from supervisor.cloud.aws.workspaces import AwsWorkspaces
from supervisor.config import WorkspaceConfig
from supervisor.domain.workspace import WorkspaceMode
from tests.fakes import FakeObjectStore

from .happenings import IMAGE
from .moto_server import KEYS, Moto
from .staging_player import StagingPlayer
from .world import REGION

FARM = "f0f0f0f0f0f0"
TYPES = ("c7i.xlarge", "c7a.xlarge")


def session_on(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> AwsSession:
    """A session whose clients talk to the tests' AWS."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return AwsSession(region=REGION, keys=Keys(access_key=KEYS["aws_access_key_id"], secret_key=KEYS["aws_secret_access_key"]))


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
    clock: MovingClock = field(default_factory=MovingClock)
    mode: WorkspaceMode = WorkspaceMode.SNAPSHOT
    agent: str = "agent/1.pyz"  #: that instances are told to fetch
    released: list[str] = field(default_factory=list)  #: jobs whose template versions were deleted
    records: Records = field(init=False)
    workspaces: AwsWorkspaces = field(init=False)
    player: StagingPlayer = field(init=False)

    def __post_init__(self) -> None:
        self.player = StagingPlayer(self.moto, self.objects)
        self.restart()

    def restart(self, *, believed_s: float = 1, snapshot_from_gib: float = 5.0) -> None:
        """Forget whatever workspaces remember in memory, as a new process does."""
        self.records = Records(self.objects, clock=self.clock)
        self.workspaces = AwsWorkspaces(
            objects=self.objects,
            records=self.records,
            sight=Sight(Inventory(self.session, farm=FARM), self.objects, clock=self.clock),
            hands=StagingHands(self.session, farm=FARM, places=self._places, throughput_mib_s=250),
            config=WorkspaceConfig(mode=self.mode.value, snapshot_from_gib=snapshot_from_gib),
            believed_s=believed_s,
            release_template=self.released.append,
            clock=self.clock,
        )

    def forget_answer(self, job: str) -> None:
        """Make it so as if the farm had died between asking for the instance and hearing of it."""
        record = self.records.find(job)
        assert record is not None
        self.records.save(replace(record, instance=""))

    def _places(self, job: str) -> list[StagingPlace]:
        told = LaunchData(
            role=Role.STAGE,
            farm=FARM,
            job=job,
            region=REGION,
            projects_bucket="kiln-projects",
            received_bucket="kiln-received",
            agent=self.agent,
            agent_sha256="0" * 64,
            workspace=WorkspaceKind.BLANK,
        )
        root: dict[str, Any] = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 30, "DeleteOnTermination": True, "Encrypted": True}}
        data = {
            "ImageId": IMAGE,
            "InstanceInitiatedShutdownBehavior": "terminate",
            "BlockDeviceMappings": [root],
            "UserData": told.to_bytes().decode(),
        }
        return [StagingPlace(instance_type=type_, subnet=subnet, data=data) for type_ in TYPES for subnet in self.subnets()[:2]]

    def subnets(self) -> list[str]:
        found = self.moto.client("ec2").describe_subnets()["Subnets"]
        return [each["SubnetId"] for each in sorted(found, key=lambda each: str(each["AvailabilityZone"]))]

    def volumes(self) -> list[dict[str, Any]]:
        """Volumes that were made empty."""
        return [each for each in self.moto.client("ec2").describe_volumes()["Volumes"] if not each.get("SnapshotId")]

    def snapshots(self) -> list[dict[str, Any]]:
        """The farm's snapshots of workspaces."""
        ours = [{"Name": "tag:kiln:farm", "Values": [FARM]}]
        found: list[dict[str, Any]] = self.moto.client("ec2").describe_snapshots(OwnerIds=["self"], Filters=ours)["Snapshots"]
        return found
