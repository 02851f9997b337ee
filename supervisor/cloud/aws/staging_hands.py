"""What is done on EC2 to fill a volume and to freeze it: launch, end, snapshot, delete. Each may be repeated; what is gone is no error."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol

import structlog
from botocore.exceptions import ClientError

from nodeimage.launch import Role
from supervisor.cloud.ports import NoCapacity

from .errors import aws_errors, error_code, is_absent
from .identity import CONTENT_TAG, FARM_TAG, JOB_TAG, REQUEST_TAG, ROLE_TAG, tag_list
from .inventory import FarmInstance, FarmSnapshot, FarmVolume
from .session import AwsSession
from .staging_places import StagingPlace
from .volumes import WORKSPACE_DEVICE, gp3
from .workspace_records import Record

log = structlog.get_logger(__name__)

#: Places (type, subnet) that are tried for one staging instance before it waits a while.
_MOST_PLACES = 12
#: A zone doesn't have the type at all: as good as no room there.
_NOT_OFFERED = frozenset({"Unsupported", "UnsupportedOperation"})
#: The thing is on its way to another state: the next tick finds it there.
_NOT_YET = frozenset({"IncorrectState", "IncorrectInstanceState", "VolumeInUse", "InvalidSnapshot.InUse"})


def workspace_tags(farm: str, record: Record) -> dict[str, str]:
    """The tags of whatever is made for a job's workspace."""
    name = f"kiln-{farm} {record.job} files"
    return {FARM_TAG: farm, JOB_TAG: record.job, ROLE_TAG: Role.STAGE.value, REQUEST_TAG: record.token, "Name": name}


class TokenUsed(Exception):
    """The token stands for an instance, or a volume, that was asked for with other parameters: the configuration has changed since."""


class StagingPlaces(Protocol):
    """Where staging instances may be launched."""

    def places(self, job: str) -> Sequence[StagingPlace]: ...

    def forget(self) -> None: ...


class StagingHands:
    """Works on EC2 for the workspaces."""

    def __init__(self, session: AwsSession, *, farm: str, site: StagingPlaces, throughput_mib_s: int) -> None:
        self._session = session
        self._farm = farm
        self._site = site
        self._throughput_mib_s = throughput_mib_s

    @property
    def _ec2(self) -> Any:  # Any: boto3's clients are made at run time
        return self._session.client("ec2")

    def launch(self, record: Record) -> FarmInstance:
        """Ask for a staging instance with an empty volume for the job's files.

        Repeat:  safe by the record's token
        Errors:  NoCapacity - nowhere is room; TokenUsed - take another token; Refused, Throttled, Unreachable
        """
        refused: NoCapacity | None = None
        for place in islice(self._site.places(record.job), _MOST_PLACES):
            try:
                with aws_errors(f"launch an instance that copies the files of {record.job}"):
                    return self._run(record, place)
            except NoCapacity as error:
                log.info("no room for a staging instance", job=record.job, type=place.instance_type, error=str(error))
                refused = error
        raise refused or NoCapacity(f"there is nowhere to launch an instance that copies the files of {record.job}")

    def _run(self, record: Record, place: StagingPlace) -> FarmInstance:
        # Each place has a token of its own: the same one with another type would be refused.
        where = zlib.crc32(f"{place.instance_type} {place.subnet}".encode())
        try:
            answer = self._ec2.run_instances(**self._data(record, place), MinCount=1, MaxCount=1, ClientToken=f"{record.token}-{where:08x}")
        except ClientError as error:
            if error_code(error) == "IdempotentParameterMismatch":
                raise TokenUsed(record.token) from error
            if error_code(error) in _NOT_OFFERED:
                raise NoCapacity(f"{place.instance_type} is not offered in {place.subnet} ({error_code(error)})") from error
            self._site.forget()
            raise
        shown = answer["Instances"][0]
        log.info("staging instance launched", job=record.job, instance=shown["InstanceId"], type=place.instance_type, gib=record.gib)
        return FarmInstance(
            id=shown["InstanceId"],
            job=record.job,
            role=Role.STAGE,
            request=record.token,
            state=shown["State"]["Name"],
            launched_at=shown["LaunchTime"],
            instance_type=place.instance_type,
        )

    def _data(self, record: Record, place: StagingPlace) -> dict[str, Any]:
        volume = {**gp3(record.gib, throughput_mib_s=self._throughput_mib_s), "VolumeSize": record.gib, "DeleteOnTermination": False}
        tags = tag_list(workspace_tags(self._farm, record))
        return {
            **place.data,
            "InstanceType": place.instance_type,
            "SubnetId": place.subnet,
            "BlockDeviceMappings": [*place.data.get("BlockDeviceMappings", ()), {"DeviceName": WORKSPACE_DEVICE, "Ebs": volume}],
            "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
        }

    def end(self, ids: Iterable[str], volumes: Iterable[FarmVolume], *, spare: str = "") -> None:
        """Terminate instances, with the workspace volumes that they hold.

        Shape:   spare: the volume that stays
        """
        held = {volume.instance: volume for volume in volumes if volume.instance and volume.is_blank and volume.id != spare}
        for id in ids:
            with aws_errors(f"end the staging instance {id}"), gone_is_fine():
                if id in held:
                    self._let_go(id, held[id])
                self._ec2.terminate_instances(InstanceIds=[id])
                log.info("staging instance ended", instance=id)

    def _let_go(self, instance: str, volume: FarmVolume) -> None:
        """Have the volume deleted with its instance. Where that is refused, somebody comes back for it: the next tick, or the sweep."""
        device = {"DeviceName": volume.device, "Ebs": {"DeleteOnTermination": True, "VolumeId": volume.id}}
        try:
            self._ec2.modify_instance_attribute(InstanceId=instance, BlockDeviceMappings=[device])
        except ClientError as error:
            log.warning("volume will outlive its instance", instance=instance, volume=volume.id, error=str(error))

    def delete_volumes(self, ids: Iterable[str]) -> None:
        for id in ids:
            with aws_errors(f"delete the volume {id}"), gone_is_fine():
                self._ec2.delete_volume(VolumeId=id)
                log.info("volume deleted", volume=id)

    def freeze(self, record: Record, volume: str) -> FarmSnapshot:
        """Begin a snapshot of the volume. Repeat: not safe: EC2 makes another; look for one by its content first."""
        with aws_errors(f"make a snapshot of {volume} for {record.job}"):
            shown = self._ec2.create_snapshot(
                VolumeId=volume,
                Description=f"Kiln {record.job}",
                TagSpecifications=[
                    {
                        "ResourceType": "snapshot",
                        "Tags": tag_list({**workspace_tags(self._farm, record), CONTENT_TAG: record.content}),
                    }
                ],
            )
        log.info("snapshot begun", job=record.job, snapshot=shown["SnapshotId"], volume=volume)
        return FarmSnapshot(
            id=shown["SnapshotId"],
            job=record.job,
            content=record.content,
            state=shown["State"],
            started_at=shown["StartTime"],
            volume=volume,
            gib=record.gib,
        )

    def delete_snapshots(self, ids: Iterable[str]) -> None:
        for id in ids:
            with aws_errors(f"delete the snapshot {id}"), gone_is_fine():
                self._ec2.delete_snapshot(SnapshotId=id)
                log.info("snapshot deleted", snapshot=id)


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """Pass over that something is gone already, or not ready to go yet: the next tick looks again."""
    try:
        yield
    except ClientError as error:
        if error_code(error) in _NOT_YET:
            log.info("not ready to be given back", error=str(error))
        elif not is_absent(error):
            raise
