"""Everything that a launch needs to know of the account, looked up when it is needed: subnets, security group, images, agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from nodeimage.launch import LaunchData, Role, WorkspaceKind
from supervisor.cloud.ports import Refused
from supervisor.config import AwsConfig, NodeTimes, WorkspaceConfig, words

from .believed import Believed
from .identity import Identity
from .images import Image, Images, Wanted
from .instance_types import InstanceType, InstanceTypes
from .network import Subnet, find_subnets
from .session import AwsSession
from .template import Agent, Site, instance_data, kind_of, user_data, workspace_device
from .template_versions import TemplateVersions

#: Subnets and security group are believed for so long: they change by a person's hand alone.
_BELIEVED_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A type in a subnet, with the image that fits the type."""

    instance_type: str
    subnet: Subnet
    image: Image


class LaunchSite:
    """Knows what launches of this farm are made of."""

    def __init__(
        self,
        session: AwsSession,
        identity: Identity,
        *,
        aws: AwsConfig,
        workspace: WorkspaceConfig,
        node: NodeTimes,
        agent: Callable[[], Agent],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Shape:   agent: the one in the bucket; it may have to be put there first"""
        self.images = Images(session, chosen=aws.image, clock=clock)
        self.types = InstanceTypes(session)
        self.versions = TemplateVersions(session, identity)
        self.default_types = words(aws.instance_types)
        self.site = Site(
            identity=identity,
            region=session.region,
            endpoint=session.s3_endpoint,
            root_gib=aws.root_volume_gib,
            times=node,
            workspace=workspace,
        )
        self._session = session
        self.agent = agent
        self._subnets = Believed(lambda: find_subnets(session, words(aws.subnets)), lasts_s=_BELIEVED_S, clock=clock)
        self._security_group = Believed(self.versions.security_group, lasts_s=_BELIEVED_S, clock=clock)

    def subnets(self) -> tuple[Subnet, ...]:
        """Where instances may be launched. Errors: Refused - nowhere; Throttled, Unreachable"""
        return self._subnets()

    def security_group(self) -> str:
        """Errors: Refused - the farm is not set up; Throttled, Unreachable"""
        return self._security_group()

    def forget(self) -> None:
        """Look everything up again when it is needed next: something of it was not found."""
        self.images.forget()
        self._subnets.forget()
        self._security_group.forget()

    def places(self, types: Sequence[str], blender: Wanted) -> list[Place]:
        """Every type in every subnet whose zone has it, each type with its image. Types without a fitting image are left out.

        Shape:   types: empty: those that a job gets where it names none. Never empty
        Errors:  Refused - there is no such type, no image for any of them, or no zone that has one; Throttled, Unreachable
        """
        if not types and not self.default_types:
            raise Refused("no instance type is named: name some in the job's settings, or in [aws] instance_types")
        chosen = self.types.find(types or self.default_types)
        images = self._images(chosen, blender)
        found = [
            Place(instance_type=each.name, subnet=subnet, image=images[each.name])
            for each in chosen
            if each.name in images
            for subnet in self.subnets()
            if subnet.zone in each.zones
        ]
        if not found:
            zones = ", ".join(sorted({subnet.zone for subnet in self.subnets()}))
            raise Refused(f"{', '.join(images)}: not offered in {zones}, where the farm's subnets are: choose other instance types")
        return found

    def _images(self, types: Sequence[InstanceType], blender: Wanted) -> dict[str, Image]:
        """The image of each type that has one."""
        found: dict[str, Image] = {}
        refusal: Refused | None = None
        for each in types:
            try:
                found[each.name] = self.images.choose(each, blender)
            except Refused as error:
                refusal = refusal or error
        if refusal and not found:
            raise refusal
        return found

    def render_data(self, image: Image, *, job: str, workspace: str, workspace_bytes: int, blender: Wanted) -> dict[str, Any]:
        """The data of a launch of a job's instances, as RunInstances takes it."""
        kind = kind_of(workspace)
        devices = [workspace_device(workspace, self.site.workspace, bytes=workspace_bytes)] if kind is WorkspaceKind.VOLUME else []
        # an image that does not say what it has gets its newest used
        told = user_data(self.site, self.agent(), role=Role.RENDER, workspace=kind, job=job, blender=blender if image.blenders else ())
        return instance_data(self.site, image, self.security_group(), told, devices=devices)

    def stage_data(self, job: str, *, architecture: str = "x86_64") -> dict[str, Any]:
        """The data of a launch of the instance that fills a job's volume: the blank volume, and tags, are its launcher's to add."""
        return instance_data(self.site, self.images.newest(architecture), self.security_group(), self.told_to_stage(job))

    def told_to_stage(self, job: str) -> LaunchData:
        """What fills a job's volume is told."""
        return user_data(self.site, self.agent(), role=Role.STAGE, workspace=WorkspaceKind.BLANK, job=job)

    def pool_data(self, image: Image, *, idle_s: float) -> dict[str, Any]:
        """The data of launches of the shared pool's instances, which its group makes by itself: their tags are in it."""
        told = user_data(self.site, self.agent(), role=Role.POOL, workspace=WorkspaceKind.S3, idle_s=idle_s)
        return instance_data(self.site, image, self.security_group(), told, tagged=("instance", "volume"))
