"""CreateFleet of type instant, as AWS answers it.

moto's own launches everything by the first override, at any price, and never tells of an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.responses.fleets import Fleets
from moto.ec2.utils import convert_tag_spec, random_fleet_id

from .cloud_time import now
from .patching import Method, mend
from .room import grant
from .world import world_of


def repair() -> None:
    mend(Fleets, "create_fleet", _create_fleet)
    mend(Fleets, "describe_fleets", _describe_fleets)
    mend(Fleets, "delete_fleets", _delete_fleets)


def _create_fleet(original: Method) -> Method:
    def create_fleet(self: Any) -> Any:
        if self._get_param("Type") != "instant":
            return original(self)
        self.error_on_dryrun()
        fleet = InstantFleet(backend=self.ec2_backend, params=self.params)
        return ActionResult(fleet.launch())

    return create_fleet


def _describe_fleets(original: Method) -> Method:
    """AWS tells of an instant fleet where it is asked for by its id alone."""

    def describe_fleets(self: Any) -> Any:
        ids, known = self._get_param("FleetIds", []), world_of(self.ec2_backend).fleets
        mine = [known[id] for id in ids if id in known]
        unknown = [id for id in ids if id not in known and id not in self.ec2_backend.fleets]
        if unknown:
            raise EC2ClientError("InvalidFleetId.NotFound", f"The fleet ID '{unknown[0]}' does not exist")
        return ActionResult({"Fleets": mine}) if mine else original(self)

    return describe_fleets


def _delete_fleets(original: Method) -> Method:
    """AWS deletes an instant fleet with its instances, and knows it for a while."""

    def delete_fleets(self: Any) -> Any:
        ids, known = self._get_param("FleetIds", []), world_of(self.ec2_backend).fleets
        if not set(ids) & set(known):
            return original(self)
        if self._get_param("TerminateInstances") not in {True, "true"}:
            raise EC2ClientError("InvalidParameterValue", "NoTerminateInstances is not supported for fleets of type instant")
        for id in ids:
            instances = [instance for each in known[id]["Instances"] for instance in each["InstanceIds"]]
            alive = [one for one in instances if self.ec2_backend.get_instance(one).state != "terminated"]
            self.ec2_backend.terminate_instances(alive) if alive else None
            known[id]["FleetState"] = "deleted_terminating"
        return ActionResult({"SuccessfulFleetDeletions": [{"FleetId": id} for id in ids], "UnsuccessfulFleetDeletions": []})

    return delete_fleets


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One override of one launch template version: a type in a subnet."""

    specification: dict[str, Any]
    override: dict[str, Any]
    data: dict[str, Any]  #: of the version
    zone: str

    @property
    def instance_type(self) -> str:
        return str(self.override.get("InstanceType") or self.data["InstanceType"])

    @property
    def name(self) -> str:
        return f"{self.instance_type}/{self.zone}"


class InstantFleet:
    """One request, fulfilled as far as there is room."""

    def __init__(self, *, backend: Any, params: dict[str, Any]) -> None:
        self._backend = backend
        self._params = params
        self._world = world_of(backend)
        self._id = random_fleet_id()
        capacity = params["TargetCapacitySpecification"]
        self._want = int(capacity["TotalTargetCapacity"])
        self._market = capacity.get("DefaultTargetCapacityType", "on-demand")
        self._options = params.get("SpotOptions" if self._market == "spot" else "OnDemandOptions", {})
        assert not {"MinTargetCapacity", "MaxTotalPrice", "SingleInstanceType"} & set(self._options), "not played here"

    def launch(self) -> dict[str, Any]:
        tags = convert_tag_spec(self._params.get("TagSpecifications", []))
        launched, errors, missing = [], [], self._want
        pools = list(self._pools())
        if len({pool.name for pool in pools}) < len(pools):
            raise EC2ClientError("InvalidFleetConfig", "The fleet configuration contains duplicate instance pools.")
        for pool in sorted(pools, key=self._order):
            if missing <= 0:
                break
            try:
                ids = self._launch_in(pool, missing, tags.get("instance", {}))
            except EC2ClientError as error:
                errors.append({**self._about(pool), "ErrorCode": error.code, "ErrorMessage": error.message})
                continue
            missing -= len(ids)
            launched.append({**self._about(pool), "InstanceIds": ids, "InstanceType": pool.instance_type})
        self._keep(launched, errors, tags.get("fleet", {}))
        return {"FleetId": self._id, "Errors": errors, "Instances": launched}

    def _pools(self) -> Iterator[Pool]:
        for config in self._params["LaunchTemplateConfigs"]:
            specification = config["LaunchTemplateSpecification"]
            data = self._backend._get_template_from_args(specification).data
            for override in config.get("Overrides") or [{}]:
                subnet = override.get("SubnetId")
                zone = self._backend.get_subnet(subnet).availability_zone if subnet else f"{self._backend.region_name}a"
                yield Pool(specification=specification, override=override, data=data, zone=zone)

    def _order(self, pool: Pool) -> tuple[float, str]:
        if self._options.get("AllocationStrategy") == "prioritized":
            return float(pool.override.get("Priority", 0)), ""
        if self._market == "spot":
            return float(self._world.spot_price_of(pool.name)), pool.zone
        price = self._world.on_demand_prices.get(pool.instance_type)
        return float(price or INSTANCE_TYPES.get(pool.instance_type, {}).get("VCpuInfo", {}).get("DefaultVCpus", 0)), pool.zone

    def _launch_in(self, pool: Pool, missing: int, tags: dict[str, str]) -> list[str]:
        if pool.instance_type not in INSTANCE_TYPES:
            raise EC2ClientError("InvalidInstanceType", f"The instance type '{pool.instance_type}' does not exist")
        max_price = pool.override.get("MaxPrice")
        count = grant(self._backend, pool.name, missing, market=self._market, max_price=max_price)
        reservation = self._backend.run_instances(
            pool.override.get("ImageId") or pool.data["ImageId"],
            count,
            None,
            [],
            launch_template=pool.specification,
            instance_type=pool.instance_type,
            is_instance_type_default=False,
            region_name=self._backend.region_name,
            subnet_id=pool.override.get("SubnetId"),
            instance_market_options="spot" if self._market == "spot" else {},
            lifecycle="spot" if self._market == "spot" else None,
            tags={"instance": {**tags, "aws:ec2:fleet-id": self._id}},
        )
        return [one.id for one in reservation.instances]

    def _about(self, pool: Pool) -> dict[str, Any]:
        overrides = {**pool.override, "AvailabilityZone": pool.zone}
        return {
            "LaunchTemplateAndOverrides": {"LaunchTemplateSpecification": pool.specification, "Overrides": overrides},
            "Lifecycle": self._market,
        }

    def _keep(self, launched: list[dict[str, Any]], errors: list[dict[str, Any]], tags: dict[str, str]) -> None:
        self._world.fleets[self._id] = {
            "FleetId": self._id,
            "Type": "instant",
            "FleetState": "active",
            "CreateTime": now(),
            "ClientToken": self._params.get("ClientToken", ""),
            "TargetCapacitySpecification": self._params["TargetCapacitySpecification"],
            "Instances": launched,
            "Errors": errors,
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
        self._backend.create_tags([self._id], tags)
