"""How instances come, stop, start and end: with all that a launch template says, and by the rules that AWS has and moto lacks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from moto.core.types import Base64EncodedString
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import convert_tag_spec, filter_iam_instance_profiles

from .cloud_time import now
from .patching import Method, mend
from .room import grant, market_of
from .world import world_of

STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
_spot_requests = count(1)


def repair() -> None:
    mend(Instance, "add_block_device", _add_block_device)
    mend(InstanceBackend, "run_instances", _run_instances)
    mend(InstanceResponse, "run_instances", _answer_run_instances)
    mend(InstanceResponse, "_parse_block_device_mapping", _whole_block_devices)


def set_state(instance: Any, state: str) -> None:
    instance._state.name, instance._state.code = state, STATES[state]


def _whole_block_devices(original: Method) -> Method:
    """moto drops what it does not know of a block device: throughput, the rate at which it is filled from its snapshot."""

    def _parse_block_device_mapping(self: Any) -> list[dict[str, Any]]:
        return list(self._get_param("BlockDeviceMappings", []))

    return _parse_block_device_mapping


def _answer_run_instances(original: Method) -> Method:
    """moto launches MinCount whatever there is room for, and forgets the price of a spot request."""

    def run_instances(self: Any) -> Any:
        least, most = int(self._get_param("MinCount", 1)), int(self._get_param("MaxCount", 1))
        template = self._get_param("LaunchTemplate", {})
        data = self.ec2_backend._get_template_from_args(template).data if template else {}
        market = self._get_param("InstanceMarketOptions") or data.get("InstanceMarketOptions") or {}
        pool = f"{self._get_param('InstanceType') or data.get('InstanceType') or 'm1.small'}/{_zone(self)}"
        max_price = market.get("SpotOptions", {}).get("MaxPrice")
        granted = grant(self.ec2_backend, pool, most, market=market.get("MarketType", "on-demand"), max_price=max_price)
        if granted < least:
            raise EC2ClientError("InsufficientInstanceCapacity", f"We currently do not have sufficient capacity: {granted} of {least}.")
        self.params = {**self.params, "MinCount": granted}
        return original(self)

    return run_instances


def _zone(request: Any) -> str:
    subnet = request._get_param("SubnetId")
    if subnet:
        return str(request.ec2_backend.get_subnet(subnet).availability_zone)
    return str(request._get_param("Placement.AvailabilityZone") or f"{request.region}a")


def _run_instances(original: Method) -> Method:
    """moto drops most of what a launch template says, makes no root volume where block devices are given, and no volume's tags."""

    def run_instances(self: Any, image_id: str, count: int, user_data: Any, security_group_names: list[str], **kwargs: Any) -> Any:
        template = kwargs.get("launch_template")
        data = self._get_template_from_args(template).data if template else {}
        image = self.describe_images(ami_ids=[image_id or data["ImageId"]])[0]
        user_data = user_data or _user_data(data)
        _take_over(kwargs, data)
        kwargs["block_device_mappings"] = _block_devices(image, kwargs.get("block_device_mappings") or data.get("BlockDeviceMappings", []))
        profile = _profile(self, kwargs, data)
        for device in kwargs["block_device_mappings"]:  # moto would leave half an instance behind
            check_snapshot(self, device["Ebs"].get("SnapshotId"), device["Ebs"].get("VolumeSize"))
        reservation = original(self, image_id, count, user_data, security_group_names, **kwargs)
        for number, instance in enumerate(reservation.instances):
            _finish(self, instance, data, kwargs, profile if number or not kwargs.get("iam_instance_profile_name") else None)
        return reservation

    return run_instances


def check_snapshot(backend: Any, snapshot_id: str | None, size: Any) -> None:
    """Refuse a volume that can't be made of the snapshot, as AWS does."""
    snapshot = backend.get_snapshot(snapshot_id) if snapshot_id else None
    if snapshot and snapshot.status != "completed":
        raise EC2ClientError("IncorrectState", f"Snapshot is in invalid state - {snapshot.status}")
    if snapshot and size and int(size) < snapshot.volume.size:
        text = f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', expect size >= {snapshot.volume.size}GB"
        raise EC2ClientError("InvalidBlockDeviceMapping", text)


def _user_data(data: dict[str, Any]) -> Base64EncodedString | None:
    given = data.get("UserData")
    return Base64EncodedString(given) if isinstance(given, str) else given


def _take_over(kwargs: dict[str, Any], data: dict[str, Any]) -> None:
    """Let the template say what the call does not."""
    for key, name in (
        ("metadata_options", "MetadataOptions"),
        ("instance_initiated_shutdown_behavior", "InstanceInitiatedShutdownBehavior"),
        ("ebs_optimized", "EbsOptimized"),
    ):
        kwargs[key] = kwargs.get(key) or data.get(name)
    if not kwargs.get("instance_market_options"):
        kwargs["instance_market_options"] = data.get("InstanceMarketOptions", {}).get("MarketType", {})
    tags, said = kwargs.get("tags") or {}, convert_tag_spec(data.get("TagSpecifications", []))
    kwargs["tags"] = {kind: {**said.get(kind, {}), **tags.get(kind, {})} for kind in {*tags, *said}}


