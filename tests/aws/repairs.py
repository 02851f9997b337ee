"""Make moto behave like AWS where the farm depends on it. Each thing that moto 5.2 fakes or lacks is named where it is mended.

moto is changed in place and for the whole process, once; what is remembered hangs on its backends, so its reset clears it.
"""

from __future__ import annotations

import json
import re
import threading
from functools import cache
from typing import Any  # Any: moto's models and parameters are made at run time

from moto import settings
from moto.core.responses import ActionResult
from moto.core.utils import camelcase_to_underscores
from moto.ec2 import utils
from moto.ec2.exceptions import EC2ClientError, InvalidInstanceIdError
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.elastic_block_store import EBSBackend, Snapshot
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.responses import EC2Response
from moto.ec2.responses.spot_instances import SpotInstances
from moto.moto_server import werkzeug_app

from . import access, cloud_time, fleets, groups, images, launching, templates, uploads, volumes
from .cloud_time import now
from .patching import Method, mend
from .world import world_of

#: moto's EC2 is not made for several threads; its server has them.
_ONE_AT_A_TIME = threading.RLock()
#: Actions that AWS makes repeatable by their client token.
_WITH_TOKEN = ("run_instances", "create_volume", "create_fleet", "create_launch_template", "create_launch_template_version")
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


@cache
def repair_moto() -> None:
    """Mend moto. Repeat: safe"""
    _settings()
    cloud_time.repair()
    launching.repair()
    uploads.repair()
    fleets.repair()
    templates.repair()
    images.repair()
    groups.repair()
    access.repair()
    volumes.repair()
    _lookups()
    _instances()
    _volumes()
    _spot_prices()
    for action in _WITH_TOKEN:
        mend(EC2Response, action, _repeatable)
    mend(EC2Response, "call_action", _recorded)


def _settings() -> None:
    # read from the environment when moto is imported: too early for us
    settings.ENABLE_AMI_VALIDATION = True
    settings.EC2_ENABLE_INSTANCE_TYPE_VALIDATION = True
    mend(settings, "ec2_load_default_amis", lambda original: lambda: False)
    # its own CORS would hide that a bucket has none
    mend(werkzeug_app, "DISABLE_GLOBAL_CORS", lambda original: True)


def _recorded(original: Method) -> Method:
    """Remember what was asked, and answer one call at a time. That it would be done is all that is said of what is only tried."""

    def call_action(self: Any) -> Any:
        with _ONE_AT_A_TIME:
            params = json.loads(json.dumps(self.params, default=str))
            world_of(self.ec2_backend).calls.append({"action": self._get_action(), "params": params})
            if self._get_param("DryRun", False):
                # moto knows of it in most actions; the others answer with all that there is
                setattr(self, camelcase_to_underscores(self._get_action()), self.error_on_dryrun)
            return original(self)

    return call_action


def _repeatable(original: Method) -> Method:
    """moto ignores ClientToken: asked again, it launches again. AWS answers as before, or refuses other parameters."""

    def call(self: Any) -> Any:
        world, token = world_of(self.ec2_backend), self._get_param("ClientToken")
        if not token or world.forgets_tokens:
            return original(self)
        asked = json.dumps(self.params, default=str, sort_keys=True)
        key = (original.__name__, token)
        if key in world.answers:
            before, answer = world.answers[key]
            if before != asked:
                text = f"The client token {token} was used before with other parameters."
                raise EC2ClientError("IdempotentParameterMismatch", text)
            return ActionResult({"FleetId": answer.result["FleetId"]}) if _is_bare(world.bare_replays, answer) else answer
        answer = original(self)
        world.answers[key] = (asked, answer)
        return answer

    call.__name__ = original.__name__
    return call


def _is_bare(bare: bool, answer: Any) -> bool:
    return bare and isinstance(answer.result, dict) and "FleetId" in answer.result


def _lookups() -> None:
    """moto goes through all tags and all instances for each of them; and it can't filter by what AWS can."""

    def get_tags(self: Any) -> list[dict[str, str]]:
        kind = utils.EC2_PREFIX_TO_RESOURCE.get(utils.get_prefix(self.id), "") if self.id else ""
        tags = self.ec2_backend.tags.get(self.id, {})
        return [{"resource_id": self.id, "key": key, "value": value, "resource_type": kind} for key, value in tags.items()]

    def get_instance(self: Any, instance_id: str) -> Any:
        # newest first: what was just launched is asked for most
        for reservation in reversed(list(self.reservations.values())):
            for instance in reservation.instances:
                if instance.id == instance_id:
                    return instance
        raise InvalidInstanceIdError(instance_id)

    mend(TaggedEC2Resource, "get_tags", lambda original: get_tags)
    mend(InstanceBackend, "get_instance", lambda original: get_instance)
    mend(InstanceBackend, "all_reservations", _without_hidden)
    mend(InstanceBackend, "get_multi_instances_by_id", _well_formed)
    mend(InstanceBackend, "get_reservations_by_instance_ids", _names_all_missing)
    utils.filter_dict_attribute_mapping.update(
        {
            "client-token": "client_token",
            "instance-lifecycle": "lifecycle",
            "spot-instance-request-id": "spot_instance_request_id",
        }
    )


def _without_hidden(original: Method) -> Method:
    """AWS may describe an instance later than it launched it."""

    def all_reservations(self: Any, filters: Any = None) -> Any:
        hidden, groups = world_of(self).hidden, original(self, filters)
        for group in groups:
            group.instances = [one for one in group.instances if one.id not in hidden]
        return [group for group in groups if group.instances]

    return all_reservations


