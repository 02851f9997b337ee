"""What the farm may do on AWS: the least IAM policy that allows what it calls, as data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from .identity import FARM_TAG, Identity
from .operations import OPERATIONS

VERSION = "2012-10-17"
#: Characters without white space that a managed policy may have. Source: IAM quotas, 2026-01
MOST_CHARACTERS = 6144
#: Kins of statements: on what is the farm's by its tag; on what is made with that tag.
_OURS, _MADE = "Ours", "Made"
#: The account's role for spot instances, and the service whose it is.
SPOT_ROLE = "AWSServiceRoleForEC2Spot"
SPOT_SERVICE = "spot.amazonaws.com"
#: The same for Auto Scaling groups.
SCALING_ROLE = "AWSServiceRoleForAutoScaling"
SCALING_SERVICE = "autoscaling.amazonaws.com"


class Part(StrEnum):
    """What a statement is needed for: a studio may run the farm with less than what setting it up takes."""

    RUN = "run"
    SET_UP = "setup"  #: and taking it down
    BUILD = "build"  #: images
    POOL = "pool"  #: a pool of instances that all jobs share
    FILL = "fill"  #: volumes, on the farm's own instance


#: They know no resources. Also a farm without a shared pool looks whether there is one left of before.
_DESCRIBES = tuple(
    sorted(
        action
        for action in {each for actions in OPERATIONS.values() for each in actions}
        if action.startswith(("autoscaling:Describe", "ec2:Describe"))
    )
)
#: EC2's create calls tag what they make; the tag is allowed for these alone, not afterwards.
_CREATING = ("RunInstances", "CreateFleet", "CreateSnapshot", "CreateImage", "CreateLaunchTemplate", "CreateSecurityGroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the policy holds: what its resource names are made of."""

    identity: Identity
    region: str

    @property
    def partition(self) -> str:
        return partition_of(self.region)

    def ec2(self, *kinds: str) -> tuple[str, ...]:
        """Resource names of EC2 things, of whichever account the policy is attached in. Those of images and snapshots have none."""
        return tuple(f"arn:{self.partition}:ec2:{self.region}:{'' if kind in {'image', 'snapshot'} else '*'}:{kind}/*" for kind in kinds)

    def iam(self, path: str) -> str:
        return f"arn:{self.partition}:iam::*:{path}"

    def service_role(self, service: str, role: str) -> str:
        return self.iam(f"role/aws-service-role/{service}/{role}")

    @property
    def role(self) -> str:
        return self.iam(f"role/{self.identity.name}")

    @property
    def buckets(self) -> tuple[str, ...]:
        names = dict.fromkeys((self.identity.projects_bucket, self.identity.received_bucket))
        return tuple(f"arn:{self.partition}:s3:::{name}" for name in names)

    @property
    def ec2_service(self) -> str:
        return "ec2.amazonaws.com.cn" if self.partition == "aws-cn" else "ec2.amazonaws.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of the policy: these actions on these resources, where the conditions hold."""

    sid: str
    part: Part
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Mapping[str, str | list[str]]] = field(default_factory=dict)
    kin: str = ""  #: statements of one kin may be merged: their actions know none of each other's resources

    def with_kin(self, other: Statement) -> Statement:
        """Both in one, which allows the same."""
        assert self.kin == other.kin, "statements of one kin are merged"
        assert self.conditions == other.conditions, "a kin is known by its conditions"
        resources = tuple(dict.fromkeys((*self.resources, *other.resources)))
        everything = tuple(name for name in resources if name.endswith(":*"))
        actions = tuple(sorted({*self.actions, *other.actions}))
        return replace(self, sid=self.kin, actions=actions, resources=everything or resources)

    def document(self) -> dict[str, object]:
        found: dict[str, object] = {"Sid": self.sid, "Effect": "Allow", "Action": list(self.actions), "Resource": list(self.resources)}
        return found | ({"Condition": {test: dict(keys) for test, keys in self.conditions.items()}} if self.conditions else {})


def partition_of(region: str) -> str:
    """The part of AWS that a region lies in, as resource names begin with it."""
    for prefix, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(prefix):
            return partition
    return "aws"


