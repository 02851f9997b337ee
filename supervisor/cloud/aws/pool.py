"""The shared pool on AWS: one Auto Scaling group of several instance types, which the farm makes larger and smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import structlog
from botocore.exceptions import ClientError

from nodeimage.launch import Role
from supervisor.cloud.ports import Removal, RemovalState, Unreachable
from supervisor.config import NodeTimes, PoolConfig
from supervisor.domain.blender import series_of

from .errors import DENIED_CODES, aws_errors, error_code
from .identity import FARM_TAG, ROLE_TAG, Identity
from .launch_site import LaunchSite
from .pool_plan import PoolPlan, differing, group_request, plan_of
from .session import AwsSession

log = structlog.get_logger(__name__)

#: What the group was made to be is believed for so long; then it is looked at again: somebody may have changed it.
_BELIEVED_S = 60.0
#: A longer life of the group than that is written down at once; else with the next look.
_PUT_OFF_BY = timedelta(minutes=10)
#: AWS would end instances, busy ones too, to spread the group over its zones.
_SUSPENDED = "AZRebalance"
_SILENCE = "the-farm-is-silent"
#: Instances that AWS detaches in one call.
_MOST_DETACHED = 20
_ENDING = ("Terminat", "Detach")
#: The node ends itself after so long without work: only if the farm is silent, which gives idle ones back much sooner.
_LEAST_IDLE_S, _KEPT_IDLE_S = 900.0, 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What the group was made to be last."""

    wanted: int
    until: datetime
    at: float


