"""Images: the farm's and Debian's. moto's are 15 GiB always, and are made at once, without their snapshot's tags."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from moto.ec2.models.amis import Ami, AmiBackend

from supervisor.cloud.aws.identity import BLENDERS_TAG, IMAGE_TAG, PROTOCOL_TAG, VARIANT_TAG

from .cloud_time import now
from .patching import Method, mend
from .world import world_of

DEBIAN_OWNER = "136693071363"
ROOT_DEVICE = "/dev/xvda"


def repair() -> None:
    mend(Ami, "block_device_mappings", _block_devices)
    mend(AmiBackend, "create_image", _create_image)


def _block_devices(original: Any) -> property:
    def block_device_mappings(self: Any) -> list[dict[str, Any]]:
        ebs = {"SnapshotId": self.ebs_snapshot.id, "VolumeSize": self.ebs_snapshot.volume.size, "VolumeType": "gp3"}
        return [{"DeviceName": self.root_device_name, "Ebs": {**ebs, "DeleteOnTermination": True}}]

    return property(block_device_mappings)


def _create_image(original: Method) -> Method:
    def create_image(self: Any, instance_id: str, name: str, description: str, tag_specifications: list[dict[str, Any]]) -> Any:
        of_snapshot = [each for each in tag_specifications if each["ResourceType"] == "snapshot"]
        image = original(self, instance_id, name, description, [each for each in tag_specifications if each not in of_snapshot])
        instance = self.get_instance(instance_id)
        image.root_device_name = instance.root_device_name
        image.ebs_snapshot.volume.size = instance.block_device_mapping[instance.root_device_name].size
        for each in of_snapshot:
            image.ebs_snapshot.add_tags({tag["Key"]: tag["Value"] for tag in each["Tags"]})
        if world_of(self).is_slow:
            image.state = "pending"
        return image

    return create_image


def add_image(
    backend: Any,
    *,
    image: str,
    blenders: str = "4.2.23 4.5.15",
    protocol: str = "1",
    variant: str = "cpu",
    architecture: str = "x86_64",
    recipe: str = "0123456789ab",
    age_days: float = 1,
    root_gib: int = 8,
) -> str:
    """Register an image as `kiln ami build` makes it."""
    tags = {IMAGE_TAG: recipe, BLENDERS_TAG: blenders, PROTOCOL_TAG: protocol, VARIANT_TAG: variant}
    name = f"kiln-node-{recipe}-{variant}-{architecture}-{image}"
    return _add(backend, image, name=name, owner=None, architecture=architecture, root_gib=root_gib, age_days=age_days, tags=tags)


def add_debian(backend: Any, *, image: str, architecture: str) -> str:
    """Register Debian's image as Debian publishes it."""
    name = f"debian-12-{'amd64' if architecture == 'x86_64' else 'arm64'}-20261101-2287"
    return _add(backend, image, name=name, owner=DEBIAN_OWNER, architecture=architecture, root_gib=8, age_days=20, tags={})


def _add(
    backend: Any, image: str, *, name: str, owner: str | None, architecture: str, root_gib: int, age_days: float, tags: dict[str, str]
) -> str:
    made = Ami(
        backend,
        image,
        name=name,
        owner_id=owner,
        public=owner is not None,
        architecture=architecture,
        virtualization_type="hvm",
        creation_date=now().replace(tzinfo=None) - timedelta(days=age_days),
        root_device_type="ebs",
        root_device_name=ROOT_DEVICE,
        tags=tags,
    )
    made.ebs_snapshot.volume.size = root_gib
    backend.amis[image] = made
    return image