def parts_of(*, has_pool: bool, fills_volumes: bool) -> tuple[Part, ...]:
    """What a farm does, by how it is configured."""
    without = {Part.POOL: not has_pool, Part.FILL: not fills_volumes}
    return tuple(part for part in Part if not without.get(part))


def farm_policy(place: Place, *, parts: Iterable[Part] = tuple(Part)) -> dict[str, Any]:
    """The least policy that the farm's own keys need, as IAM takes it."""
    chosen = frozenset(parts)
    found = policy_of(_merged(each for each in statements(place) if each.part in chosen))
    if len(json.dumps(found, separators=(",", ":"))) > MOST_CHARACTERS:
        # names of statements are for people alone
        found["Statement"] = [{key: value for key, value in each.items() if key != "Sid"} for each in found["Statement"]]
    return found


def _merged(chosen: Iterable[Statement]) -> Iterator[Statement]:
    """The same in fewer statements: a policy may not be long."""
    kins: dict[str, Statement] = {}
    for each in chosen:
        if not each.kin:
            yield each
        else:
            kins[each.kin] = kins[each.kin].with_kin(each) if each.kin in kins else each
    yield from kins.values()


def statements(place: Place) -> tuple[Statement, ...]:
    parts = (_looking, _launching, _making, _own_things, _buckets, _setting_up, _building, _pooling, _filling)
    return tuple(statement for part in parts for statement in part(place))


def _looking(place: Place) -> tuple[Statement, ...]:
    return (
        Statement(
            sid="Look",
            part=Part.RUN,
            actions=(*_DESCRIBES, "servicequotas:GetServiceQuota", "servicequotas:GetAWSDefaultServiceQuota"),
            resources=("*",),
            conditions={"StringEquals": {"aws:RequestedRegion": place.region}},
        ),
        Statement(sid="Prices", part=Part.RUN, actions=("pricing:GetProducts",), resources=("*",)),
    )


def _launching(place: Place) -> tuple[Statement, ...]:
    launch = ("ec2:RunInstances", "ec2:CreateFleet")
    return (
        Statement(
            sid="LaunchInto",
            part=Part.RUN,
            actions=launch,
            resources=place.ec2("image", "subnet", "network-interface", "spot-instances-request"),
        ),
        Statement(
            sid="LaunchWithOurs",
            part=Part.RUN,
            actions=launch,
            resources=place.ec2("launch-template", "security-group", "snapshot"),
            conditions=own(place),
        ),
        # What a fleet starts is launched by RunInstances in the caller's name, and the statements about that hold for it. Which conditions
        # EC2 looks at for CreateFleet's own part in it is not documented.
        Statement(sid="FleetsInto", part=Part.RUN, actions=("ec2:CreateFleet",), resources=place.ec2("instance", "volume")),
        Statement(
            sid="FleetsTagged",
            part=Part.RUN,
            actions=("ec2:CreateFleet",),
            resources=place.ec2("fleet"),
            conditions=requested(place),
            kin=_MADE,
        ),
        Statement(
            sid="VolumesTagged",
            part=Part.RUN,
            actions=("ec2:RunInstances",),
            resources=place.ec2("volume"),
            conditions=requested(place),
            kin=_MADE,
        ),
        Statement(
            sid="LaunchInstances",
            part=Part.RUN,
            actions=("ec2:RunInstances",),
            resources=place.ec2("instance"),
            conditions={"StringEquals": {**requested(place)["StringEquals"], "ec2:MetadataHttpTokens": "required"}},
        ),
    )


def _making(place: Place) -> tuple[Statement, ...]:
    return (
        Statement(
            sid="SnapshotTagged",
            part=Part.RUN,
            actions=("ec2:CreateSnapshot",),
            resources=place.ec2("snapshot"),
            conditions=requested(place),
            kin=_MADE,
        ),
        Statement(
            sid="TagWhatIsMade",
            part=Part.RUN,
            actions=("ec2:CreateTags",),
            resources=(f"arn:{place.partition}:ec2:{place.region}:*",),
            conditions={"StringEquals": {**requested(place)["StringEquals"], "ec2:CreateAction": list(_CREATING)}},
        ),
        Statement(
            sid="GiveInstancesTheirRole",
            part=Part.RUN,
            actions=("iam:PassRole",),
            resources=(place.role,),
            conditions={"StringEquals": {"iam:PassedToService": place.ec2_service}},
        ),
    )


