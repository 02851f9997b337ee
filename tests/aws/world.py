"""What the cloud that moto plays is like at present: room, prices, how long things take, and what was asked of it.

It hangs on moto's EC2 backend of a region, so a reset makes all anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

REGION = "us-east-1"
_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class World:
    """Everything that a test may set. Pools are `<type>/<zone>`; a bare type, or `*`, says it of all its pools."""

    capacity: dict[str, int] = field(default_factory=dict)  #: pool -> instances that it has in all; not named: without limit
    pool_errors: dict[str, str] = field(default_factory=dict)  #: pool -> code, or `code: message`, of what a launch there meets
    spot_prices: dict[str, str] = field(default_factory=dict)  #: pool -> dollars an hour
    on_demand_prices: dict[str, str] = field(default_factory=dict)  #: type -> dollars an hour, for the Pricing API
    vcpu_quota: dict[str, int] = field(default_factory=dict)  #: on-demand | spot -> vCPUs; not named: without limit
    quotas: dict[str, float] = field(default_factory=dict)  #: code such as L-1216C47A -> value, for the Service Quotas API
    volume_error: str = ""  #: code of the error that the making of a volume meets
    unapplied_quotas: list[str] = field(default_factory=list)  #: codes of those that have AWS's default and no value of the account's own
    is_slow: bool = False  #: what comes, stops or ends is on its way until `settle`
    hides_new: bool = False  #: what is launched or made from now on is not described until `show_all`
    bare_replays: bool = False  #: a repeated CreateFleet answers with the fleet's id alone
    forgets_tokens: bool = False  #: client tokens are not remembered (AWS keeps them for a time only)
    may_simulate: bool = False  #: the farm's keys may ask IAM's policy simulator
    denied: list[str] = field(default_factory=list)  #: IAM actions that the simulator says the keys lack
    hidden: set[str] = field(default_factory=set)  #: instances, volumes and snapshots that are not described yet
    calls: list[dict[str, Any]] = field(default_factory=list)  #: what was asked of EC2: {"action", "params"}
    answers: dict[tuple[str, str], tuple[str, Any]] = field(default_factory=dict)  #: (action, client token) -> (parameters, answer)
    fleets: dict[str, dict[str, Any]] = field(default_factory=dict)  #: instant fleets, as DescribeFleets tells of them

    def capacity_of(self, pool: str) -> int | None:
        return _of(self.capacity, pool)

    def error_of(self, pool: str) -> str | None:
        return _of(self.pool_errors, pool)

    def spot_price_of(self, pool: str) -> str:
        return _of(self.spot_prices, pool) or "0.1"


#: What `World` lets a test set from outside; the rest is the cloud's own memory.
SETTINGS = frozenset(each.name for each in fields(World) if each.name not in {"hidden", "calls", "answers", "fleets"})


def _of(table: dict[str, _T], pool: str) -> _T | None:
    for name in (pool, pool.partition("/")[0], "*"):
        if name in table:
            return table[name]
    return None


def backend_of(region: str = REGION) -> Any:  # Any: moto's backend is put together of forty classes
    return ec2_backends[DEFAULT_ACCOUNT_ID][region]


def world_of(backend: Any) -> World:
    """The world of a region's EC2 backend."""
    world = backend.__dict__.setdefault("kiln_world", World())
    assert isinstance(world, World)
    return world
