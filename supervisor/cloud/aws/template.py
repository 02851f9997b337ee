"""What an instance is launched with: the data of launch templates, and the user data in them. Rules alone; nothing is asked of AWS."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nodeimage.launch import LaunchData, Role, WorkspaceKind
from supervisor.config import NodeTimes, WorkspaceConfig

from .identity import FARM_TAG, JOB_TAG, ROLE_TAG, Identity, tag_list
from .images import Image
from .volumes import WORKSPACE_DEVICE, gp3, initialization_mib_s

#: An id of this form names a snapshot of a volume; any other says that the nodes fetch the files themselves.
SNAPSHOT_PREFIX = "snap-"
_GIB = 1 << 30


class Agent(Protocol):
    """The agent's release that is in the projects bucket."""

    @property
    def key(self) -> str: ...

    @property
    def sha256(self) -> str: ...  #: 64 hex digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all launches of a farm have in common."""

    identity: Identity
    region: str
    endpoint: str  #: of the object store; empty: Amazon S3
    root_gib: int  #: at least; an image may need more
    times: NodeTimes
    workspace: WorkspaceConfig


def base_data(identity: Identity, security_group: str) -> dict[str, Any]:
    """The data of the farm's launch template itself, and what every version of it has."""
    return {
        "IamInstanceProfile": {"Name": identity.name},
        "SecurityGroupIds": [security_group],
        "InstanceInitiatedShutdownBehavior": "terminate",
        # Blender's user can't reach the metadata service; the hop limit keeps containers and forwarding from it
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "enabled",
        },
        "TagSpecifications": tag_specifications({FARM_TAG: identity.farm}, "instance", "volume"),
    }


def instance_data(
    site: Site,
    image: Image,
    security_group: str,
    told: LaunchData,
    *,
    devices: Sequence[Mapping[str, Any]] = (),
    tagged: Sequence[str] = ("volume",),
) -> dict[str, Any]:
    """The data of one launch, as RunInstances takes it: user data as it is.

    Shape:   devices: block devices beside the root; tagged: kinds of things that get their tags by this data. Who launches tags the others:
             a kind that is tagged twice is refused
    """
    return {
        **base_data(site.identity, security_group),
        "ImageId": image.id,
        "UserData": told.to_bytes().decode(),
        "BlockDeviceMappings": [root_device(image, site.root_gib), *devices],
        "TagSpecifications": tag_specifications(tags_of_launch(site.identity, told), *tagged),
    }


def as_template(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a launch as a launch template takes it: user data encoded."""
    return {**data, "UserData": base64.b64encode(str(data["UserData"]).encode()).decode()}


def user_data(
    site: Site,
    agent: Agent,
    *,
    role: Role,
    workspace: WorkspaceKind,
    job: str = "",
    blender: tuple[int, ...] = (),
    idle_s: float | None = None,
) -> LaunchData:
    """What an instance is told.

    Shape:   blender: a version, or a series; empty: the newest on the image
    Units:   idle_s: None: as nodes of a job
    """
    times = site.times
    return LaunchData(
        role=role,
        farm=site.identity.farm,
        region=site.region,
        projects_bucket=site.identity.projects_bucket,
        received_bucket=site.identity.received_bucket,
        endpoint=site.endpoint,
        agent=agent.key,
        agent_sha256=agent.sha256,
        job=job,
        workspace=workspace,
        blender=f"{blender[0]}.{blender[1]}" if blender else "",
        heartbeat_s=times.heartbeat_s,
        poll_s=times.poll_s,
        idle_s=times.idle_s if idle_s is None else idle_s,
        unreachable_s=times.unreachable_s,
        max_life_s=times.max_life_s,
    )


def kind_of(workspace: str) -> WorkspaceKind:
    """How the files of a workspace come to an instance, by the workspace's id."""
    return WorkspaceKind.VOLUME if workspace.startswith(SNAPSHOT_PREFIX) else WorkspaceKind.S3


def root_device(image: Image, least_gib: int) -> dict[str, Any]:
    ebs = {"VolumeSize": max(image.root_gib, least_gib), "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    return {"DeviceName": image.root_device, "Ebs": ebs}


def workspace_device(snapshot: str, config: WorkspaceConfig, *, bytes: int, volumes: int, has_rate: bool) -> dict[str, Any]:
    """A volume made from a snapshot, as large as that is.

    Shape:   volumes: made of it at once; has_rate: False: no rate can be had for filling them
    Units:   bytes: of the files on it; how fast the volume may be hangs on its size
    """
    ebs: dict[str, Any] = {"SnapshotId": snapshot, "DeleteOnTermination": True}
    ebs |= gp3(max(1, bytes // _GIB), throughput_mib_s=config.volume_throughput_mib_s)
    rate = initialization_mib_s(config.initialization_mib_s, volumes=volumes) if has_rate else 0
    if rate:
        ebs["VolumeInitializationRate"] = rate
    return {"DeviceName": WORKSPACE_DEVICE, "Ebs": ebs}


def tags_of_launch(identity: Identity, told: LaunchData) -> dict[str, str]:
    """The tags of what comes of a launch."""
    tags = {FARM_TAG: identity.farm, ROLE_TAG: told.role.value, "Name": f"{identity.name} {told.job or told.role.value}"}
    return {**tags, JOB_TAG: told.job} if told.job else tags


def tag_specifications(tags: Mapping[str, str], *kinds: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": tag_list(tags)} for kind in kinds]