def _own_things(place: Place) -> tuple[Statement, ...]:
    everything = (f"arn:{place.partition}:ec2:{place.region}:*",)
    return (
        Statement(
            sid="OursToRun",
            part=Part.RUN,
            actions=(
                "ec2:CreateLaunchTemplateVersion",
                "ec2:CreateSnapshot",
                "ec2:DeleteFleets",
                "ec2:DeleteLaunchTemplateVersions",
                "ec2:DeleteSnapshot",
                "ec2:DeleteVolume",
                "ec2:ModifyInstanceAttribute",
                "ec2:StartInstances",
                "ec2:StopInstances",
                "ec2:TerminateInstances",
            ),
            resources=everything,
            conditions=own(place),
            kin=_OURS,
        ),
        Statement(
            sid="OursToSetUp",
            part=Part.SET_UP,
            actions=(
                "ec2:AuthorizeSecurityGroupEgress",
                "ec2:DeleteLaunchTemplate",
                "ec2:DeleteSecurityGroup",
                "ec2:ModifyLaunchTemplate",
                "ec2:RevokeSecurityGroupEgress",
                "ec2:RevokeSecurityGroupIngress",
            ),
            resources=everything,
            conditions=own(place),
            kin=_OURS,
        ),
    )


def _buckets(place: Place) -> tuple[Statement, ...]:
    return (
        Statement(
            sid="ListBuckets",
            part=Part.RUN,
            actions=("s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketCORS"),
            resources=place.buckets,
        ),
        Statement(
            sid="Objects",
            part=Part.RUN,
            actions=("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"),
            resources=tuple(f"{bucket}/*" for bucket in place.buckets),
        ),
        Statement(
            sid="MakeBuckets",
            part=Part.SET_UP,
            actions=(
                "s3:CreateBucket",
                "s3:DeleteBucket",
                "s3:GetBucketPublicAccessBlock",
                "s3:GetBucketTagging",
                "s3:GetEncryptionConfiguration",
                "s3:GetLifecycleConfiguration",
                "s3:PutBucketCORS",
                "s3:PutBucketPublicAccessBlock",
                "s3:PutBucketTagging",
                "s3:PutEncryptionConfiguration",
                "s3:PutLifecycleConfiguration",
            ),
            resources=place.buckets,
        ),
    )


def _setting_up(place: Place) -> tuple[Statement, ...]:
    spot = place.service_role(SPOT_SERVICE, SPOT_ROLE)
    return (
        Statement(
            sid="MakeTagged",
            part=Part.SET_UP,
            actions=("ec2:CreateLaunchTemplate", "ec2:CreateSecurityGroup"),
            resources=place.ec2("launch-template", "security-group"),
            conditions=requested(place),
            kin=_MADE,
        ),
        # A rule has a name of its own without tags; the group that it belongs to must be ours.
        Statement(
            sid="GroupsPlace",
            part=Part.SET_UP,
            actions=(
                "ec2:CreateSecurityGroup",
                "ec2:AuthorizeSecurityGroupEgress",
                "ec2:RevokeSecurityGroupEgress",
                "ec2:RevokeSecurityGroupIngress",
            ),
            resources=place.ec2("vpc", "security-group-rule"),
        ),
        Statement(
            sid="NodeRole",
            part=Part.SET_UP,
            actions=(
                "iam:AddRoleToInstanceProfile",
                "iam:CreateInstanceProfile",
                "iam:CreateRole",
                "iam:DeleteInstanceProfile",
                "iam:DeleteRole",
                "iam:DeleteRolePolicy",
                "iam:GetRolePolicy",
                "iam:PutRolePolicy",
                "iam:RemoveRoleFromInstanceProfile",
                "iam:TagInstanceProfile",
                "iam:TagRole",
                "iam:UpdateAssumeRolePolicy",
            ),
            resources=(place.role, place.iam(f"instance-profile/{place.identity.name}")),
        ),
        Statement(
            sid="SeeRoles",
            part=Part.RUN,
            actions=("iam:GetInstanceProfile", "iam:GetRole"),
            resources=(place.role, place.iam(f"instance-profile/{place.identity.name}"), spot),
        ),
        Statement(
            sid="SpotRole",
            part=Part.SET_UP,
            actions=("iam:CreateServiceLinkedRole",),
            resources=(spot,),
            conditions={"StringEquals": {"iam:AWSServiceName": SPOT_SERVICE}},
        ),
    )