class Ec2Pool:
    """`Pool` as an Auto Scaling group named like the farm. Instances are launched from a version of the farm's launch template."""

    def __init__(
        self,
        session: AwsSession,
        identity: Identity,
        *,
        pool: PoolConfig,
        node: NodeTimes,
        site: LaunchSite,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._session = session
        self._identity = identity
        self._pool = pool
        self._node = node
        self._site = site
        self._clock = clock
        self._done: _Done | None = None
        self._let_go: set[str] = set()

    @property
    def _scaling(self) -> Any:  # Any: boto3's clients are made at run time
        return self._session.client("autoscaling")

    def resize(self, wanted: int, *, until: datetime) -> None:
        if self._is_done(wanted, until):
            return
        with aws_errors("resize the shared pool"):
            group = self._group()
            if group is None and not wanted:
                self._done = _Done(wanted=0, until=until, at=self._clock())
                return
            self._keep(group, self._plan(), wanted)
            self._scaling.put_scheduled_update_group_action(
                AutoScalingGroupName=self._identity.name,
                ScheduledActionName=_SILENCE,
                StartTime=until,
                MinSize=0,
                MaxSize=self._pool.max_instances,
                DesiredCapacity=0,
            )
        self._done = _Done(wanted=wanted, until=until, at=self._clock())

    def release(self, ids: Iterable[str]) -> None:
        with self._changing("give instances of the shared pool back"):
            for id in self._members_of(ids):
                self._scaling.terminate_instance_in_auto_scaling_group(InstanceId=id, ShouldDecrementDesiredCapacity=True)

    def let_go(self, ids: Iterable[str]) -> None:
        new = [id for id in ids if id not in self._let_go]
        if not new:
            return
        with self._changing("replace instances of the shared pool that AWS takes back"):
            members = self._members_of(new)
            for first in range(0, len(members), _MOST_DETACHED):
                self._scaling.detach_instances(
                    AutoScalingGroupName=self._identity.name,
                    InstanceIds=members[first : first + _MOST_DETACHED],
                    ShouldDecrementDesiredCapacity=False,
                )
        self._let_go |= set(new)

    def problem(self) -> str:
        with aws_errors("ask why the shared pool has too few instances"):
            answer = self._scaling.describe_scaling_activities(AutoScalingGroupName=self._identity.name, MaxRecords=20)
        for activity in answer["Activities"]:  # the newest first
            if activity["StatusCode"] == "Failed":
                return str(activity.get("StatusMessage") or activity.get("Description", ""))
            if activity["StatusCode"] == "Successful" and activity.get("Description", "").startswith("Launching"):
                return ""
        return ""

    def remove(self) -> None:
        self._done = None
        remove_group(self._session, self._identity.name)
        self._site.versions.delete_of_pool()

    def _is_done(self, wanted: int, until: datetime) -> bool:
        done = self._done
        return done is not None and done.wanted == wanted and until - done.until < _PUT_OFF_BY and self._clock() - done.at < _BELIEVED_S

    def _plan(self) -> PoolPlan:
        """What the group is to launch: looked up, and kept in the account where that is lacking. Errors: Refused"""
        blenders = self._site.images.blenders()
        places = self._site.places((), series_of(blenders[-1].version) if blenders else ())
        image = places[0].image
        idle_s = _KEPT_IDLE_S if self._pool.min_instances else max(3 * self._node.idle_s, _LEAST_IDLE_S)
        version = self._site.versions.ensure_for_pool(self._site.pool_data(image, idle_s=idle_s))
        return plan_of(self._identity.name, version, [place for place in places if place.image.id == image.id], pool=self._pool)

    def _keep(self, group: Mapping[str, Any] | None, plan: PoolPlan, wanted: int) -> None:
        """Make the group what it is to be."""
        name = self._identity.name
        if group is None:
            tags = {FARM_TAG: self._identity.farm, ROLE_TAG: Role.POOL.value}
            try:
                self._scaling.create_auto_scaling_group(**group_request(name, plan, wanted=wanted, tags=tags))
            except ClientError as error:
                if error_code(error) != "AlreadyExists":
                    raise
                # made by a request whose answer was lost, or the one before is still being deleted: the next tick sees which
                raise Unreachable(f"can't make the shared pool: the group {name} is there already, and not to be seen yet") from error
            log.info("shared pool made", group=name, wanted=wanted, types=plan.types)
            self._scaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=[_SUSPENDED])
            return
        if _SUSPENDED not in {each["ProcessName"] for each in group.get("SuspendedProcesses", ())}:
            self._scaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=[_SUSPENDED])
        # smaller than what is in it, it would end instances of its own choice
        changes = differing(group, plan, wanted=max(wanted, len(_members(group))))
        if changes:
            self._scaling.update_auto_scaling_group(AutoScalingGroupName=name, **changes)
            log.info("shared pool changed", group=name, wanted=wanted, changed=sorted(changes))
        if "MixedInstancesPolicy" in changes:
            self._site.versions.delete_of_pool(kept=plan.version)

    def _group(self) -> Mapping[str, Any] | None:
        """The group, as described. Returns: None if there is none, or it is being deleted"""
        return _described(self._scaling, self._identity.name)

    def _members_of(self, ids: Iterable[str]) -> list[str]:
        group = self._group()
        members = set(_members(group)) if group else set()
        return [id for id in dict.fromkeys(ids) if id in members]

    def _changing(self, what: str) -> AbstractContextManager[None]:
        self._done = None
        return aws_errors(what)


def remove_group(session: AwsSession, name: str, *, dry_run: bool = False) -> Removal | None:
    """Delete the group with all its instances. Returns: None if there is none, or the farm may not see groups. Repeat: safe"""
    scaling = session.client("autoscaling")
    with aws_errors("remove the shared pool"):
        try:
            group = _described(scaling, name)
        except ClientError as error:
            if error_code(error) not in DENIED_CODES:
                raise
            return None
        if group is None:
            return None
        if not dry_run:
            scaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
            log.info("shared pool removed", group=name)
    return Removal(name=f"Auto Scaling group {name}", state=RemovalState.REMOVED)


def _described(scaling: Any, name: str) -> Mapping[str, Any] | None:
    found = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    return next((group for group in found if not group.get("Status")), None)


def _members(group: Mapping[str, Any]) -> Sequence[str]:
    """The instances in a group that are not about to leave it."""
    return [one["InstanceId"] for one in group["Instances"] if not one["LifecycleState"].startswith(_ENDING)]
