"""Whether the cloud has room: what of a launch a pool grants, as AWS decides it and moto never does."""

from __future__ import annotations

from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPES

from .world import world_of

#: Instances that take up a pool's room and a quota's vCPUs.
_PRESENT = frozenset({"pending", "running"})


def grant(backend: Any, pool: str, want: int, *, market: str, max_price: str | None = None) -> int:
    """How many of `want` instances the pool `<type>/<zone>` has room for, at least one. Errors: EC2ClientError - none, and why"""
    world = world_of(backend)
    wished = world.error_of(pool)
    if wished:
        code, _, message = wished.partition(": ")
        raise EC2ClientError(code, message or f"{pool} is out of order by the test's wish.")
    instance_type, _, zone = pool.partition("/")
    price = world.spot_price_of(pool)
    if market == "spot" and max_price is not None and float(price) > float(max_price):
        raise EC2ClientError(
            "SpotMaxPriceTooLow",
            f"Your Spot request price of {max_price} is lower than the minimum required Spot request fulfillment price of {price}.",
        )
    granted = min(want, _room(backend, pool, want), _quota_room(backend, instance_type, market, want))
    if granted <= 0:
        raise EC2ClientError("InsufficientInstanceCapacity", _no_capacity(instance_type, zone, market))
    return granted


def _no_capacity(instance_type: str, zone: str, market: str) -> str:
    if market == "spot":
        return "There is no Spot capacity available that matches your request."
    return (
        f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({zone}). "
        "Our system will be working on provisioning additional capacity."
    )


def _room(backend: Any, pool: str, want: int) -> int:
    capacity = world_of(backend).capacity_of(pool)
    if capacity is None:
        return want
    return capacity - sum(1 for one in present(backend) if f"{one.instance_type}/{one.availability_zone}" == pool)


def _quota_room(backend: Any, instance_type: str, market: str, want: int) -> int:
    quota = world_of(backend).vcpu_quota.get(market)
    if quota is None:
        return want
    used = sum(_vcpus(one.instance_type) for one in present(backend) if market_of(one) == market)
    room = (quota - used) // _vcpus(instance_type)
    if room <= 0 and market == "spot":
        raise EC2ClientError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    if room <= 0:
        raise EC2ClientError(
            "VcpuLimitExceeded",
            f"You have requested more vCPU capacity than your current vCPU limit of {quota} allows for the instance bucket that the "
            "specified instance type belongs to.",
        )
    return room


def present(backend: Any) -> list[Any]:
    return [one for group in list(backend.reservations.values()) for one in group.instances if one.state in _PRESENT]


def market_of(instance: Any) -> str:
    return "spot" if instance.lifecycle == "spot" else "on-demand"


def _vcpus(instance_type: str) -> int:
    return int(INSTANCE_TYPES[instance_type]["VCpuInfo"]["DefaultVCpus"])