def _block_devices(image: Any, given: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The image's root device, changed by what is given for it, and the others."""
    devices = {each["DeviceName"]: each["Ebs"] for each in image.block_device_mappings}
    for each in given:
        if "Ebs" in each:
            devices[each["DeviceName"]] = {**devices.get(each["DeviceName"], {}), **each["Ebs"]}
    return [{"DeviceName": name, "Ebs": ebs} for name, ebs in devices.items()]


def _add_block_device(original: Method) -> Method:
    def add_block_device(self: Any, size: Any, device_path: str, snapshot_id: str | None, *rest: Any, **kwargs: Any) -> None:
        original(self, int(size) if size else None, device_path, snapshot_id or None, *rest, **kwargs)

    return add_block_device


def _profile(backend: Any, kwargs: dict[str, Any], data: dict[str, Any]) -> dict[str, str] | None:
    """Shape:   as `associate_iam_instance_profile` takes it"""
    said = data.get("IamInstanceProfile", {})
    name = kwargs.get("iam_instance_profile_name") or said.get("Name")
    arn = kwargs.get("iam_instance_profile_arn") or said.get("Arn")
    if not name and not arn:
        return None
    try:
        filter_iam_instance_profiles(backend.account_id, backend.partition, arn, name)
    except Exception as error:
        text = f"Value ({name or arn}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
        raise EC2ClientError("InvalidParameterValue", text) from error
    return {"iam_instance_profile_name": name} if name else {"iam_instance_profile_arn": arn}


def _finish(backend: Any, instance: Any, data: dict[str, Any], kwargs: dict[str, Any], profile: dict[str, str] | None) -> None:
    if profile:
        backend.associate_iam_instance_profile(instance_id=instance.id, **profile)
    instance.spot_instance_request_id = f"sir-{next(_spot_requests):08x}" if instance.lifecycle == "spot" else None
    world = world_of(backend)
    for device in kwargs["block_device_mappings"]:
        volume = backend.get_volume(instance.block_device_mapping[device["DeviceName"]].volume_id)
        volume.throughput = device["Ebs"].get("Throughput")
        volume.volume_initialization_rate = device["Ebs"].get("VolumeInitializationRate")
        volume.iops = device["Ebs"].get("Iops") or volume.iops
        if world.hides_new:
            world.hidden.add(volume.id)
    if world.is_slow:
        set_state(instance, "pending")
    if world.hides_new:
        world.hidden.add(instance.id)


def _refuse(instances: Iterable[Any], allowed: set[str], verb: str) -> None:
    for one in instances:
        if one.state not in allowed:
            text = f"The instance '{one.id}' is not in a state from which it can be {verb}."
            raise EC2ClientError("IncorrectInstanceState", text)
        if one.lifecycle == "spot":
            text = (
                f"You can't {verb[:4]} the Spot Instance '{one.id}' because it is associated with a one-time Spot Instance request. "
                "You can only stop Spot Instances associated with persistent Spot Instance requests."
            )
            raise EC2ClientError("UnsupportedOperation", text)


def starting(original: Method) -> Method:
    def start_instances(self: Any, instance_ids: list[str]) -> Any:
        chosen = self.get_multi_instances_by_id(instance_ids)
        _refuse(chosen, {"stopped", "pending", "running"}, "started")
        stopped = [one for one in chosen if one.state == "stopped"]
        for pool in {f"{one.instance_type}/{one.availability_zone}" for one in stopped}:
            want = sum(1 for one in stopped if f"{one.instance_type}/{one.availability_zone}" == pool)
            if grant(self, pool, want, market=market_of(stopped[0])) < want:
                raise EC2ClientError("InsufficientInstanceCapacity", f"Insufficient capacity to start {want} instances in {pool}.")
        began = original(self, instance_ids)
        for one in stopped:
            one.launch_time = now().replace(tzinfo=None)  # AWS counts from the latest start; moto leaves the time as it was
            if world_of(self).is_slow:
                set_state(one, "pending")
        return began

    return start_instances


def stopping(original: Method) -> Method:
    def stop_instances(self: Any, instance_ids: list[str]) -> Any:
        chosen = self.get_multi_instances_by_id(instance_ids)
        _refuse(chosen, {"pending", "running", "stopping", "stopped"}, "stopped")
        fresh = [one for one in chosen if one.state in {"pending", "running"}]
        ended = original(self, instance_ids)
        for one in fresh if world_of(self).is_slow else ():
            set_state(one, "stopping")
        return ended

    return stop_instances


def terminating(original: Method) -> Method:
    """Ended again, an instance keeps the reason of its end."""

    def terminate_instances(self: Any, instance_ids: list[str]) -> Any:
        chosen = self.get_multi_instances_by_id(instance_ids)
        gone = [(one, one._state) for one in chosen if one.state in {"terminated", "shutting-down"}]
        fresh = [one for one in chosen if one.state not in {"terminated", "shutting-down"}]
        ended = original(self, [one.id for one in fresh]) if fresh else []
        for one in fresh if world_of(self).is_slow else ():
            set_state(one, "shutting-down")
        return [*gone, *ended]

    return terminate_instances
