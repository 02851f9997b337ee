"""What the farm needs in its AWS account before it can rent: each thing looked at, then made or mended, in order, as often as one likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from supervisor.cloud.ports import Removal, RemovalState, SetupStep, StepState
from supervisor.config import Config, words

from .buckets import Bucket, BucketWish
from .errors import aws_errors, error_code, is_absent, suppress_absent
from .identity import FARM_TAG, Identity, tag_list, tags_of
from .network import SecurityGroup
from .node_role import InstanceProfile, NodeRole, ServiceRole
from .policy import Part, parts_of
from .session import AwsSession

#: Description of the template's own version: those of jobs bear their job's id.
BASE_VERSION = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the configuration says of the things that are set up."""

    public_url: str  #: where browsers see the farm; empty: not said
    stale_days: float
    expire_frames_days: int
    subnets: tuple[str, ...]
    blender_mirror: str = ""  #: where image builders fetch Blender
    has_pool: bool = False  #: jobs share a pool of instances
    fills_volumes: bool = False  #: the farm is to fill volumes on its own instance

    @classmethod
    def of(cls, config: Config) -> Wishes:
        return cls(
            public_url=config.server.public_url,
            stale_days=config.uploads.stale_days,
            expire_frames_days=config.aws.expire_frames_days,
            subnets=words(config.aws.subnets),
            blender_mirror=config.ami.blender_mirror,
            has_pool=config.pool.mode == "shared",
            # where it only does so if it may, whoever wants it gives it the part; what a shared pool works on needs no volumes
            fills_volumes=config.workspace.filled_by == "farm" and config.pool.mode != "shared",
        )


class Step(Protocol):
    """One thing that is set up."""

    @property
    def title(self) -> str: ...

    def look(self) -> SetupStep:
        """See how it is; change nothing."""

    def make(self) -> None:
        """Make it as it must be. Repeat: safe"""


class AwsSetup:
    """Everything that is set up, in the order in which one thing needs the other."""

    def __init__(self, session: AwsSession, identity: Identity, wishes: Wishes, *, template_data: Callable[[str], dict[str, Any]]) -> None:
        """Shape:   template_data: security group's id -> the launch template's data"""
        self.session = session
        self.identity = identity
        self._wishes = wishes
        self._template_data = template_data

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the farm's keys must be good for."""
        return parts_of(has_pool=self._wishes.has_pool, fills_volumes=self._wishes.fills_volumes)

    def plan(self, *, origin: str = "") -> Sequence[SetupStep]:
        """See how each thing is. Errors: CloudError"""
        return [step.look() for step in self.steps(origin)]

    def apply(self, *, origin: str = "") -> Iterator[SetupStep]:
        """Make what is lacking; yield each thing as it is then. Ends at one that can't be made. Repeat: safe. Errors: CloudError"""
        for step in self.steps(origin):
            found = step.look()
            if found.state in {StepState.READY, StepState.BLOCKED}:
                yield found
                if found.state is StepState.BLOCKED:
                    return
                continue
            step.make()
            done = "made" if found.state is StepState.ABSENT else "changed"
            yield replace(found, state=StepState.READY, text=f"{done}: {found.text}")

    def steps(self, origin: str = "") -> list[Step]:
        group = self.security_group()
        roles = [ServiceRole.of_spot(self.session), *([ServiceRole.of_scaling(self.session)] if self._wishes.has_pool else [])]
        return [*self.buckets(origin), self.role(), self.profile(), *roles, group, self.template(group)]

    def buckets(self, origin: str = "") -> list[Bucket]:
        identity, wishes = self.identity, self._wishes
        origins = tuple(found for found in (_origin(wishes.public_url) or origin,) if found)
        return [
            Bucket(
                self.session,
                BucketWish(
                    name=name,
                    farm=identity.farm,
                    origins=origins,
                    stale_days=wishes.stale_days,
                    expire_days=wishes.expire_frames_days if name == identity.received_bucket else 0,
                    is_amazons=not self.session.s3_endpoint,
                ),
            )
            for name in dict.fromkeys((identity.projects_bucket, identity.received_bucket))
        ]

    def role(self) -> NodeRole:
        return NodeRole(self.session, self.identity)

    def profile(self) -> InstanceProfile:
        return InstanceProfile(self.session, self.identity)

    def security_group(self) -> SecurityGroup:
        addresses = (self.session.s3_endpoint, self._wishes.blender_mirror)
        return SecurityGroup(self.session, self.identity, subnets=self._wishes.subnets, addresses=addresses)

    def template(self, group: SecurityGroup) -> BaseTemplate:
        return BaseTemplate(self.session, self.identity, group=group, data=self._template_data)


