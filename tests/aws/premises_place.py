"""The account as a place to render, on the tests' AWS: put together as the composition root does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.cloud.aws.identity import FARM_TAG, JOB_TAG, REQUEST_TAG, ROLE_TAG, tag_list
from supervisor.cloud.aws.inventory import Inventory
from supervisor.cloud.aws.orphans import Claims, Orphans
from supervisor.cloud.aws.premises import AwsPremises
from supervisor.cloud.aws.prices import AwsPrices
from supervisor.cloud.aws.staging_hands import StagingHands
from supervisor.cloud.aws.staging_places import StagingSite
from supervisor.cloud.ports import Check, JobNeeds
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.config import AwsConfig

from .farm import IDENTITY
from .workspace_place import FARM, TYPES, WorkspacePlace


@dataclass
class FakeDoctor:
    """Says what it is told to say."""

    found: list[Check] = field(default_factory=lambda: [Check(name="signed in", is_ok=True, text="as the farm")])
    asked_for: list[JobNeeds] = field(default_factory=list)

    def checks(self) -> Sequence[Check]:
        return self.found

    def job_checks(self, needs: JobNeeds) -> Sequence[Check]:
        self.asked_for.append(needs)
        return self.found


@dataclass
class PremisesPlace:
    """Premises beside workspaces of the same farm."""

    aside: WorkspacePlace
    folder: Path  #: for prices
    builds: set[str] = field(default_factory=set)  #: unfinished ones
    doctor: FakeDoctor = field(default_factory=FakeDoctor)
    premises: AwsPremises = field(init=False)

    def __post_init__(self) -> None:
        s3 = self.aside.moto.client("s3")
        buckets = (IDENTITY.projects_bucket, IDENTITY.received_bucket)
        for bucket in buckets:
            s3.create_bucket(Bucket=bucket)
        self.uploads = [S3Uploads(s3, bucket, connect=lambda endpoint: s3) for bucket in buckets]
        session, site = self.aside.session, self.aside.site()
        inventory = Inventory(session, farm=FARM)
        self.premises = AwsPremises(
            blenders=site.images.blenders,
            doctor=self.doctor,
            inventory=inventory,
            rates=AwsPrices(session, AwsConfig(), folder=self.folder),
            orphans=Orphans(
                session,
                inventory=inventory,
                hands=StagingHands(session, farm=FARM, site=StagingSite(site, types=TYPES), throughput_mib_s=250),
                versions=site.versions,
                uploads=self.uploads,
                claims=Claims(needed=lambda jobs: self.aside.workspaces.needed(jobs), builds=lambda: frozenset(self.builds)),
                clock=self.aside.clock,
            ),
        )

    @property
    def ec2(self) -> Any:
        return self.aside.moto.client("ec2")

    def a_volume(self, job: str, *, role: str = "render", request: str = "launch_1") -> str:
        """A volume that nothing is attached to."""
        tags = tag_list({FARM_TAG: FARM, JOB_TAG: job, ROLE_TAG: role, REQUEST_TAG: request})
        specification = [{"ResourceType": "volume", "Tags": tags}]
        return str(self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=5, TagSpecifications=specification)["VolumeId"])
