"""The farm's instances as EC2 describes them, as the ports' instances. One description serves everybody for a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from time import monotonic
from typing import Any

from nodeimage.launch import Role, node_of_instance
from supervisor.cloud.ports import Prices, RentedInstance
from supervisor.domain.instance import InstanceStatus, Market

from .errors import aws_errors
from .identity import FARM_TAG, JOB_TAG, REQUEST_TAG, ROLE_TAG, tags_of
from .session import AwsSession

_S = InstanceStatus
_STATUSES = {
    "pending": _S.PENDING,
    "running": _S.RUNNING,
    "stopping": _S.STOPPING,
    "stopped": _S.STOPPED,
    "shutting-down": _S.TERMINATING,
    "terminated": _S.TERMINATED,
}
#: EC2's tag on instances that a fleet launched.
_FLEET_TAG = "aws:ec2:fleet-id"
#: Most instances that EC2 describes in one page.
_PAGE = 1000
#: Codes that say that the cloud took the instance back. Source: EC2 API reference, StateReason, 2026-01
_INTERRUPTIONS = frozenset({"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"})
_NOTES = {
    "Server.SpotInstanceTermination": "AWS took the spot instance back",
    "Server.SpotInstanceShutdown": "AWS took the spot instance back",
    "Server.InsufficientInstanceCapacity": "there was no capacity left to launch it",
    "Server.InternalError": "a fault on the side of AWS ended it",
    "Server.ScheduledStop": "AWS stopped it: its hardware is retired",
    "Client.InstanceInitiatedShutdown": "it shut itself down",
    "Client.UserInitiatedShutdown": "it was ended through EC2",
    "Client.InstanceTerminated": "it was ended while an image was made of it",
    "Client.VolumeLimitExceeded": "it could not start: the account's quota of EBS volumes is used up",
    "Client.InvalidSnapshot.NotFound": "it could not start: the snapshot of its volume is gone",
    "Client.InternalError": "it could not start; often the key of an encrypted volume may not be used",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An instance, with what only the adapter needs to know of it."""

    instance: RentedInstance
    fleet: str  #: that launched it; empty: none


class Listing:
    """Every instance of the farm that renders: those of jobs, and those of the shared pool."""

    def __init__(
        self, session: AwsSession, farm: str, prices: Prices, *, believed_s: float, clock: Callable[[], float] = monotonic
    ) -> None:
        """Units:   believed_s: for so long a description is believed"""
        self._session = session
        self._farm = farm
        self._prices = prices
        self._believed_s = believed_s
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[Listed, ...] = ()
        self._seen_at = float("-inf")
        self._changes = 0
        self._price_of: dict[str, Decimal] = {}  #: as it was when the instance was seen first

    def all(self) -> tuple[Listed, ...]:
        """Every instance that EC2 shows, oldest first. Errors: Throttled, Unreachable, Refused"""
        with self._lock:
            if self._clock() - self._seen_at >= self._believed_s:
                self._seen = self._list()
                self._seen_at = self._clock()
            return self._seen

    def forget(self) -> None:
        """Look again when asked next: something was changed."""
        with self._lock:
            self._seen_at = float("-inf")

    def _list(self) -> tuple[Listed, ...]:
        filters = [
            {"Name": f"tag:{FARM_TAG}", "Values": [self._farm]},
            {"Name": f"tag:{ROLE_TAG}", "Values": [Role.RENDER.value, Role.POOL.value]},
        ]
        with aws_errors("look at the farm's instances"):
            pages = self._session.client("ec2").get_paginator("describe_instances")
            shown = [
                one
                for page in pages.paginate(Filters=filters, PaginationConfig={"PageSize": _PAGE})
                for group in page["Reservations"]
                for one in group["Instances"]
            ]
        ids = {one["InstanceId"] for one in shown}
        self._price_of = {id: price for id, price in self._price_of.items() if id in ids}
        listed = [self._listed(one) for one in shown]
        return tuple(sorted(listed, key=lambda each: (each.instance.launched_at, each.instance.id)))

    def _listed(self, shown: Mapping[str, Any]) -> Listed:
        tags = tags_of(shown)
        status = _STATUSES[shown["State"]["Name"]]
        market = Market.SPOT if shown.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND
        zone = shown.get("Placement", {}).get("AvailabilityZone", "")
        reason = shown.get("StateReason", {})
        return Listed(
            instance=RentedInstance(
                id=shown["InstanceId"],
                request_id=tags.get(REQUEST_TAG, ""),
                job=tags.get(JOB_TAG, ""),
                node=node_of_instance(shown["InstanceId"]),
                status=status,
                instance_type=shown["InstanceType"],
                market=market,
                price_usd_per_h=self._price(shown["InstanceId"], shown["InstanceType"], market, zone),
                launched_at=shown["LaunchTime"],
                note="" if status in {_S.PENDING, _S.RUNNING} else _note(reason),
                was_interrupted=reason.get("Code", "") in _INTERRUPTIONS,
                zone=zone,
            ),
            fleet=tags.get(_FLEET_TAG, ""),
        )

    def _price(self, id: str, instance_type: str, market: Market, zone: str) -> Decimal:
        """What an hour of the instance costs; 0 as long as that is not known."""
        if id not in self._price_of:
            price = self._prices.instance_usd_per_h(instance_type, market=market, zone=zone)
            if price is None:
                return Decimal(0)
            self._price_of[id] = price
        return self._price_of[id]


def _note(reason: Mapping[str, str]) -> str:
    code = reason.get("Code", "")
    return _NOTES.get(code) or reason.get("Message", "").removeprefix(f"{code}: ")


def instances_of(listed: Sequence[Listed]) -> list[RentedInstance]:
    return [each.instance for each in listed]
