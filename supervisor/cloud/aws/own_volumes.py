"""Volumes that the farm fills on its own instance: whether it may, and what is done on EC2 for it. Each deed may be repeated.

It is off wherever it is not plainly possible: then a staging instance fills the volume, and the reason is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any, Literal, Protocol

import structlog
from botocore.exceptions import ClientError

from nodeimage.launch import LaunchData
from supervisor.cloud.ports import Check, NoCapacity, Refused, SignedOut

from .believed import Believed
from .errors import DENIED_CODES, aws_errors, error_code, is_absent
from .identity import FARM_TAG, HOST_TAG, tag_list
from .inventory import FarmVolume
from .own_machine import NotHere, OwnInstance
from .session import AwsSession
from .staging_hands import TokenUsed, gone_is_fine, workspace_tags
from .staging_terms import Filling, Seen
from .volumes import gp3
from .workspace_records import Record

log = structlog.get_logger(__name__)

#: Volumes that are filled here at once: the farm serves its pages from the same machine. Staging instances fill those beyond.
MOST_AT_ONCE = 2
#: Names for attached volumes that EC2 recommends. Source: EC2 user guide, “Device names for volumes”, as of 2026-01
_DEVICES = tuple(f"/dev/sd{letter}" for letter in "fghijklmnop")
#: By somebody else meanwhile, or by this very volume, if the reply to the first asking was lost: the next tick sees which.
_NAME_TAKEN = "InvalidParameterValue"
#: What the farm's keys may do is believed for so long.
_BELIEVED_S = 600.0
_POLICY = "`kiln aws policy --part fill` prints what that takes"

FilledBy = Literal["auto", "staging_instance", "farm"]


class Whereabouts(Protocol):
    """Knows the machine that the farm runs on. `own_machine.OwnMachine` is it."""

    def instance(self) -> OwnInstance:
        """Errors: NotHere - the farm can't fill volumes where it runs"""


class Processes(Protocol):
    """What fills volumes here, by volume. `own_filling.Fillings` is it."""

    def start(self, volume: FarmVolume, told: LaunchData) -> None: ...

    def look(self, volume: str) -> Filling | None: ...

    def note_failure(self, volume: str, why: str) -> None: ...

    def end(self, volume: str) -> None: ...

    def is_in_use(self, volume: FarmVolume) -> bool: ...


