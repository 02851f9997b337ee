"""Break the way between the farm and AWS, at the one point that every call of botocore goes through.

A plan is asked at each attempt of each call what is to go wrong. The point, `Endpoint._do_get_response`, is private: botocore is pinned.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from types import SimpleNamespace
from typing import Any, TypeVar  # Any: botocore's requests and answers have no types

from botocore import endpoint as botocore_endpoint
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from urllib3.exceptions import ProtocolError

from .patching import mend

_T = TypeVar("_T")


class Crash(BaseException):
    """The process has died. No `except Exception` stops it, and after it nothing reaches AWS: a dead process cleans nothing up."""


class Fault(StrEnum):
    """What goes wrong with a call."""

    THROTTLED = "throttled"  #: refused as too many, once; botocore tries again
    THROTTLED_FOR_GOOD = "throttled_for_good"  #: refused as too many at every attempt
    REFUSED = "refused"  #: refused for want of rights; nothing was done
    BROKEN = "broken"  #: a fault on the side of AWS at every attempt; nothing was done
    UNREACHABLE = "unreachable"  #: never sent, at every attempt
    DIED_BEFORE = "died_before"  #: the process died before the call was sent
    DIED_AFTER = "died_after"  #: the process died when the call had taken effect
    REPLY_LOST = "reply_lost"  #: it took effect, the reply was lost, botocore asks again and is answered
    RESET = "reset"  #: it took effect, the connection was reset, botocore asks again and is answered
    REPLY_LOST_FOR_GOOD = "reply_lost_for_good"  #: it took effect, the reply was lost, and nothing gets through any more in this call


#: Each on its own may befall any call; a crash matrix goes through these.
SINGLE_FAULTS = (
    Fault.THROTTLED,
    Fault.THROTTLED_FOR_GOOD,
    Fault.REFUSED,
    Fault.UNREACHABLE,
    Fault.DIED_BEFORE,
    Fault.DIED_AFTER,
    Fault.REPLY_LOST,
    Fault.RESET,
    Fault.REPLY_LOST_FOR_GOOD,
)
_FOR_GOOD = frozenset({Fault.THROTTLED_FOR_GOOD, Fault.REFUSED, Fault.BROKEN, Fault.UNREACHABLE})
_NOT_SENT = _FOR_GOOD | {Fault.THROTTLED}
_ANSWERS = {
    Fault.REFUSED: ("UnauthorizedOperation", 403),
    Fault.BROKEN: ("InternalError", 500),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as it is about to be sent."""

    number: int  #: from 1, in the order in which calls began; attempts share their call's
    service: str  #: endpoint prefix: ec2, s3, autoscaling
    operation: str
    attempt: int  #: from 1


Plan = Callable[[Call], Fault | None]


def nothing(call: Call) -> None:
    """Let everything go well."""


def at(number: int, fault: Fault) -> Plan:
    """Let the `number`th call meet a fault."""
    return lambda call: fault if call.number == number else None


def storm(seed: int, *, rate: float, faults: Collection[Fault], services: Collection[str] = ()) -> Plan:
    """Let a share of all calls meet faults, the same for the same seed and order of calls. Without `services`: of all services."""
    dice, chosen, lock = random.Random(seed), list(faults), Lock()
    met: dict[int, Fault | None] = {}

    def plan(call: Call) -> Fault | None:
        if services and call.service not in services:
            return None
        with lock:  # decided once for all attempts of a call
            if call.number not in met:
                met[call.number] = dice.choice(chosen) if dice.random() < rate else None
            return met[call.number]

    return plan


@dataclass(slots=True)
class FirstOf:
    """A plan by which the farm's first call of an operation meets a fault; what the tests themselves ask goes well."""

    operation: str
    fault: Fault
    is_on: bool = False  #: the farm is at work
    met: int | None = None  #: number of the call

    def __call__(self, call: Call) -> Fault | None:
        if self.met is None and self.is_on and call.operation == self.operation:
            self.met = call.number
        return self.fault if call.number == self.met else None


