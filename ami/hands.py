"""What a build does on EC2, deed by deed: each asks and returns at once. Nothing here decides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import ClientError

from ami.build_rules import SeenBuilder, SeenImage
from ami.builds import ImageBuild
from ami.bundle import AgentPlace, build_env, bundle
from ami.recipe import Arch, Recipe, Variant
from ami.user_data import builder_user_data
from nodeimage.launch import Role, build_bundle_key, build_log_key, build_report_key
from nodeimage.protocol import VERSION
from supervisor.cloud.aws.errors import aws_errors, error_code, suppress_absent
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
    tags_of,
)
from supervisor.cloud.aws.network import Subnet
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import NoCapacity, ObjectStore, Refused


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


class Hands:
    """Builders and images of a farm, on EC2."""

    def __init__(self, session: AwsSession, identity: Identity, objects: ObjectStore, site: BuilderSite, *, longest_minutes: int) -> None:
        """Shape:   longest_minutes: a builder that runs for longer stops by itself"""
        self._session = session
        self._identity = identity
        self._objects = objects
        self._site = site
        self._longest_minutes = longest_minutes

    @property
    def _ec2(self) -> Any:  # Any: boto3's clients are made at run time
        return self._session.client("ec2")

    def check_site(self) -> None:
        """Errors: Refused - the account is not set up, or there is no subnet: no builder could be launched; Throttled, Unreachable"""
        self._site.security_group()
        self._site.subnets()

    def builders(self, build_id: str) -> tuple[SeenBuilder, ...]:
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

    def image(self, name: str) -> SeenImage | None:
        with aws_errors(f"look for the image {name}"):
            found = self._ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [name]}])["Images"]
        if not found:
            return None
        return SeenImage(
            id=found[0]["ImageId"],
            state=found[0]["State"],
            why_failed=found[0].get("StateReason", {}).get("Message", ""),
            is_ours=tags_of(found[0]).get(FARM_TAG) == self._identity.farm,
        )

    def launch(self, build: ImageBuild, recipe: Recipe) -> None:
        """Ask for a builder, in one subnet after the other. Repeat: safe by the build. Errors: NoCapacity - there is no room in any"""
        request = self._request(build, recipe)
        full: NoCapacity | None = None
        for subnet in self._site.subnets():
            try:
                # the token is of the subnet too: the same one with other parameters is an error
                token = hashlib.sha256(f"{build.id} {subnet.id}".encode()).hexdigest()[:32]
                with aws_errors(f"launch a builder for {build.id} in {subnet.zone}"):
                    self._ec2.run_instances(**request, SubnetId=subnet.id, ClientToken=token)
                return
            except NoCapacity as error:
                full = error
        raise full or Refused("there is no subnet to launch a builder in")

    def _request(self, build: ImageBuild, recipe: Recipe) -> dict[str, Any]:
        variant, arch = Variant(build.variant), Arch(build.arch)
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
        return builder_user_data(told, longest_minutes=self._longest_minutes)

    def stop(self, build_id: str, ids: Sequence[str]) -> None:
        """Stop builders: an image is made of a stopped machine. Repeat: safe"""
        with aws_errors(f"stop the builder of {build_id}"):
            self._ec2.stop_instances(InstanceIds=list(ids))

    def make_image(self, build: ImageBuild, instance: str) -> None:
        """Ask for the image of a stopped builder. Repeat: safe, by its name"""
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

    def terminate(self, build_id: str, ids: Sequence[str]) -> None:
        """End builders; their volumes go with them. Repeat: safe"""
        with aws_errors(f"end the builder of {build_id}"), suppress_absent():
            self._ec2.terminate_instances(InstanceIds=list(ids))

    def remove_image(self, image: str) -> None:
        """Make an image and its snapshots be gone. Repeat: safe. Errors: CloudError"""
        with aws_errors(f"remove the image {image}"), suppress_absent():
            shown = self._ec2.describe_images(ImageIds=[image])["Images"]
            devices = [device for each in shown for device in each.get("BlockDeviceMappings", ())]
            if shown:
                self._ec2.deregister_image(ImageId=image)
            for snapshot in [device["Ebs"]["SnapshotId"] for device in devices if device.get("Ebs", {}).get("SnapshotId")]:
                with suppress_absent():
                    self._ec2.delete_snapshot(SnapshotId=snapshot)
