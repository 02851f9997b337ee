"""The account as a place to render, on the tests' AWS: put together as the composition root does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.cloud.aws.identity import FARM_TAG, JOB_TAG, REQUEST_TAG, ROLE_TAG, tag_list
from supervisor.cloud.aws.premises import AwsPremises
from supervisor.cloud.aws.prices import AwsPrices
from supervisor.cloud.ports import Check, JobNeeds
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.config import AwsConfig

from .farm import IDENTITY
from .workspace_place import FARM, WorkspacePlace


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
        self.open()

    def open(self) -> None:
        """Put the premises together with what the workspaces of the moment share with them."""
        self.premises = self.aside.parts.open_premises(
            self.aside.workspaces,
            blenders=self.aside.parts.site.images.blenders,
            doctor=self.doctor,
            rates=AwsPrices(self.aside.session, AwsConfig(), folder=self.folder),
            uploads=self.uploads,
            builds=lambda: frozenset(self.builds),
        )

    @property
    def ec2(self) -> Any:
        return self.aside.moto.client("ec2")

    def a_volume(self, job: str, *, role: str = "render", request: str = "launch_1") -> str:
        """A volume that nothing is attached to."""
        tags = tag_list({FARM_TAG: FARM, JOB_TAG: job, ROLE_TAG: role, REQUEST_TAG: request})
        specification = [{"ResourceType": "volume", "Tags": tags}]
        return str(self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=5, TagSpecifications=specification)["VolumeId"])