class BaseTemplate:
    """The launch template that every launch is a version of."""

    def __init__(self, session: AwsSession, identity: Identity, *, group: SecurityGroup, data: Callable[[str], dict[str, Any]]) -> None:
        self._session = session
        self._name = identity.name
        self._farm = identity.farm
        self._group = group
        self._data = data
        self.title = f"launch template {identity.name}"

    @property
    def _ec2(self) -> Any:
        return self._session.client("ec2")

    def look(self) -> SetupStep:
        """See how it is. Errors: CloudError"""
        found = self._find()
        if found is None:
            text = "instances with the role and the group, that tell nothing without a session token, and end when they shut down"
            return SetupStep(name=self.title, state=StepState.ABSENT, text=text)
        if tags_of(found).get(FARM_TAG) != self._farm:
            text = "there is one of that name that is not this farm's: delete it"
            return SetupStep(name=self.title, state=StepState.BLOCKED, text=text)
        group = self._group.id()
        if group is None or not _contains(self._data_there(), self._data(group)):
            return SetupStep(name=self.title, state=StepState.DIFFERS, text="make a version of it as this version of Kiln needs it")
        return SetupStep(name=self.title, state=StepState.READY, text="as this version of Kiln needs it")

    def make(self) -> None:
        """Make it, or a new version of it, the default from then on. Repeat: safe. Errors: CloudError"""
        group = self._group.id()
        assert group is not None, "the security group is made before"
        data, exists = self._data(group), self._find() is not None
        with aws_errors(f"make {self.title}"):
            if not exists:
                self._create(data)
                return
            made = self._ec2.create_launch_template_version(
                LaunchTemplateName=self._name, VersionDescription=BASE_VERSION, LaunchTemplateData=data
            )["LaunchTemplateVersion"]["VersionNumber"]
            self._ec2.modify_launch_template(LaunchTemplateName=self._name, DefaultVersion=str(made))
            self._forget_others(made)

    def _create(self, data: dict[str, Any]) -> None:
        tags = [{"ResourceType": "launch-template", "Tags": tag_list({FARM_TAG: self._farm})}]
        try:
            self._ec2.create_launch_template(
                LaunchTemplateName=self._name, VersionDescription=BASE_VERSION, LaunchTemplateData=data, TagSpecifications=tags
            )
        except ClientError as error:
            if error_code(error) != "InvalidLaunchTemplateName.AlreadyExistsException":
                raise

    def _forget_others(self, kept: int) -> None:
        """Delete the base versions that this one takes the place of, also those of a run that broke off."""
        pages = self._ec2.get_paginator("describe_launch_template_versions").paginate(LaunchTemplateName=self._name)
        old = [
            str(version["VersionNumber"])
            for page in pages
            for version in page["LaunchTemplateVersions"]
            if version.get("VersionDescription") == BASE_VERSION and version["VersionNumber"] != kept
        ]
        if old:
            self._ec2.delete_launch_template_versions(LaunchTemplateName=self._name, Versions=old[:200])

    def _find(self) -> dict[str, Any] | None:
        with aws_errors(f"look for {self.title}"):
            try:
                return dict(self._ec2.describe_launch_templates(LaunchTemplateNames=[self._name])["LaunchTemplates"][0])
            except ClientError as error:
                if not is_absent(error):
                    raise
                return None

    def _data_there(self) -> Any:
        with aws_errors(f"look at {self.title}"):
            answer = self._ec2.describe_launch_template_versions(LaunchTemplateName=self._name, Versions=["$Default"])
        return answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]

    def remove(self, *, dry_run: bool) -> Removal | None:
        """Delete it with all its versions. Returns: None if there is none. Errors: CloudError"""
        if self._find() is None:
            return None
        with aws_errors(f"delete {self.title}"), suppress_absent():
            if not dry_run:
                self._ec2.delete_launch_template(LaunchTemplateName=self._name)
        return Removal(name=self.title, state=RemovalState.REMOVED)


def _contains(there: Any, wanted: Any) -> bool:
    """Say whether everything wanted is there: AWS adds what it assumes by itself."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(key in there and _contains(there[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(any(_contains(one, each) for one in there) for each in wanted)
    return bool(there == wanted)


def _origin(url: str) -> str:
    """The origin of an address, as browsers name it. Returns: empty if it has none"""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in {"http", "https"} and parts.netloc else ""
