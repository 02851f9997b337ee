"""Launches jobs' instances as fleets, each request once: whatever breaks between the asking and the answer, asking again brings no more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

import structlog
from botocore.exceptions import ClientError

from nodeimage.launch import Role
from supervisor.cloud.ports import CloudError, LaunchSpec, NoCapacity, Throttled, Unreachable

from .errors import SEEN_WITHIN_S, aws_errors, error_code, error_message, is_absent, is_not_seen_yet
from .fleet import errors_in, fleet_request, instances_in, launching, refusal
from .identity import FARM_TAG, JOB_TAG, REQUEST_TAG, ROLE_TAG, Identity
from .launch_site import LaunchSite, Place
from .listing import Listing
from .session import AwsSession

log = structlog.get_logger(__name__)

#: The version that the launch was to be a version of is not there (yet): listings may be late.
_NO_VERSION = "InvalidLaunchTemplateId.VersionNotFound"
#: In what EC2 says where volumes can't be filled from their snapshot at the rate that was asked for. It documents no code for that.
_FILLING = "initialization rate"
_TOKEN_USED = "IdempotentParameterMismatch"
#: What a request brought that another process asked is described within this time.
_SHOWN_WITHIN_S = 60.0
#: Requests whose answers are remembered.
_MOST_ANSWERS = 1000


class Launcher:
    """Turns a request into instances."""

    def __init__(
        self, session: AwsSession, identity: Identity, *, site: LaunchSite, listing: Listing, clock: Callable[[], float] = monotonic
    ) -> None:
        self._session = session
        self._identity = identity
        self._site = site
        self._listing = listing
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[str, ...]] = {}  #: request -> what it brought, as far as this process asked
        self._attempts: dict[str, int] = {}  #: request -> how many of its fleets came to nothing for a passing reason
        self._used_since: dict[str, float] = {}  #: request whose token was used otherwise -> since when that is known
        self._unseen_since: dict[str, float] = {}  #: request for something that AWS does not know (yet) -> since when

    @property
    def _ec2(self) -> Any:  # Any: boto3's clients are made at run time
        return self._session.client("ec2")

    def brought(self, request: str) -> tuple[str, ...]:
        """The instances that a request has brought already. Empty: none that anybody knows of."""
        with self._lock:
            if request in self._answers:
                return self._answers[request]
        shown = [each for each in self._listing.all() if each.instance.request_id == request]
        return self._whole({each.instance.id for each in shown}, {each.fleet for each in shown if each.fleet})

    def _whole(self, shown: set[str], fleets: set[str]) -> tuple[str, ...]:
        """What is shown of a request's instances, and what is not shown yet: their fleet knows them all."""
        known = [id for fleet in fleets for id in instances_in(self._describe_fleet(fleet))]
        return tuple(dict.fromkeys([*known, *sorted(shown)]))

    def _describe_fleet(self, fleet: str) -> Mapping[str, Any]:
        """A fleet, as described. Empty: EC2 does not know it (any more)."""
        with aws_errors(f"look at the fleet {fleet}"):
            try:
                found = self._ec2.describe_fleets(FleetIds=[fleet])["Fleets"]
            except ClientError as error:
                if not is_absent(error):
                    raise
                return {}
        return found[0] if found else {}

    def launch(self, spec: LaunchSpec, count: int, request: str) -> tuple[str, ...]:
        """Ask for `count` instances. Returns: those that there are, at least one. Repeat: safe by the request. Errors: as of the port"""
        try:
            ids = self._launch(spec, count, request)
        finally:
            self._listing.forget()
        with self._lock:
            self._answers[request] = ids
            while len(self._answers) > _MOST_ANSWERS:
                del self._answers[next(iter(self._answers))]
            self._attempts.pop(request, None)
            self._used_since.pop(request, None)
            self._unseen_since.pop(request, None)
        log.info("fleet launched", job=spec.job, request=request, asked=count, granted=len(ids))
        return ids

    def _launch(self, spec: LaunchSpec, count: int, request: str) -> tuple[str, ...]:
        token = self._token(request)
        places = self._site.places(spec.instance_types, spec.blender_version)
        data = self._site.render_data(places, spec, count=count)
        version = self._site.versions.ensure(data, job=spec.job, workspace=spec.workspace, token=token)
        asked = fleet_request(
            template=self._identity.name,
            version=version,
            image=data["ImageId"],
            places=places,
            spec=spec,
            count=count,
            token=token,
            tags=self._tags(spec.job, request),
        )
        answer = self._create_fleet(asked, spec, request)
        ids = instances_in(answer)
        if not ids:
            raise self._refusal(answer, places, spec, request)
        return ids

    def _token(self, request: str) -> str:
        """The client token of a request: another one where a fleet by the one before came to nothing, for EC2 would repeat its answer."""
        attempt = self._attempts.get(request, 0)
        return f"{request}-{attempt}" if attempt else request

    def _tags(self, job: str, request: str) -> dict[str, str]:
        tags = {FARM_TAG: self._identity.farm, ROLE_TAG: Role.RENDER.value, JOB_TAG: job, REQUEST_TAG: request}
        return {**tags, "Name": f"{self._identity.name} {job}"}

    def _create_fleet(self, asked: Mapping[str, Any], spec: LaunchSpec, request: str) -> Mapping[str, Any]:
        """Returns: what the fleet launched, and errors"""
        with aws_errors(launching(spec)):
            try:
                answer = self._ec2.create_fleet(**asked)
            except ClientError as error:
                if error_code(error) == _TOKEN_USED:
                    return {"Instances": [{"InstanceIds": self._tagged(spec, request)}]}
                self._look_again(error_code(error), error_message(error), spec, request)
                raise
        # EC2 may answer a repeated request with the fleet's id alone
        return answer if instances_in(answer) or answer.get("Errors") else self._describe_fleet(answer["FleetId"])

    def _tagged(self, spec: LaunchSpec, request: str) -> tuple[str, ...]:
        """The instances of a request whose token is used, with other parameters: the configuration has changed since it was asked first.

        Errors:  Unreachable - none is shown yet; NoCapacity - it brought none
        """
        self._listing.forget()
        ids = self.brought(request)
        if not ids:
            since = self._used_since.setdefault(request, self._clock())
            text = f"can't {launching(spec)}: the same was asked for before ({request}), otherwise, and nothing came of it"
            raise Unreachable(f"{text} yet") if self._clock() - since < _SHOWN_WITHIN_S else NoCapacity(text)
        return ids

    def _refusal(self, answer: Mapping[str, Any], places: Sequence[Place], spec: LaunchSpec, request: str) -> CloudError:
        """Why a fleet launched nothing."""
        errors = errors_in(answer, places)
        for code, message in dict.fromkeys((each.code, each.message) for each in errors):
            self._look_again(code, message, spec, request)
        error = refusal(errors, spec)
        if isinstance(error, Throttled | Unreachable):
            self._count_attempt(request)
        return error

    def _look_again(self, code: str, message: str, spec: LaunchSpec, request: str) -> None:
        """Forget what was looked up, where something of it is not there. Errors: Unreachable - the next tick may find it"""
        if code == _NO_VERSION:
            self._site.versions.forget(spec.job)
            self._count_attempt(request)
            raise Unreachable(f"can't {launching(spec)}: its version of the launch template is not to be seen yet")
        if _FILLING in message.lower():
            self._site.fill_as_it_comes()
            self._count_attempt(request)
            raise Unreachable(f"can't {launching(spec)}: {message} ({code}); asked for again without a rate")
        if not is_not_seen_yet(code, message):
            return
        self._site.forget()
        since = self._unseen_since.setdefault(request, self._clock())
        if self._clock() - since < SEEN_WITHIN_S:
            self._count_attempt(request)
            raise Unreachable(f"can't {launching(spec)}: {message} ({code}); where it was made a moment ago, AWS has not heard of it yet")

    def _count_attempt(self, request: str) -> None:
        self._attempts[request] = self._attempts.get(request, 0) + 1
