"""Begin an attempt to fill a job's volume: written down, then asked for, on the farm's own instance or by a staging instance."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from botocore.exceptions import ClientError

from supervisor.cloud.ports import NoCapacity, Refused, SignedOut, Unreachable

from .errors import SEEN_WITHIN_S, error_code, error_message, is_not_seen_yet
from .own_volumes import OwnVolumes
from .staging_hands import StagingHands, TokenUsed
from .staging_sight import Sight
from .staging_terms import Plan, Step
from .workspace_records import Record, Records

log = structlog.get_logger(__name__)

_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(seconds=120)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pause:
    """There was no room for a staging instance: when it is asked for again."""

    until: datetime
    times: int
    why: str


class Attempts:
    """Asks for what fills volumes, and remembers where there was no room."""

    def __init__(
        self, *, records: Records, sight: Sight, hands: StagingHands, own: OwnVolumes, believed: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._records = records
        self._sight = sight
        self._hands = hands
        self._own = own
        self._believed = believed
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}

    def begin(self, record: Record, plan: Plan, request_id: str) -> None:
        """Write down what is asked for, and ask for it. Errors: Throttled, Unreachable, SignedOut"""
        now = self._clock()
        pause = self._pauses.get(record.job)
        if pause and now < pause.until:
            return
        if plan.lost:
            log.warning("filling of a volume lost", job=record.job, attempt=record.attempt, because=plan.lost)
        # the farm tries once: what keeps it from filling a volume is seldom gone a moment later
        host = self._own.host(self._sight.unfrozen_volumes(believed=self._believed)) if record.attempt == 0 else None
        token = f"{request_id[:40]}-{secrets.token_hex(6)}"
        record = replace(
            record,
            token=token,
            attempt=record.attempt + 1,
            instance="",
            host=host.id if host else "",
            volume="",
            asked_at=now,
            freeze_asked_at=None,
        )
        self._records.save(record)
        self.ask(record)

    def ask(self, record: Record) -> None:
        """Ask for what is written down. Repeat: safe by the record's token"""
        try:
            if record.host:
                self._ask_for_volume(record)
            else:
                self._ask_for_instance(record)
        except NoCapacity as error:
            self._wait_for_room(record, error)
        except TokenUsed:
            # What the token stands for is given back as a stray; the next tick takes a new token.
            self._records.save(replace(record, token="", host="", attempt=record.attempt - 1))
        else:
            self._pauses.pop(record.job, None)

    def doing(self, record: Record, plan: Plan) -> str:
        """What people read of the plan."""
        pause = self._pauses.get(record.job)
        return f"waiting for an instance that copies its files: {pause.why}" if pause and plan.step is Step.LAUNCH else plan.doing

    def forget(self, job: str) -> None:
        """Take in that a job's workspace was deleted."""
        self._pauses.pop(job, None)

    def _ask_for_volume(self, record: Record) -> None:
        """Errors: TokenUsed, Throttled, Unreachable, SignedOut. Whatever else keeps it from being made, an instance fills another."""
        try:
            volume = self._own.make(record)
        except SignedOut:
            raise
        except (Refused, NoCapacity) as error:
            log.warning("volume not made", job=record.job, because=str(error))
            self._records.save(replace(record, token="", host=""))
        else:
            self._records.save(replace(record, volume=volume))
            self._sight.look_again()

    def _ask_for_instance(self, record: Record) -> None:
        try:
            instance = self._hands.launch(record)
        except SignedOut:
            raise
        except Refused as error:
            if self._may_be_seen_soon(record, error):
                raise Unreachable(f"{error}; where it was made a moment ago, AWS has not heard of it yet") from error
            self._records.save(replace(record, problem=f"no instance that copies its files can be launched: {error}"))
        else:
            self._records.save(replace(record, instance=instance.id))
            self._sight.note_instance(instance)

    def _may_be_seen_soon(self, record: Record, error: Refused) -> bool:
        """Say whether what the launch names may be known to AWS a moment later."""
        cause = error.__cause__
        is_unseen = isinstance(cause, ClientError) and is_not_seen_yet(error_code(cause), error_message(cause))
        return is_unseen and record.asked_at is not None and self._clock() - record.asked_at < timedelta(seconds=SEEN_WITHIN_S)

    def _wait_for_room(self, record: Record, error: NoCapacity) -> None:
        times = self._pauses[record.job].times + 1 if record.job in self._pauses else 1
        pause = min(_FIRST_PAUSE * 2 ** min(times - 1, 10), _LONGEST_PAUSE)
        self._pauses[record.job] = _Pause(until=self._clock() + pause, times=times, why=str(error))
        self._records.save(replace(record, token="", attempt=record.attempt - 1))
