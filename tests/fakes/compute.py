"""Instances in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

from supervisor.cloud.ports import LaunchSpec, NoCapacity, RentedInstance
from supervisor.domain.instance import InstanceStatus, Market

from .trouble import Trouble

_S = InstanceStatus


class FakeCompute(Trouble):
    """`Compute` in memory.

    Instances run as soon as they are launched, unless `comes_up` is False; then `come_up()` makes them. They end as soon as they are
    asked to, unless `goes_down` is False; then `go_down()` ends them. With `can_stop`, on-demand instances that run can be stopped and
    started again; without, as on one's own machine, what is to be stopped ends.
    """

    def __init__(self, *, slots: int | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__()
        self.slots = slots
        self.comes_up = True
        self.goes_down = True
        self.can_stop = False
        self.spot_is_out = False  #: True: no spot instance is granted
        self.price_usd_per_h = Decimal(0)
        self._clock = clock
        self._instances: dict[str, RentedInstance] = {}
        self._hidden: set[str] = set()
        self._hides_new = False
        self._numbers = count(1)
        self.launches: list[LaunchSpec] = []

    def launch(self, spec: LaunchSpec, *, request_id: str) -> int:
        self._meet_trouble("launch")
        already = sum(1 for instance in self._instances.values() if instance.request_id == request_id)
        if already:
            return already
        if self.spot_is_out and spec.market is Market.SPOT:
            raise NoCapacity(f"can't launch {spec.count} instances for {spec.job}: no spot capacity")
        free = self.free_slots()
        granted = spec.count if free is None else min(free, spec.count)
        if not granted:
            raise NoCapacity(f"can't launch {spec.count} instances for {spec.job}: no slot is free")
        self.launches.append(spec)
        for _ in range(granted):
            self._add(spec, request_id)
        return granted

    def _add(self, spec: LaunchSpec, request_id: str) -> None:
        self._rent(request_id=request_id, job=spec.job, instance_type=(*spec.instance_types, "fake.large")[0], market=spec.market)

    def add_pool_instance(self) -> str:
        """Rent an instance for no job, as a shared pool's group does by itself. Returns: its id"""
        return self._rent(request_id="", job="", instance_type="fake.large", market=Market.ON_DEMAND)

    def _rent(self, *, request_id: str, job: str, instance_type: str, market: Market) -> str:
        number = next(self._numbers)
        instance = RentedInstance(
            id=f"i-{number:04d}",
            request_id=request_id,
            job=job,
            node=f"node_{number:04d}",
            status=_S.RUNNING if self.comes_up else _S.PENDING,
            instance_type=instance_type,
            market=market,
            price_usd_per_h=self.price_usd_per_h,
            launched_at=self._clock(),
        )
        self._instances[instance.id] = instance
        if self._hides_new:
            self._hidden.add(instance.id)
        return instance.id

    def instances(self) -> Sequence[RentedInstance]:
        self._meet_trouble("instances")
        return [instance for id, instance in self._instances.items() if id not in self._hidden]

    def free_slots(self) -> int | None:
        if self.slots is None:
            return None
        return max(0, self.slots - sum(1 for i in self._instances.values() if i.status is not _S.TERMINATED))

    def stop(self, ids: Iterable[str]) -> None:
        self._meet_trouble("stop")
        chosen = list(ids)
        stoppable = {id for id in chosen if id in self._instances and self._is_stoppable(self._instances[id])}
        for id in stoppable:
            self._instances[id] = replace(self._instances[id], status=_S.STOPPED if self.goes_down else _S.STOPPING)
        self.begin_end([id for id in chosen if id not in stoppable], "stopped by the farm")

    def _is_stoppable(self, instance: RentedInstance) -> bool:
        return self.can_stop and instance.market is Market.ON_DEMAND and instance.status in {_S.RUNNING, _S.STOPPING, _S.STOPPED}

    def start(self, ids: Iterable[str]) -> None:
        self._meet_trouble("start")
        for id in ids:
            instance = self._instances.get(id)
            if instance and instance.status is _S.STOPPED:
                self._instances[id] = replace(instance, status=_S.RUNNING if self.comes_up else _S.PENDING)

    def terminate(self, ids: Iterable[str]) -> None:
        self._meet_trouble("terminate")
        self.begin_end(ids, "terminated by the farm")

    def begin_end(self, ids: Iterable[str], note: str) -> None:
        """Let instances go down, whatever trouble is set."""
        for id in ids:
            instance = self._instances.get(id)
            if instance and instance.status is not _S.TERMINATED:
                status = _S.TERMINATED if self.goes_down else _S.TERMINATING
                self._instances[id] = replace(instance, status=status, note=note)

    def come_up(self) -> None:
        """Let the pending instances run."""
        self._move(_S.PENDING, _S.RUNNING)

    def go_down(self) -> None:
        """Let the instances that were asked to end be gone, and those that were asked to stop be stopped."""
        self._move(_S.TERMINATING, _S.TERMINATED)
        self._move(_S.STOPPING, _S.STOPPED)

    def _move(self, seen: InstanceStatus, to: InstanceStatus) -> None:
        for id, instance in self._instances.items():
            if instance.status is seen:
                self._instances[id] = replace(instance, status=to)

    def end_instance(self, id: str, note: str = "the machine went away") -> None:
        """End an instance that nobody asked to end."""
        self._instances[id] = replace(self._instances[id], status=_S.TERMINATED, note=note)

    def take_back(self, id: str) -> None:
        """End an instance as a cloud does that needs it for others."""
        self._instances[id] = replace(self._instances[id], status=_S.TERMINATED, note="no longer to be had as spot", was_interrupted=True)

    def forget_instance(self, id: str) -> None:
        """Let an instance age out of what the cloud shows."""
        del self._instances[id]

    def hide_new_instances(self) -> None:
        """Let instances launched from now on not be listed yet."""
        self._hides_new = True

    def show_all_instances(self) -> None:
        self._hides_new = False
        self._hidden.clear()

    def alive(self) -> list[RentedInstance]:
        """Name what is rented, hidden or not."""
        return [instance for instance in self._instances.values() if instance.status is not _S.TERMINATED]
