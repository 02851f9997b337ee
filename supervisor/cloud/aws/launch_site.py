"""Everything that a launch needs to know of the account, looked up when it is needed: subnets, security group, images, agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from nodeimage.launch import LaunchData, Role, WorkspaceKind
from supervisor.cloud.ports import LaunchSpec, Refused
from supervisor.config import AwsConfig, NodeTimes, WorkspaceConfig, words

from .believed import Believed
from .identity import Identity
from .images import Image, Images, Wanted
from .instance_types import InstanceType, InstanceTypes
from .network import Subnet, find_subnets, is_zone_of, one_in_each_zone
from .session import AwsSession
from .template import Agent, Site, instance_data, kind_of, user_data, workspace_device
from .template_versions import TemplateVersions

#: Subnets and security group are believed for so long: they change by a person's hand alone.
_BELIEVED_S = 300.0
#: After a launch was refused for the rate at which its volumes were to be filled.
_NO_RATE_S = 1800.0


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
        self._clock = clock
        self._no_rate_until = float("-inf")
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
        """Every type in every zone of our subnets that has it, each type with its image. Types without a fitting image are left out.

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
            for subnet in one_in_each_zone(self.subnets())
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

    def render_data(self, places: Sequence[Place], spec: LaunchSpec, *, count: int) -> dict[str, Any]:
        """The data of a launch of a job's instances, as RunInstances takes it.

        Shape:   places: not empty; those with another image bring their own
        """
        # the root volume that is asked for must hold any of the images
        image = max((place.image for place in places), key=lambda image: image.root_gib)
        kind, devices = kind_of(spec.workspace), []
        if kind is WorkspaceKind.VOLUME:
            # local zones know no such rate, and refuse it
            has_rate = self._clock() >= self._no_rate_until and all(is_zone_of(self.site.region, place.subnet.zone) for place in places)
            devices = [workspace_device(spec.workspace, self.site.workspace, bytes=spec.workspace_bytes, volumes=count, has_rate=has_rate)]
        # an image that does not say what it has gets its newest used
        blender = spec.blender_version if image.blenders else ()
        told = user_data(self.site, self.agent(), role=Role.RENDER, workspace=kind, job=spec.job, blender=blender)
        return instance_data(self.site, image, self.security_group(), told, devices=devices)

    def fill_as_it_comes(self) -> None:
        """Ask for no rate of filling volumes for a while: the account's quota of it is used up."""
        self._no_rate_until = self._clock() + _NO_RATE_S

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
