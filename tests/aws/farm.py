"""A farm that is set up in the tests' AWS, and the parts of its adapter that rent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from supervisor.cloud.aws.compute import Ec2Compute
from supervisor.cloud.aws.identity import FARM_TAG, Identity, tag_list
from supervisor.cloud.aws.launch_site import LaunchSite
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.aws.template import base_data
from supervisor.cloud.ports import LaunchSpec
from supervisor.config import AwsConfig, LaunchConfig, NodeTimes, WorkspaceConfig
from supervisor.domain.instance import Market
from tests.fakes.prices import FakePrices

from .moto_server import Moto


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An agent's release, as far as launches care."""

    key: str
    sha256: str


IDENTITY = Identity(farm="f0f0f0f0f0f0", projects_bucket="kiln-f0-projects", received_bucket="kiln-f0-received")
RELEASE = Release(key="agent/1-0123456789abcdef.pyz", sha256="ab" * 32)
SPEC = LaunchSpec(
    job="job_a",
    count=2,
    market=Market.ON_DEMAND,
    max_price_usd_per_h=None,
    instance_types=(),
    workspace="s3:0123",
    blender_version=(4, 5),
)


class Clock:
    """Monotonic seconds that a test moves on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Renting:
    """What a process of the farm has to rent with; another one of the same farm is another process of it."""

    session: AwsSession
    aws: AwsConfig = field(default_factory=lambda: AwsConfig(describe_s=0))
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    workspace: WorkspaceConfig = field(default_factory=WorkspaceConfig)
    release: Release = RELEASE
    prices: FakePrices = field(default_factory=FakePrices)
    clock: Callable[[], float] = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.prices.default = Decimal("0.714")
        self.site = LaunchSite(
            self.session,
            IDENTITY,
            aws=self.aws,
            workspace=self.workspace,
            node=NodeTimes(),
            agent=lambda: self.release,
            clock=self.clock,
        )
        self.compute = Ec2Compute(
            self.session, IDENTITY, aws=self.aws, launch=self.launch, site=self.site, prices=self.prices, clock=self.clock
        )


def set_up_farm(moto: Moto) -> None:
    """Make what a launch needs in the account, in few calls: instance profile, security group, launch template."""
    moto.client("iam").create_instance_profile(InstanceProfileName=IDENTITY.name)
    ec2 = moto.client("ec2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName=IDENTITY.name, Description="nothing comes in", VpcId=vpc)["GroupId"]
    tags = [{"ResourceType": "launch-template", "Tags": tag_list({FARM_TAG: IDENTITY.farm})}]
    ec2.create_launch_template(
        LaunchTemplateName=IDENTITY.name, VersionDescription="base", LaunchTemplateData=base_data(IDENTITY, group), TagSpecifications=tags
    )
    moto.tell("forget_calls")
