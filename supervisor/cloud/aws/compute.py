"""Instances on EC2: launched as instant fleets, seen through one description, stopped, started and ended in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from botocore.exceptions import ClientError

from supervisor.cloud.ports import LaunchSpec, NoCapacity, Prices, RentedInstance
from supervisor.config import AwsConfig, LaunchConfig
from supervisor.domain.instance import InstanceStatus, Market

from .batches import ABSENT_CODES, in_batches
from .errors import aws_errors, error_code
from .fleet import launching
from .identity import Identity
from .launch_site import LaunchSite
from .launcher import Launcher
from .listing import Listing, instances_of
from .session import AwsSession

_S = InstanceStatus
#: What takes up a slot: a stopped instance costs its volume alone.
_SLOT_HOLDERS = frozenset({_S.REQUESTED, _S.PENDING, _S.RUNNING})
#: An instance that was launched is described within this time, or is gone already.
_SHOWN_WITHIN_S = 300.0
#: The instance is on its way to another state, or there already.
_WRONG_STATE = frozenset({"IncorrectInstanceState", "IncorrectState"})
_NOT_STOPPABLE = frozenset({"UnsupportedOperation", "Unsupported"})
_NO_ROOM_CODES = frozenset({"InsufficientInstanceCapacity", "InsufficientHostCapacity", "VcpuLimitExceeded", "InstanceLimitExceeded"})


class Ec2Compute:
    """`Compute` on EC2."""

    def __init__(
        self,
        session: AwsSession,
        identity: Identity,
        *,
        aws: AwsConfig,
        launch: LaunchConfig,
        site: LaunchSite,
        prices: Prices,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._session = session
        self._most = launch.max_instances
        self._clock = clock
        self._listing = Listing(session, identity.farm, prices, believed_s=aws.describe_s, clock=clock)
        self._launcher = Launcher(session, identity, site=site, listing=self._listing, clock=clock)
        self._lock = threading.Lock()
        self._fresh: dict[str, float] = {}  #: launched and not described yet -> since when

    @property
    def _ec2(self) -> Any:  # Any: boto3's clients are made at run time
        return self._session.client("ec2")

    def instances(self) -> Sequence[RentedInstance]:
        return instances_of(self._listing.all())

    def free_slots(self) -> int | None:
        listed = self.instances()
        held = sum(1 for one in listed if one.status in _SLOT_HOLDERS)
        return max(0, self._most - held - len(self._unseen({one.id for one in listed})))

    def launch(self, spec: LaunchSpec, *, request_id: str) -> int:
        already = self._launcher.brought(request_id)
        if already:
            return len(already)
        free = self.free_slots() or 0
        if not free:
            raise NoCapacity(f"can't {launching(spec)}: {self._most} instances are rented, as many as [launch] max_instances allows")
        ids = self._launcher.launch(spec, min(spec.count, free), request_id)
        with self._lock:
            self._fresh |= dict.fromkeys(ids, self._clock())
        return len(ids)

    def stop(self, ids: Iterable[str]) -> None:
        wanted = set(ids)
        shown = [one for one in self.instances() if one.id in wanted]
        # nothing in what does not run yet is worth keeping, and EC2 refuses to stop it
        can_stop = [one.id for one in shown if one.status is _S.RUNNING and one.market is Market.ON_DEMAND]
        to_end = [one.id for one in shown if one.id not in can_stop and one.status in _SLOT_HOLDERS]
        with self._changing("stop instances"):
            left_out = in_batches(self._ec2.stop_instances, can_stop, spared=ABSENT_CODES | _WRONG_STATE | _NOT_STOPPABLE)
        self.terminate([*to_end, *(id for id, code in left_out.items() if code in _NOT_STOPPABLE)])

    def start(self, ids: Iterable[str]) -> None:
        free = self.free_slots() or 0
        wanted = list(ids)
        if wanted and not free:
            raise NoCapacity(f"can't start stopped instances: {self._most} instances run, as many as [launch] max_instances allows")
        with self._changing("start stopped instances"):
            try:
                in_batches(self._ec2.start_instances, wanted[:free], spared=ABSENT_CODES | _WRONG_STATE)
            except ClientError as error:
                if error_code(error) not in _NO_ROOM_CODES:
                    raise
                self._start_each(wanted[:free])

    def terminate(self, ids: Iterable[str]) -> None:
        chosen = list(ids)
        if chosen:
            with self._changing("end instances"):
                in_batches(self._ec2.terminate_instances, chosen)

    @contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        """What is done here changes what there is to see."""
        try:
            with aws_errors(what):
                yield
        finally:
            self._listing.forget()

    def _start_each(self, ids: Sequence[str]) -> None:
        """Start as many as there is room for. Errors: ClientError - for none"""
        refused: ClientError | None = None
        started = 0
        for id in ids:
            try:
                started += not in_batches(self._ec2.start_instances, [id], spared=ABSENT_CODES | _WRONG_STATE)
            except ClientError as error:
                if error_code(error) not in _NO_ROOM_CODES:
                    raise
                refused = error
        if refused and not started:
            raise refused

    def _unseen(self, shown: Container[str]) -> list[str]:
        """Name what was launched a moment ago and is not described yet."""
        with self._lock:
            now = self._clock()
            self._fresh = {id: at for id, at in self._fresh.items() if id not in shown and now - at < _SHOWN_WITHIN_S}
            return list(self._fresh)