def _well_formed(original: Method) -> Method:
    """AWS refuses what can't be an instance's id otherwise than one that it does not know."""

    def get_multi_instances_by_id(self: Any, instance_ids: list[str], filters: Any = None) -> Any:
        for id in instance_ids:
            if not _INSTANCE_ID.fullmatch(id):
                raise EC2ClientError("InvalidInstanceID.Malformed", f'Invalid id: "{id}"')
        return original(self, instance_ids, filters)

    return get_multi_instances_by_id


def _names_all_missing(original: Method) -> Method:
    def get_reservations_by_instance_ids(self: Any, instance_ids: list[str], filters: Any = None) -> Any:
        self.get_multi_instances_by_id(instance_ids)
        return original(self, instance_ids, filters=filters)

    return get_reservations_by_instance_ids


def _instances() -> None:
    """moto starts what is terminated, stops spot instances, and is done with everything at once."""
    mend(InstanceBackend, "start_instances", launching.starting)
    mend(InstanceBackend, "stop_instances", launching.stopping)
    mend(InstanceBackend, "terminate_instances", launching.terminating)


def _volumes() -> None:
    """moto attaches what is attached, makes volumes from unfinished snapshots, and finishes snapshots at once."""
    mend(EBSBackend, "attach_volume", _attach)
    mend(EBSBackend, "detach_volume", _detach)
    mend(EBSBackend, "create_volume", _create_volume)
    mend(EBSBackend, "create_snapshot", _create_snapshot)
    mend(EBSBackend, "get_snapshot", _get_snapshot)
    for listing in ("describe_volumes", "describe_snapshots"):
        mend(EBSBackend, listing, _shown)
    progress = property(lambda self: "100%" if self.status == "completed" else "40%")
    mend(Snapshot, "progress", lambda original: progress)


def _attach(original: Method) -> Method:
    def attach_volume(self: Any, volume_id: str, instance_id: str, device_path: str, delete_on_termination: bool = False) -> Any:
        volume, instance = self.get_volume(volume_id), self.get_instance(instance_id)
        if volume.attachment:
            raise EC2ClientError("VolumeInUse", f"{volume_id} is already attached to an instance")
        if instance.state not in {"pending", "running", "stopped"}:
            raise EC2ClientError("IncorrectState", f"{instance_id} is {instance.state}")
        if volume.zone and volume.zone.name != instance.availability_zone:
            text = f"The volume '{volume_id}' is not in the same availability zone as instance '{instance_id}'"
            raise EC2ClientError("InvalidVolume.ZoneMismatch", text)
        return original(self, volume_id, instance_id, device_path, delete_on_termination)

    return attach_volume


def _detach(original: Method) -> Method:
    """AWS finds out by itself from which instance."""

    def detach_volume(self: Any, volume_id: str, instance_id: str | None = None, device_path: str | None = None) -> Any:
        attachment = self.get_volume(volume_id).attachment
        return original(self, volume_id, instance_id or (attachment.instance.id if attachment else "i-00000000"), device_path)

    return detach_volume


def _create_volume(original: Method) -> Method:
    def create_volume(self: Any, size: int | None, zone_name: str, snapshot_id: str | None = None, **rest: Any) -> Any:
        launching.check_snapshot(self, snapshot_id, size)
        return original(self, size, zone_name, snapshot_id=snapshot_id, **rest)

    return create_volume


def _get_snapshot(original: Method) -> Method:
    """moto does not say which one is not there."""

    def get_snapshot(self: Any, snapshot_id: str) -> Any:
        if snapshot_id not in self.snapshots:
            raise EC2ClientError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
        return original(self, snapshot_id)

    return get_snapshot


def _shown(original: Method) -> Method:
    """AWS may list a volume or a snapshot later than it made it."""

    def describe(self: Any, *rest: Any, **kwargs: Any) -> Any:
        hidden = world_of(self).hidden
        return [each for each in original(self, *rest, **kwargs) if each.id not in hidden]

    return describe


def _create_snapshot(original: Method) -> Method:
    def create_snapshot(self: Any, volume_id: str, description: str, owner_id: str | None = None, from_ami: str | None = None) -> Any:
        snapshot = original(self, volume_id, description, owner_id, from_ami)
        if world_of(self).is_slow and not from_ami:
            snapshot.status = "pending"
        if world_of(self).hides_new:
            world_of(self).hidden.add(snapshot.id)
        return snapshot

    return create_snapshot


def _spot_prices() -> None:
    """moto's spot price is one constant, of 2006, and it takes no zone."""

    def describe_spot_price_history(self: Any) -> ActionResult:
        backend, filters = self.ec2_backend, self._filters_from_querystring()
        zone = self._get_param("AvailabilityZone")
        if zone:
            filters["availability-zone"] = [zone]
        filters.pop("product-description", None)
        offered = backend.describe_spot_price_history(self._get_param("InstanceTypes", []), filters)
        prices = [
            {
                "AvailabilityZone": each["Location"],
                "InstanceType": each["InstanceType"],
                "ProductDescription": "Linux/UNIX",
                "SpotPrice": world_of(backend).spot_price_of(f"{each['InstanceType']}/{each['Location']}"),
                "Timestamp": now(),
            }
            for each in offered
        ]
        return ActionResult({"SpotPriceHistory": prices})

    mend(SpotInstances, "describe_spot_price_history", lambda original: describe_spot_price_history)