@dataclass(slots=True)
class Way:
    """The way to AWS, with what was sent on it."""

    plan: Plan = nothing
    is_hard: bool = False  #: True: a death is the end of this very process (exit status 137), for children
    calls: list[Call] = field(default_factory=list)  #: first attempts
    is_dead: bool = False
    told: Callable[[Call], object] = nothing  #: called with each call that has taken effect
    _lock: Lock = field(default_factory=Lock)

    def take(self, plan: Plan) -> None:
        """Begin anew, with a plan: calls are counted from 1, and the dead live."""
        self.plan, self.is_dead, self.calls = plan, False, []

    def send(self, original: Callable[..., Any], endpoint: Any, request: Any, operation: Any, context: Any) -> Any:
        if self.is_dead:
            raise Crash(operation.name)
        call = self._begin(endpoint, operation, context)
        fault = self.plan(call)
        if fault is None or not (call.attempt == 1 or fault in _FOR_GOOD or fault is Fault.REPLY_LOST_FOR_GOOD):
            answer = original(endpoint, request, operation, context)
            self.told(call)
            return answer
        if fault is Fault.DIED_BEFORE:
            self._die(call)
        refusal = _refusal(fault, endpoint, request)
        if refusal or (fault is Fault.REPLY_LOST_FOR_GOOD and call.attempt > 1):
            return refusal or (None, EndpointConnectionError(endpoint_url=request.url))
        answer = original(endpoint, request, operation, context)
        self.told(call)
        if fault is Fault.DIED_AFTER:
            self._die(call)
        if fault is Fault.RESET:
            return None, ConnectionClosedError(endpoint_url=request.url)
        lost = (None, ReadTimeoutError(endpoint_url=request.url))
        return lost if fault in {Fault.REPLY_LOST, Fault.REPLY_LOST_FOR_GOOD} else answer

    def go(self, service: str, operation: str, send: Callable[[], _T]) -> _T:
        """Let a call take the way that is none of botocore's, and has one attempt. Errors: Crash; HTTPError - it came to nothing, or not"""
        if self.is_dead:
            raise Crash(operation)
        with self._lock:
            call = Call(number=len(self.calls) + 1, service=service, operation=operation, attempt=1)
            self.calls.append(call)
        fault = self.plan(call)
        if fault is Fault.DIED_BEFORE:
            self._die(call)
        if fault in _NOT_SENT:
            raise ProtocolError(f"{operation}: by the test's wish")
        answer = send()
        self.told(call)
        if fault is Fault.DIED_AFTER:
            self._die(call)
        if fault is not None:
            raise ProtocolError(f"{operation}: the reply was lost, by the test's wish")
        return answer

    def _begin(self, endpoint: Any, operation: Any, context: Any) -> Call:
        with self._lock:
            # one context lives as long as one call, through all its attempts
            seen = context.setdefault("kiln_call", len(self.calls) + 1)
            attempt = context["kiln_attempt"] = context.get("kiln_attempt", 0) + 1
            call = Call(number=seen, service=endpoint._endpoint_prefix, operation=operation.name, attempt=attempt)
            if attempt == 1:
                self.calls.append(call)
            return call

    def _die(self, call: Call) -> None:
        if self.is_hard:
            os._exit(137)
        self.is_dead = True
        raise Crash(f"{call.operation}, call {call.number}")


def _refusal(fault: Fault, endpoint: Any, request: Any) -> Any:
    """What botocore makes of an answer that refuses; None where the fault is of another kind."""
    if fault is Fault.UNREACHABLE:
        return None, EndpointConnectionError(endpoint_url=request.url)
    if fault in {Fault.THROTTLED, Fault.THROTTLED_FOR_GOOD}:
        code, status = ("SlowDown" if endpoint._endpoint_prefix == "s3" else "RequestLimitExceeded"), 503
    elif fault in _ANSWERS:
        code, status = _ANSWERS[fault]
        code = "AccessDenied" if status == 403 and endpoint._endpoint_prefix != "ec2" else code
    else:
        return None
    error = {"Code": code, "Message": "by the test's wish"}
    parsed = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}}}
    return (AWSResponse(request.url, status, {}, _Empty()), parsed), None


class _Empty:
    """The body of an answer that never came over a wire."""

    def stream(self, *how: Any, **more: Any) -> Iterator[bytes]:
        return iter(())


@contextmanager
def breakable(way: Way) -> Iterator[Way]:
    """Let every call of botocore in this process go the way, and its retries wait for nothing."""
    there, time = botocore_endpoint.Endpoint._do_get_response, botocore_endpoint.time
    mend(
        botocore_endpoint.Endpoint,
        "_do_get_response",
        lambda original: lambda self, request, operation, context: way.send(original, self, request, operation, context),
    )
    botocore_endpoint.time = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    try:
        yield way
    finally:
        mend(botocore_endpoint.Endpoint, "_do_get_response", lambda ours: there)
        botocore_endpoint.time = time
