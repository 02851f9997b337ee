"""A launch as a fleet of type instant: what is asked for, and what is made of the answer. Rules alone; nothing is sent from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from supervisor.cloud.ports import CloudError, LaunchSpec, NoCapacity, Refused, Throttled, Unreachable
from supervisor.domain.instance import Market

from .errors import error_of
from .launch_site import Place
from .template import tag_specifications

#: A fleet whose answer has errors of several kinds and no instance is sorted by the first of these: a launch is better settled than in
#: doubt, and what is refused in one zone may be had in another.
_FIRST = (NoCapacity, Throttled, Unreachable, Refused)
_SPOT_QUOTA = "the account's quota of spot vCPUs is used up (Service Quotas: “All Standard Spot Instance Requests”, or “G and VT” for GPUs)"
_ON_DEMAND_QUOTA = (
    "the account's quota of vCPUs is used up (Service Quotas: “Running On-Demand Standard instances”, or “G and VT” for GPUs)"
)
#: EC2's codes for a type that a zone does not have.
_NOT_OFFERED = frozenset({"Unsupported", "UnsupportedOperation", "InvalidFleetConfiguration", "InvalidFleetConfig"})
#: Of a reason on a job's page.
_MOST_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetError:
    """Why there is nothing to be had in one place."""

    code: str
    message: str
    instance_type: str
    zone: str


def fleet_request(
    *, template: str, version: str, image: str, places: Sequence[Place], spec: LaunchSpec, count: int, token: str, tags: Mapping[str, str]
) -> dict[str, Any]:
    """Ask for `count` instances wherever there is room, as parameters of CreateFleet.

    Shape:   image: that the version names; places with another bring their own
    """
    is_spot = spec.market is Market.SPOT
    overrides = [_override(place, image, max_price=spec.max_price_usd_per_h if is_spot else None) for place in places]
    options: dict[str, Any] = {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}
    if is_spot:
        options = {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized", "InstanceInterruptionBehavior": "terminate"}}
    return {
        "Type": "instant",
        "ClientToken": token,
        "LaunchTemplateConfigs": [
            {"LaunchTemplateSpecification": {"LaunchTemplateName": template, "Version": version}, "Overrides": overrides}
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": count,
            "DefaultTargetCapacityType": "spot" if is_spot else "on-demand",
        },
        "TagSpecifications": tag_specifications(tags, "fleet", "instance"),
        **options,
    }


def _override(place: Place, image: str, *, max_price: Decimal | None) -> dict[str, Any]:
    override: dict[str, Any] = {"InstanceType": place.instance_type, "SubnetId": place.subnet.id}
    if place.image.id != image:
        override["ImageId"] = place.image.id
    if max_price is not None:
        override["MaxPrice"] = f"{max_price:f}"
    return override


def instances_in(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Ids of the instances that a fleet launched, by CreateFleet's answer or its description."""
    return tuple(id for each in answer.get("Instances", ()) for id in each["InstanceIds"])


def errors_in(answer: Mapping[str, Any], places: Sequence[Place]) -> list[FleetError]:
    zones = {place.subnet.id: place.subnet.zone for place in places}
    return [_fleet_error(each, zones) for each in answer.get("Errors", ())]


def _fleet_error(shown: Mapping[str, Any], zones: Mapping[str, str]) -> FleetError:
    override = shown.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    return FleetError(
        code=shown.get("ErrorCode", ""),
        message=shown.get("ErrorMessage", ""),
        instance_type=override.get("InstanceType", ""),
        zone=override.get("AvailabilityZone") or zones.get(override.get("SubnetId", ""), ""),
    )


def refusal(errors: Sequence[FleetError], spec: LaunchSpec) -> CloudError:
    """Why a fleet launched nothing, as one error: sorted as the ports do, in words for people, places that have the same reason in one."""
    if not errors:
        return NoCapacity(f"can't {launching(spec)}: AWS launched none and did not say why")
    sorted_errors = [type(error_of(each.code, each.message)) for each in errors]
    kind = next(kind for kind in _FIRST if kind in sorted_errors)
    telling = [each for each, its_kind in zip(errors, sorted_errors, strict=True) if its_kind is kind and each.code not in _NOT_OFFERED]
    by_reason: dict[tuple[str, str], list[FleetError]] = {}
    for each in telling or errors:
        by_reason.setdefault(_reason(each, spec), []).append(each)
    words = "; ".join(f"{before} {_where(those)}{after}" for (before, after), those in by_reason.items())
    return kind(f"can't {launching(spec)}: {words[:_MOST_CHARACTERS]}")


def launching(spec: LaunchSpec) -> str:
    """What a launch attempts, as errors tell it."""
    count = "an instance" if spec.count == 1 else f"{spec.count} instances"
    return f"launch {count} for {spec.job}"


def _reason(error: FleetError, spec: LaunchSpec) -> tuple[str, str]:
    """Shape:   what stands before the places, and what after them"""
    is_spot = spec.market is Market.SPOT
    price = f" at ${spec.max_price_usd_per_h:f}/h" if is_spot and spec.max_price_usd_per_h is not None else ""
    match error.code:
        case "InsufficientInstanceCapacity" | "UnfulfillableCapacity":
            return f"no {'spot ' if is_spot else ''}capacity for", price
        case "SpotMaxPriceTooLow":
            return f"spot instances cost more than {price.removeprefix(' at ') or 'on demand'} now:", ""
        case "MaxSpotInstanceCountExceeded":
            return _SPOT_QUOTA + ":", ""
        case "VcpuLimitExceeded" | "InstanceLimitExceeded":
            return (_SPOT_QUOTA if is_spot else _ON_DEMAND_QUOTA) + ":", ""
        case "InsufficientFreeAddressesInSubnet":
            return "the subnet has no free address left:", ""
        case code if code in _NOT_OFFERED:
            return "not offered:", ""
    return f"{error_of(error.code, error.message)}:", ""


def _where(errors: Sequence[FleetError]) -> str:
    """Name places, such as `c7i.4xlarge, c7a.4xlarge in us-east-1a, b`."""
    zones: dict[str, list[str]] = {}
    for each in errors:
        zones.setdefault(each.instance_type, []).append(each.zone)
    types: dict[str, list[str]] = {}
    for name, found in zones.items():
        types.setdefault(_zones(sorted(set(found))), []).append(name)
    return ", ".join(f"{', '.join(filter(None, names)) or 'any type'}{where}" for where, names in types.items())


def _zones(zones: Sequence[str]) -> str:
    if not zones or not zones[0]:
        return ""
    region = zones[0][:-1]
    return f" in {zones[0]}" + "".join(f", {zone.removeprefix(region)}" for zone in zones[1:])
