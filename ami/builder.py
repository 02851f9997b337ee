"""Builds images on EC2: a fresh Debian that runs the provisioners, stops, and is made an image. Any process may go on with a build."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
from botocore.exceptions import ClientError

from ami import builds as records
from ami.build_rules import LONGEST_BUILD, Next, Seen, SeenBuilder, SeenImage, next_step
from ami.builds import UNFINISHED, BuildStatus, ImageBuild
from ami.bundle import AgentPlace, build_env, bundle
from ami.images import OwnImage, own_images
from ami.recipe import Arch, Recipe, Variant, read_recipe, recipe_hash
from ami.user_data import builder_user_data
from nodeimage.launch import BuildReport, Role, build_bundle_key, build_log_key, build_report_key
from nodeimage.protocol import VERSION, Unreadable
from supervisor.cloud.aws.errors import aws_errors, error_code, is_absent
from supervisor.cloud.aws.identity import (
    BLENDERS_TAG,
    FARM_TAG,
    IMAGE_TAG,
    PROTOCOL_TAG,
    REQUEST_TAG,
    ROLE_TAG,
    VARIANT_TAG,
    Identity,
    tag_list,
)
from supervisor.cloud.aws.network import Subnet
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import CloudError, NoCapacity, ObjectStore, Refused
from supervisor.domain.ids import new_id

log = structlog.get_logger(__name__)


class Agent(Protocol):
    """The agent in the projects bucket."""

    @property
    def key(self) -> str: ...

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderSite:
    """Where builders are launched, and what with."""

    subnets: Callable[[], Sequence[Subnet]]
    security_group: Callable[[], str]
    agent: Callable[[], Agent]  #: put into the bucket, if it is not there
    mirror: str  #: of Blender's releases
    types: dict[Variant, str]  #: instance type of the builder


class ImageBuilder:
    """Begins builds and moves them on."""

    def __init__(
        self,
        session: AwsSession,
        identity: Identity,
        objects: ObjectStore,
        site: BuilderSite,
        *,
        chosen: str = "",
        recipe: Callable[[], Recipe] = read_recipe,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Shape:   chosen: id of the image that the configuration names; empty: none"""
        self._session = session
        self._identity = identity
        self._objects = objects
        self._site = site
        self._chosen = chosen
        self._recipe = recipe
        self._clock = clock

    @property
    def _ec2(self) -> Any:
        return self._session.client("ec2")

    def begin(self, variant: Variant = Variant.CPU, arch: Arch = Arch.X86_64) -> ImageBuild:
        """Ask for an image. One of the same recipe that is there, or being built, is taken instead.

        Errors:  BadRecipe - it has nothing for this variant or architecture; CloudError
        """
        recipe, made_of = self._recipe(), recipe_hash(variant, arch)
        versions = tuple(release.version for release in recipe.blenders_for(arch))
        if variant is Variant.GPU:
            recipe.driver_for(arch)
        name = f"kiln-node-{versions[-1]}-{variant}-{arch}-{made_of}"
        known = [build for build in records.all_builds(self._objects) if build.name == name]
        for build in known:
            if build.status in UNFINISHED:
                return build
        there = self._image(name)
        if there is not None and there.state == "available":
            found = next((build for build in known if build.image == there.id), None)
            return found or self._found(there, name, made_of, variant, arch, versions)
        build = ImageBuild(
            id=new_id("build"),
            recipe=made_of,
            variant=variant,
            arch=arch,
            name=name,
            blenders=versions,
            status=BuildStatus.BUILDING,
            asked_at=self._clock(),
            progress="asked for",
        )
        records.put_build(self._objects, build)
        log.info("image wanted", build=build.id, name=name)
        return build

    def builds(self) -> Sequence[ImageBuild]:
        """Every build that is known, newest first. Errors: CloudError"""
        return records.all_builds(self._objects)

    def images(self) -> list[OwnImage]:
        """The farm's images, newest first. Errors: CloudError"""
        return own_images(self._session, self._identity, chosen=self._chosen)

    def advance_all(self) -> None:
        """Move every unfinished build on; one's trouble is its own. Repeat: safe"""
        for build in self.builds():
            if build.status in UNFINISHED:
                try:
                    self.advance(build)
                except CloudError as error:
                    log.warning("build held up", build=build.id, error=str(error))

    def advance(self, build: ImageBuild) -> ImageBuild:
        """Do what a build needs now. Returns: the build as it is then. Repeat: safe, by several processes too. Errors: CloudError"""
        if build.status not in UNFINISHED:
            return build
        seen = self._observe(build)
        step, why = next_step(build, seen)
        after = self._act(build, seen, step, why)
        if after != build:
            records.put_build(self._objects, after)
            if after.status is not build.status:
                log.info("build moved", build=build.id, to=str(after.status), because=why)
        return after

    # What there is

    def _observe(self, build: ImageBuild) -> Seen:
        return Seen(now=self._clock(), builders=self._builders(build.id), image=self._image(build.name), report=self._report(build.id))

    def _builders(self, build_id: str) -> tuple[SeenBuilder, ...]:
        filters = [{"Name": f"tag:{FARM_TAG}", "Values": [self._identity.farm]}, {"Name": f"tag:{REQUEST_TAG}", "Values": [build_id]}]
        with aws_errors(f"look for the builder of {build_id}"):
            pages = self._ec2.get_paginator("describe_instances").paginate(Filters=filters)
            shown = [instance for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"]]
        return tuple(
            SeenBuilder(
                id=each["InstanceId"],
                state=each["State"]["Name"],
                launched_at=each["LaunchTime"],
                why_ended=each.get("StateReason", {}).get("Message", ""),
            )
            for each in shown
        )

    def _image(self, name: str) -> SeenImage | None:
        with aws_errors(f"look for the image {name}"):
            found = self._ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [name]}])["Images"]
        if not found:
            return None
        return SeenImage(id=found[0]["ImageId"], state=found[0]["State"], why_failed=found[0].get("StateReason", {}).get("Message", ""))

    def _report(self, build_id: str) -> BuildReport | None:
        stored = self._objects.get(build_report_key(build_id))
        if stored is None:
            return None
        try:
            return BuildReport.from_bytes(stored.body)
        except Unreadable as error:
            log.warning("builder's report not understood", build=build_id, error=str(error))
            return None

    # What is done about it

    def _act(self, build: ImageBuild, seen: Seen, step: Next, why: str) -> ImageBuild:
        told = replace(build, tail=seen.report.tail if seen.report else build.tail)
        ids = [builder.id for builder in seen.builders if builder.state not in {"shutting-down", "terminated"}]
        if step is Next.LAUNCH:
            return self._launch(told)
        if step is Next.STOP:
            with aws_errors(f"stop the builder of {build.id}"):
                self._ec2.stop_instances(InstanceIds=ids)
            return replace(told, progress="the builder stops")
        if step is Next.MAKE_IMAGE:
            return self._make_image(told, ids[0])
        if step is Next.END_BUILDER:
            self._terminate(build.id, ids)
            return told
        if step is Next.FINISH:
            return self._finish(told, seen)
        if step is Next.FAIL:
            return replace(told, status=BuildStatus.FAILING, message=why)
        if step is Next.GIVE_UP:
            return self._give_up(told, seen)
        return replace(told, progress=why or build.progress)

    def _launch(self, build: ImageBuild) -> ImageBuild:
        """Write down that a builder is asked for, then ask, in one subnet after the other."""
        if build.launched_at is None:
            build = replace(build, launched_at=self._clock(), progress="a builder is asked for")
            records.put_build(self._objects, build)
        request = self._request(build)
        refused: NoCapacity | None = None
        for subnet in self._site.subnets():
            try:
                # the token is of the subnet too: the same one with other parameters is an error
                token = hashlib.sha256(f"{build.id} {subnet.id}".encode()).hexdigest()[:32]
                with aws_errors(f"launch a builder for {build.id} in {subnet.zone}"):
                    self._ec2.run_instances(**request, SubnetId=subnet.id, ClientToken=token)
                return replace(build, progress="the builder boots")
            except NoCapacity as error:
                refused = error
        raise refused or Refused("there is no subnet to launch a builder in")

    def _request(self, build: ImageBuild) -> dict[str, Any]:
        recipe, variant, arch = self._recipe(), Variant(build.variant), Arch(build.arch)
        tags = {FARM_TAG: self._identity.farm, ROLE_TAG: str(Role.BUILD), REQUEST_TAG: build.id, "Name": build.name}
        base = self._base_image(recipe, arch)
        root = {
            "DeviceName": base["RootDeviceName"],
            "Ebs": {"VolumeSize": recipe.base.root_gib, "VolumeType": "gp3", "DeleteOnTermination": True, "Encrypted": True},
        }
        return {
            "ImageId": base["ImageId"],
            "InstanceType": self._site.types[variant],
            "MinCount": 1,
            "MaxCount": 1,
            "SecurityGroupIds": [self._site.security_group()],
            "IamInstanceProfile": {"Name": self._identity.name},
            # stopped, not terminated: the image is made of the stopped machine
            "InstanceInitiatedShutdownBehavior": "stop",
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
            "BlockDeviceMappings": [root],
            "TagSpecifications": [{"ResourceType": kind, "Tags": tag_list(tags)} for kind in ("instance", "volume")],
            "UserData": self._user_data(build, recipe),
        }

    def _base_image(self, recipe: Recipe, arch: Arch) -> dict[str, Any]:
        """The newest image that the recipe begins with. Errors: Refused - the region has none"""
        name = recipe.base.name.get(arch)
        if name is None:
            raise Refused(f"can't build an image for {arch}: the recipe names no base image for it (base.name in recipe.toml)")
        filters = [
            {"Name": "name", "Values": [name]},
            {"Name": "architecture", "Values": [arch]},
            {"Name": "state", "Values": ["available"]},
        ]
        with aws_errors(f"look for the base image {name}"):
            found = self._ec2.describe_images(Owners=[recipe.base.owner], Filters=filters)["Images"]
        if not found:
            raise Refused(f"can't build an image: account {recipe.base.owner} has no image {name} in {self._session.region}")
        return dict(max(found, key=lambda image: image["CreationDate"]))

    def _user_data(self, build: ImageBuild, recipe: Recipe) -> str:
        """Put the bundle where the builder finds it, and write the script that fetches it."""
        identity, agent = self._identity, self._site.agent()
        place = AgentPlace(
            bucket=identity.projects_bucket,
            region=self._session.region,
            key=agent.key,
            sha256=agent.sha256,
            endpoint=self._session.s3_endpoint,
        )
        orders = build_env(recipe, variant=Variant(build.variant), arch=Arch(build.arch), mirror=self._site.mirror, agent=place)
        if orders["KILN_RECIPE"] != build.recipe:
            raise Refused("the recipe was changed since this image was asked for; ask for it again")
        body = bundle(orders)
        self._objects.put(build_bundle_key(build.id), body)
        told = {
            "build": build.id,
            "region": self._session.region,
            "endpoint": self._session.s3_endpoint,
            "bucket": identity.projects_bucket,
            "bundle": build_bundle_key(build.id),
            "bundle_sha256": hashlib.sha256(body).hexdigest(),
            "received_bucket": identity.received_bucket,
            "report": build_report_key(build.id),
            "log": build_log_key(build.id),
        }
        return builder_user_data(told, longest_minutes=int(LONGEST_BUILD.total_seconds() // 60))

    def _make_image(self, build: ImageBuild, instance: str) -> ImageBuild:
        tags = {
            FARM_TAG: self._identity.farm,
            IMAGE_TAG: build.recipe,
            BLENDERS_TAG: " ".join(build.blenders),
            PROTOCOL_TAG: str(VERSION),
            VARIANT_TAG: build.variant,
            REQUEST_TAG: build.id,
        }
        with aws_errors(f"make the image of {build.id}"):
            try:
                self._ec2.create_image(
                    InstanceId=instance,
                    Name=build.name,
                    Description=f"Kiln node: Blender {', '.join(build.blenders)}",
                    TagSpecifications=[{"ResourceType": kind, "Tags": tag_list(tags)} for kind in ("image", "snapshot")],
                )
            except ClientError as error:
                # the name is the token: an answer that was lost, or another process, was quicker
                if error_code(error) != "InvalidAMIName.Duplicate":
                    raise
        return replace(build, status=BuildStatus.IMAGING, progress="the image is being made")

    def _finish(self, build: ImageBuild, seen: Seen) -> ImageBuild:
        assert seen.image is not None, "the rule finishes a build whose image is there"
        self._objects.delete([build_bundle_key(build.id), build_report_key(build.id)])
        return replace(build, status=BuildStatus.READY, image=seen.image.id, ended_at=self._clock(), progress="")

    def _give_up(self, build: ImageBuild, seen: Seen) -> ImageBuild:
        if seen.image is not None:
            self.remove_image(seen.image.id)
        self._objects.delete([build_bundle_key(build.id), build_report_key(build.id)])
        return replace(build, status=BuildStatus.FAILED, ended_at=self._clock(), progress="")

    def _terminate(self, build_id: str, ids: Sequence[str]) -> None:
        with aws_errors(f"end the builder of {build_id}"):
            try:
                self._ec2.terminate_instances(InstanceIds=list(ids))
            except ClientError as error:
                if not is_absent(error):
                    raise

    def remove_image(self, image: str) -> None:
        """Make an image and its snapshots be gone. Repeat: safe. Errors: CloudError"""
        with aws_errors(f"remove the image {image}"):
            try:
                shown = self._ec2.describe_images(ImageIds=[image])["Images"]
            except ClientError as error:
                if not is_absent(error):
                    raise
                return
            snapshots = [
                device["Ebs"]["SnapshotId"]
                for each in shown
                for device in each.get("BlockDeviceMappings", ())
                if device.get("Ebs", {}).get("SnapshotId")
            ]
            if shown:
                self._ec2.deregister_image(ImageId=image)
            for snapshot in snapshots:
                self._delete_snapshot(snapshot)

    def _delete_snapshot(self, snapshot: str) -> None:
        try:
            self._ec2.delete_snapshot(SnapshotId=snapshot)
        except ClientError as error:
            if not is_absent(error):
                raise

    def _found(self, image: SeenImage, name: str, made_of: str, variant: str, arch: str, versions: tuple[str, ...]) -> ImageBuild:
        """An image of this recipe whose build nobody remembers."""
        now = self._clock()
        build = ImageBuild(
            id=new_id("build"),
            recipe=made_of,
            variant=variant,
            arch=arch,
            name=name,
            blenders=versions,
            status=BuildStatus.READY,
            asked_at=now,
            ended_at=now,
            image=image.id,
        )
        records.put_build(self._objects, build)
        return build
