"""What EC2 shows of this farm, by its tag: instances, volumes and snapshots as values of our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from nodeimage.launch import Role

from .errors import aws_errors, is_absent
from .identity import CONTENT_TAG, FARM_TAG, HOST_TAG, IMAGE_TAG, JOB_TAG, REQUEST_TAG, ROLE_TAG, tags_of
from .session import AwsSession

_GROUP_TAG = "aws:autoscaling:groupName"
_GONE_INSTANCE = frozenset({"shutting-down", "terminated"})
#: EC2 describes so many fleets at once.
_MOST_FLEETS = 100
_GONE_VOLUME = frozenset({"deleting", "deleted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmInstance:
    """An instance of this farm, whatever it is for."""

    id: str
    job: str
    role: str
    request: str  #: that it was launched with
    state: str  #: EC2's word
    launched_at: datetime
    instance_type: str = ""
    note: str = ""  #: why it changed its state last, in EC2's words
    group: str = ""  #: Auto Scaling group that keeps it
    is_spot: bool = False

    @property
    def is_ending(self) -> bool:
        """Whether it has ended for good or is about to."""
        return self.state in _GONE_INSTANCE

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it: a stopped one counts too."""
        return self.is_ending or self.state in {"stopping", "stopped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmVolume:
    """A volume of this farm."""

    id: str
    job: str
    role: str
    request: str  #: of the instance that it was made with
    state: str
    gib: int
    created_at: datetime
    is_blank: bool  #: made empty; False: of a snapshot, such as an image's
    device: str = ""  #: where it is attached; empty: nowhere
    instance: str = ""
    attachment: str = ""  #: EC2's word for how far that is: attaching | attached | detaching | busy
    host: str = ""  #: the farm's own instance, that it was made to be filled by; empty: it came with another instance
    iops: int = 0
    throughput_mib_s: int = 0

    @property
    def is_ending(self) -> bool:
        return self.state in _GONE_VOLUME

    @property
    def is_free(self) -> bool:
        """Whether it can be deleted: nothing is attached to it."""
        return self.state in {"available", "error"}

    @property
    def is_at_host(self) -> bool:
        """Whether the farm attached it to its own instance, and has to detach it."""
        return bool(self.host) and self.instance == self.host and not self.is_ending


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmSnapshot:
    """A snapshot of this farm."""

    id: str
    job: str
    content: str  #: hash of the files in it; empty: an image's
    state: str  #: pending | completed | error | …
    started_at: datetime
    volume: str = ""  #: that it was made of
    completed_at: datetime | None = None  #: None: it is not, or EC2 does not say when
    progress_pct: int = 0
    gib: int = 0  #: of the volume
    stored_bytes: int | None = None  #: what is kept of it; None: EC2 does not say
    image: str = ""  #: hash of the recipe, where it is an image's
    request: str = ""  #: image's: the build that made it


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """An instant fleet: the record of one launch."""

    id: str
    job: str
    created_at: datetime


class Inventory:
    """Asks EC2 what this farm has. Nothing is remembered from call to call."""

    def __init__(self, session: AwsSession, *, farm: str) -> None:
        self._session = session
        self._farm = farm

    def instances(self, role: Role | None = None) -> list[FarmInstance]:
        """Instances that exist, and those that ended a short while ago. Errors: Throttled, Unreachable, Refused"""
        with aws_errors("list the farm's instances"):
            pages = self._pages("describe_instances", role)
            shown = (instance for page in pages for group in page["Reservations"] for instance in group["Instances"])
            return [_instance(each) for each in shown]

    def volumes(self, role: Role | None = None) -> list[FarmVolume]:
        with aws_errors("list the farm's volumes"):
            return [_volume(each) for page in self._pages("describe_volumes", role) for each in page["Volumes"]]

    def snapshots(self) -> list[FarmSnapshot]:
        with aws_errors("list the farm's snapshots"):
            return [_snapshot(each) for page in self._pages("describe_snapshots", None, OwnerIds=["self"]) for each in page["Snapshots"]]

    def fleets(self) -> list[Fleet]:
        """Instant fleets. EC2 lists them by their tags alone, and describes those that it is asked for by id."""
        with aws_errors("list the farm's fleets"):
            filters = {"resource-type": "fleet", "key": FARM_TAG, "value": self._farm}
            asked = [{"Name": name, "Values": [value]} for name, value in filters.items()]
            pages = self._session.client("ec2").get_paginator("describe_tags").paginate(Filters=asked)
            ids = sorted({tag["ResourceId"] for page in pages for tag in page["Tags"]})
            return [fleet for first in range(0, len(ids), _MOST_FLEETS) for fleet in self._described(ids[first : first + _MOST_FLEETS])]

    def _described(self, ids: list[str]) -> list[Fleet]:
        try:
            shown = self._session.client("ec2").describe_fleets(FleetIds=ids)["Fleets"]
        except ClientError as error:
            if not is_absent(error):
                raise
            # EC2 refuses all for one that it has forgotten, whose tags it still lists
            return [fleet for id in ids for fleet in self._described([id])] if len(ids) > 1 else []
        return [_fleet(each) for each in shown if not each.get("FleetState", "").startswith("deleted")]

    def image_snapshots(self) -> frozenset[str]:
        """Ids of the snapshots that the account's images are made of."""
        with aws_errors("list the account's images"):
            pages = self._session.client("ec2").get_paginator("describe_images").paginate(Owners=["self"])
            devices = (device for page in pages for image in page["Images"] for device in image.get("BlockDeviceMappings", ()))
            return frozenset(device["Ebs"]["SnapshotId"] for device in devices if device.get("Ebs", {}).get("SnapshotId"))

    def security_groups(self) -> frozenset[str]:
        with aws_errors("list the farm's security groups"):
            return frozenset(each["GroupId"] for page in self._pages("describe_security_groups", None) for each in page["SecurityGroups"])

    def _pages(self, call: str, role: Role | None, **more: Any) -> Iterator[Mapping[str, Any]]:
        filters = [{"Name": f"tag:{FARM_TAG}", "Values": [self._farm]}]
        if role is not None:
            filters.append({"Name": f"tag:{ROLE_TAG}", "Values": [role.value]})
        pages: Iterator[Mapping[str, Any]] = iter(self._session.client("ec2").get_paginator(call).paginate(Filters=filters, **more))
        return pages


# Any: what EC2 describes, as botocore read it.


def _fleet(shown: Mapping[str, Any]) -> Fleet:
    return Fleet(id=shown["FleetId"], job=tags_of(shown).get(JOB_TAG, ""), created_at=shown["CreateTime"])


def _instance(shown: Mapping[str, Any]) -> FarmInstance:
    tags = tags_of(shown)
    return FarmInstance(
        id=shown["InstanceId"],
        job=tags.get(JOB_TAG, ""),
        role=tags.get(ROLE_TAG, ""),
        request=tags.get(REQUEST_TAG, ""),
        state=shown["State"]["Name"],
        launched_at=shown["LaunchTime"],
        instance_type=shown.get("InstanceType", ""),
        note=shown.get("StateReason", {}).get("Message", "") or shown.get("StateTransitionReason", ""),
        group=tags.get(_GROUP_TAG, ""),
        is_spot=shown.get("InstanceLifecycle") == "spot",
    )


def _volume(shown: Mapping[str, Any]) -> FarmVolume:
    tags = tags_of(shown)
    attached: Mapping[str, Any] = next((each for each in shown.get("Attachments", ()) if each.get("State") != "detached"), {})
    return FarmVolume(
        id=shown["VolumeId"],
        job=tags.get(JOB_TAG, ""),
        role=tags.get(ROLE_TAG, ""),
        request=tags.get(REQUEST_TAG, ""),
        state=shown["State"],
        gib=shown["Size"],
        created_at=shown["CreateTime"],
        is_blank=not shown.get("SnapshotId"),
        device=attached.get("Device", ""),
        instance=attached.get("InstanceId", ""),
        attachment=attached.get("State", ""),
        host=tags.get(HOST_TAG, ""),
        iops=shown.get("Iops", 0),
        throughput_mib_s=shown.get("Throughput", 0),
    )


def _snapshot(shown: Mapping[str, Any]) -> FarmSnapshot:
    tags = tags_of(shown)
    digits = "".join(letter for letter in shown.get("Progress", "") if letter.isdigit())
    return FarmSnapshot(
        id=shown["SnapshotId"],
        job=tags.get(JOB_TAG, ""),
        content=tags.get(CONTENT_TAG, ""),
        state=shown["State"],
        started_at=shown["StartTime"],
        volume=shown.get("VolumeId", ""),
        completed_at=shown.get("CompletionTime"),
        progress_pct=min(int(digits or 0), 100),
        gib=shown.get("VolumeSize", 0),
        stored_bytes=shown.get("FullSnapshotSizeInBytes"),
        image=tags.get(IMAGE_TAG, ""),
        request=tags.get(REQUEST_TAG, ""),
    )