class OwnVolumes:
    """Has the farm fill volumes itself."""

    def __init__(
        self,
        session: AwsSession,
        *,
        farm: str,
        filled_by: FilledBy,
        machine: Whereabouts,
        fillings: Processes,
        told: Callable[[str], LaunchData],
        throughput_mib_s: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Shape:   told: what an instance that fills the volume of a job is told. Units:   clock: monotonic seconds"""
        self._session = session
        self._farm = farm
        self._filled_by = filled_by
        self._machine = machine
        self._fillings = fillings
        self._told = told
        self._throughput_mib_s = throughput_mib_s
        self._rights = Believed(self._look_at_rights, lasts_s=_BELIEVED_S, clock=clock)
        self._said = ""

    @property
    def _ec2(self) -> Any:  # Any: boto3's clients are made at run time
        return self._session.client("ec2")

    # Whether

    def host(self, volumes: Iterable[FarmVolume]) -> OwnInstance | None:
        """Choose where the next volume is filled. Returns: None if a staging instance is to do it

        Shape:   volumes: those of all jobs that are not frozen yet
        Errors:  Throttled, Unreachable, SignedOut - nobody knows
        """
        try:
            found = self._permitted()
        except NotHere as error:
            self._say(str(error), is_here=False)
            return None
        self._say(f"the farm runs on {found.id} and may", is_here=True)
        at_work = sum(each.host == found.id and not each.is_ending for each in volumes)
        return found if at_work < MOST_AT_ONCE else None

    def check(self) -> Check:
        """What the doctor says of it. Errors: CloudError"""
        name = "volumes"
        try:
            found = self._permitted()
        except NotHere as error:
            text = f"are filled by staging instances, because {error}"
            if self._filled_by != "farm":
                return Check(name=name, is_ok=True, text=text)
            remedy = "do what is said (docs/aws.md, “Volumes that the farm fills itself”), or set [workspace] filled_by to auto"
            return Check(name=name, is_ok=False, is_warning=True, text=text, remedy=remedy)
        return Check(name=name, is_ok=True, text=f"are filled by the farm itself, because it runs on {found.id} in {found.zone}, and may")

    def look(self, record: Record, seen: Seen) -> Seen:
        """Add what is to be seen here of an attempt that the farm makes itself."""
        if not record.host:
            return seen
        mine = [each.id for each in seen.volumes if each.request == record.token and not each.is_ending]
        return replace(seen, here=self._here(), filling=self._fillings.look(mine[0]) if mine else None)

    def _here(self) -> str:
        try:
            return self._wished().id
        except NotHere:
            return ""

    def _wished(self) -> OwnInstance:
        """Errors: NotHere"""
        if self._filled_by == "staging_instance":
            raise NotHere("[workspace] filled_by says so")
        return self._machine.instance()

    def _permitted(self) -> OwnInstance:
        """Errors: NotHere; Throttled, Unreachable, SignedOut"""
        found = self._wished()
        if why := self._rights():
            raise NotHere(why)
        return found

    def _look_at_rights(self) -> str:
        """Ask whether EC2 would do it. Returns: empty if so; else why not

        A volume that is not there yet has no tags that the right to attach it could hang on, so the making is tried: both are one part of
        the policy. Whether EC2 attaches it shows when there is one.
        """
        found = self._machine.instance()
        try:
            with aws_errors(f"look at {found.id}, where the farm runs"):
                self._devices_of(found.id)
            with aws_errors("try to make a volume"):
                self._ec2.create_volume(**self._volume(found.zone, 1, {FARM_TAG: self._farm}), DryRun=True)
        except SignedOut:
            raise
        except (Refused, NoCapacity) as error:
            cause = error.__cause__
            code = error_code(cause) if isinstance(cause, ClientError) else ""
            if code == "DryRunOperation":
                return ""
            if code in DENIED_CODES:
                return f"the farm's keys may not make volumes: {_POLICY}"
            return f"{found.id} is in another account" if isinstance(cause, ClientError) and is_absent(cause) else str(error)
        return ""

    def _say(self, because: str, *, is_here: bool) -> None:
        """Log which way is taken, once for each reason."""
        if because != self._said:
            self._said = because
            tell = log.warning if self._filled_by == "farm" and not is_here else log.info
            tell("volumes are filled", by="the farm" if is_here else "staging instances", because=because)

    # What is done

    def make(self, record: Record) -> str:
        """Ask for a volume for the job's files in the zone of the farm's own instance. Returns: its id

        Repeat:  safe by the record's token
        Errors:  TokenUsed - take another token; NoCapacity; Refused - the farm may have left that instance, too; Throttled, Unreachable
        """
        tags = {**workspace_tags(self._farm, record), HOST_TAG: record.host}
        with aws_errors(f"make a volume for the files of {record.job}"):
            try:
                made = self._ec2.create_volume(**self._volume(self._zone_of(record), record.gib, tags), ClientToken=record.token)
            except ClientError as error:
                if error_code(error) == "IdempotentParameterMismatch":
                    raise TokenUsed(record.token) from error
                raise
        log.info("volume made", job=record.job, volume=made["VolumeId"], gib=record.gib, instance=record.host)
        return str(made["VolumeId"])

    def _zone_of(self, record: Record) -> str:
        """Errors: Refused"""
        try:
            here = self._wished()
        except NotHere as error:
            raise Refused(str(error)) from error
        if here.id != record.host:
            raise Refused(f"the farm runs on {here.id} now, and no longer on {record.host}")
        return here.zone

    def attach(self, volume: FarmVolume) -> None:
        """Attach a volume to the instance that it was made for. Where EC2 refuses, `look` tells of it."""
        self._fillings.end(volume.id)
        try:
            with aws_errors(f"attach {volume.id} to {volume.host}"), gone_is_fine():
                device = self._free_device(volume.host)
                self._ec2.attach_volume(VolumeId=volume.id, InstanceId=volume.host, Device=device)
                log.info("volume attached", job=volume.job, volume=volume.id, instance=volume.host, device=device)
        except SignedOut:
            raise
        except (Refused, NoCapacity) as error:
            code = error_code(error.__cause__) if isinstance(error.__cause__, ClientError) else ""
            if code == _NAME_TAKEN:
                log.info("name of a device is taken", volume=volume.id, error=str(error))
                return
            self._fillings.note_failure(volume.id, str(error))
            if code in DENIED_CODES:
                self._rights.believe(f"the farm's keys may not attach volumes: {_POLICY}")

    def fill(self, volume: FarmVolume) -> None:
        """Start what fills an attached volume. Repeat: safe"""
        self._fillings.start(volume, self._told(volume.job))

    def let_go(self, volumes: Iterable[FarmVolume]) -> list[str]:
        """End what fills volumes here, and detach them.

        Returns: those that can't be detached yet: the next tick, or the sweep, comes back for them
        """
        return [volume.id for volume in volumes if not self._let_go(volume)]

    def _let_go(self, volume: FarmVolume) -> bool:
        self._fillings.end(volume.id)
        if volume.attachment == "detaching":
            return True
        if self._fillings.is_in_use(volume):
            log.info("volume is still in use here", volume=volume.id)
            return False
        return self._detach(volume)

    def _detach(self, volume: FarmVolume) -> bool:
        """Returns: False: not yet, or it is not allowed"""
        is_done = False
        try:
            with aws_errors(f"detach {volume.id} from {volume.host}"), gone_is_fine():
                # the instance is named: if it were attached to another by now, that is not ours to end
                self._ec2.detach_volume(VolumeId=volume.id, InstanceId=volume.host)
                is_done = True
        except SignedOut:
            raise
        except Refused as error:
            log.warning("volume not detached", volume=volume.id, instance=volume.host, error=str(error))
        if is_done:
            log.info("volume detached", volume=volume.id, instance=volume.host)
        return is_done

    def _volume(self, zone: str, gib: int, tags: dict[str, str]) -> dict[str, Any]:
        specification = [{"ResourceType": "volume", "Tags": tag_list(tags)}]
        size = gp3(gib, throughput_mib_s=self._throughput_mib_s)
        return {"AvailabilityZone": zone, "Size": gib, **size, "TagSpecifications": specification}

    def _devices_of(self, instance: str) -> Sequence[str]:
        """Names that are taken on an instance. Errors: ClientError"""
        shown = self._ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        return [device["DeviceName"] for device in shown.get("BlockDeviceMappings", ())]

    def _free_device(self, instance: str) -> str:
        """Errors: Refused, ClientError"""
        taken = {name[-1:] for name in self._devices_of(instance) if name.startswith(("/dev/sd", "/dev/xvd", "xvd"))}
        free = next((name for name in _DEVICES if name[-1] not in taken), None)
        if free is None:
            raise Refused(f"{instance} has a volume at each of {_DEVICES[0]} to {_DEVICES[-1]}")
        return free