def _building(place: Place) -> tuple[Statement, ...]:
    return (
        Statement(
            sid="OursToBuild",
            part=Part.BUILD,
            actions=("ec2:CreateImage", "ec2:DeregisterImage"),
            resources=place.ec2("image", "instance", "snapshot"),
            conditions=own(place),
            kin=_OURS,
        ),
        Statement(
            sid="ImagesTagged",
            part=Part.BUILD,
            actions=("ec2:CreateImage",),
            resources=place.ec2("image", "snapshot"),
            conditions=requested(place),
            kin=_MADE,
        ),
    )


def _pooling(place: Place) -> tuple[Statement, ...]:
    group = f"arn:{place.partition}:autoscaling:{place.region}:*:autoScalingGroup:*:autoScalingGroupName/{place.identity.name}"
    role = place.service_role(SCALING_SERVICE, SCALING_ROLE)
    return (
        Statement(
            sid="SharedPool",
            part=Part.POOL,
            actions=(
                "autoscaling:CreateAutoScalingGroup",
                "autoscaling:CreateOrUpdateTags",
                "autoscaling:DeleteAutoScalingGroup",
                "autoscaling:DetachInstances",
                "autoscaling:PutScheduledUpdateGroupAction",
                "autoscaling:SuspendProcesses",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
                "autoscaling:UpdateAutoScalingGroup",
            ),
            resources=(group,),
        ),
        Statement(
            sid="PoolRole",
            part=Part.POOL,
            actions=("iam:CreateServiceLinkedRole", "iam:GetRole"),
            resources=(role,),
        ),
    )


def _filling(place: Place) -> tuple[Statement, ...]:
    made = requested(place)["StringEquals"]
    return (
        Statement(
            sid="VolumesToFill",
            part=Part.FILL,
            actions=("ec2:CreateVolume",),
            resources=place.ec2("volume"),
            conditions=requested(place),
            kin=_MADE,
        ),
        Statement(
            sid="TagVolumesToFill",
            part=Part.FILL,
            actions=("ec2:CreateTags",),
            resources=place.ec2("volume"),
            conditions={"StringEquals": {**made, "ec2:CreateAction": "CreateVolume"}},
        ),
        Statement(
            sid="OursToFill",
            part=Part.FILL,
            actions=("ec2:AttachVolume", "ec2:DetachVolume"),
            resources=(f"arn:{place.partition}:ec2:{place.region}:*",),
            conditions=own(place),
            kin=_OURS,
        ),
        # The instance that the farm runs on bears no tag of the farm's. What may be attached to one, or taken from it, is the farm's alone.
        Statement(
            sid="InstancesToFillOn",
            part=Part.FILL,
            actions=("ec2:AttachVolume", "ec2:DetachVolume"),
            resources=place.ec2("instance"),
        ),
    )


def requested(place: Place) -> dict[str, dict[str, str | list[str]]]:
    """The condition that what is made bears the farm's tag from the start."""
    return {"StringEquals": {f"aws:RequestTag/{FARM_TAG}": place.identity.farm}}


def own(place: Place) -> dict[str, dict[str, str | list[str]]]:
    """The condition that what is touched bears the farm's tag."""
    return {"StringEquals": {f"aws:ResourceTag/{FARM_TAG}": place.identity.farm}}


def policy_of(chosen: Iterable[Statement]) -> dict[str, Any]:
    """Statements as IAM takes them."""
    return {"Version": VERSION, "Statement": [each.document() for each in chosen]}
