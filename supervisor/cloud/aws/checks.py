"""The doctor on AWS: what is wrong with the account, before money is spent on finding out; and the cheap half of it for one job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

from botocore.exceptions import ClientError

from supervisor.cloud.ports import (
    SIGN_IN,
    SIGNED_OUT,
    Check,
    CloudError,
    JobNeeds,
    ObjectStore,
    Prices,
    Refused,
    SetupStep,
    SignedOut,
    StepState,
)
from supervisor.config import LaunchConfig
from supervisor.domain.instance import Market

from . import quota_checks
from .believed import Believed
from .errors import aws_errors
from .images import build_one
from .instance_types import InstanceType
from .launch_site import LaunchSite, Place
from .own_volumes import OwnVolumes
from .permissions import look_at_permissions
from .policy import SPOT_ROLE, Part
from .policy import Place as PolicyPlace
from .quota_checks import Allowance, allowances_of
from .quotas import Quota, quota_vcpus, quotas_of, vcpus_in_use
from .session import AwsSession
from .setup import AwsSetup

#: AWS takes no request that is signed by a clock more than five minutes wrong.
_SKEW_BAD_S = 240.0
_SKEW_WARN_S = 60.0
#: What quotas and running instances are is believed for so long by the checks of jobs.
_BELIEVED_S = 60.0
_PROBES = ("doctor/check", "received/doctor/check")
#: What the farm does by itself, and what an administrator may do for it.
_EVERY_DAY = (Part.RUN, Part.POOL)
_PART_WORDS = {Part.SET_UP: "set up", Part.BUILD: "build images", Part.FILL: "fill volumes itself"}
_SIGNED_OUT = Check(name="AWS credentials", is_ok=False, text=SIGNED_OUT, remedy=SIGN_IN)
_SET_UP = "use the AWS page, or run `kiln aws setup`"


class AwsDoctor:
    """Looks a farm's account over."""

    def __init__(
        self,
        session: AwsSession,
        *,
        setup: AwsSetup,
        site: LaunchSite,
        objects: ObjectStore,
        prices: Prices,
        price_problem: Callable[[], str],
        launch: LaunchConfig,
        own: OwnVolumes,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Shape:   price_problem: a sentence when the prices are not AWS's own of today; clock: monotonic seconds"""
        self._session = session
        self._setup = setup
        self._site = site
        self._objects = objects
        self._prices = prices
        self._price_problem = price_problem
        self._max_instances = launch.max_instances
        self._own = own
        self._now = now
        self._quotas: dict[Quota, Believed[int]] = {}
        self._clock = clock
        self._used = Believed(lambda: vcpus_in_use(session, site.types), lasts_s=_BELIEVED_S, clock=clock)

    def checks(self) -> Sequence[Check]:
        """Everything, in the order in which one thing needs the other. Takes seconds."""
        found, caller = self._check_sign_in()
        if not caller:
            return found
        rest = (
            ("AWS permissions", lambda: self._check_permissions(caller)),
            ("set-up", self._check_setup),
            ("buckets", self._check_buckets),
            ("images", self._check_images),
            ("places", self._check_places),
            ("volumes", self._check_volumes),
            ("quotas", self._check_quotas),
            ("prices", self._check_prices),
        )
        return [*found, *(check for name, look in rest for check in _told(name, look))]

    def job_checks(self, needs: JobNeeds) -> Sequence[Check]:
        """What would keep this job from being rendered (no credentials, set-up, image, such type, quota), and what would delay it.

        Errors:  Throttled, Unreachable - nothing is known
        """
        try:
            self._session.source()
            self._site.security_group()
            places = self._site.places(needs.instance_types, needs.blender_version)
        except SignedOut:
            return [_SIGNED_OUT]
        except Refused as error:
            return [Check(name="launch", is_ok=False, text=str(error))]
        types = self._site.types.find([place.instance_type for place in places])
        return [*self._job_quotas(types, needs), *self._spot_price(places, needs)]

    def _check_sign_in(self) -> tuple[list[Check], str]:
        """Returns: the findings; the caller's resource name, empty: nobody is signed in"""
        name = "AWS credentials"
        try:
            source = self._session.source()
            with aws_errors("ask AWS who the farm is"):
                answer = self._session.client("sts").get_caller_identity()
        except SignedOut:
            return [_SIGNED_OUT], ""
        except CloudError as error:
            cause = error.__cause__
            told = self._check_clock(cause.response if isinstance(cause, ClientError) else {})
            return [Check(name=name, is_ok=False, text=str(error)), *told], ""
        caller = str(answer["Arn"])
        text = f"account {answer['Account']}, as {caller.rpartition(':')[2]}, with {source}; region {self._session.region}"
        check = Check(name=name, is_ok=True, text=text)
        if caller.endswith(":root"):
            remedy = "make a user with the policy that `kiln aws policy` prints, and give the farm that one's keys"
            check = Check(name=name, is_ok=False, is_warning=True, text=f"{text}: the account's root, who may everything", remedy=remedy)
        return [check, *self._check_clock(answer)], caller

    def _check_clock(self, answer: Mapping[str, Any]) -> Iterator[Check]:
        """Compare the clocks, by any answer of AWS."""
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if date is None:
            return
        ahead_s = (self._now() - parsedate_to_datetime(date)).total_seconds()
        if abs(ahead_s) <= _SKEW_WARN_S:
            yield Check(name="clock", is_ok=True, text="this machine's clock is right")
            return
        text = f"this machine's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} AWS's"
        remedy = "set it, and keep it right (NTP): AWS refuses what is signed by a clock that is minutes wrong"
        yield Check(name="clock", is_ok=False, is_warning=abs(ahead_s) < _SKEW_BAD_S, text=text, remedy=remedy)

    def _check_permissions(self, caller: str) -> Iterator[Check]:
        place = PolicyPlace(identity=self._setup.identity, region=self._session.region)
        image, instance_type = self._launchable()
        found = look_at_permissions(self._session, place, parts=self._setup.parts, caller=caller, image=image, instance_type=instance_type)
        needed = [action for part in _EVERY_DAY for action in found.lacking.get(part, ())]
        if needed:
            text = f"the farm's keys may not: {', '.join(needed)}"
            yield Check(name="AWS permissions", is_ok=False, text=text, remedy="give them the policy that `kiln aws policy` prints")
        elif found.lacking:
            # a studio may keep from the farm what it needs seldom
            without = " and ".join(_PART_WORDS[part] for part in found.lacking)
            yield Check(name="AWS permissions", is_ok=True, text=f"those to run are there; to {without} takes other keys")
        else:
            some = "" if found.is_whole else " that can be tried without renting anything"
            yield Check(name="AWS permissions", is_ok=True, text=f"the {found.tried} permissions{some} are there")

    def _launchable(self) -> tuple[str, str]:
        """An image and a type to try a launch with; empty: there are none yet."""
        try:
            [first, *_] = self._site.types.find(self._site.default_types)
            return self._site.images.newest(first.architecture).id, first.name
        except CloudError:
            return "", ""

    def _check_setup(self) -> Iterator[Check]:
        for step in self._setup.plan():
            yield _step_check(step)

    def _check_buckets(self) -> Iterator[Check]:
        for key in _PROBES:
            self._objects.put(key, b"kiln")
            there = self._objects.get(key)
            self._objects.delete([key])
            if there is None or there.body != b"kiln":
                yield Check(name="buckets", is_ok=False, text=f"what was written as {key} was not read back", remedy="look into the bucket")
                return
        yield Check(name="buckets", is_ok=True, text="both can be written and read")

    def _check_images(self) -> Iterator[Check]:
        images = self._site.images.all()
        if not images:
            text = "there is no image that instances could start from, or none that this version of Kiln can talk to"
            yield Check(name="images", is_ok=False, text=text, remedy=f"{build_one()}; it takes about half an hour")
        for image in images:
            blenders = ", ".join(image.blenders) or "of unknown version"
            text = f"Blender {blenders} on {image.id}, for {image.architecture}, {image.variant}"
            yield Check(name="image", is_ok=True, text=text)

    def _check_places(self) -> Iterator[Check]:
        zones = sorted({subnet.zone for subnet in self._site.subnets()})
        yield Check(name="subnets", is_ok=True, text=f"{len(self._site.subnets())} in {', '.join(zones)}")
        if not self._site.images.all():
            return
        for name in self._site.default_types:
            try:
                self._site.places([name], ())
            except Refused as error:
                remedy = "change [aws] instance_types, or do what is said"
                yield Check(name=f"instance type {name}", is_ok=False, is_warning=True, text=str(error), remedy=remedy)

    def _check_volumes(self) -> Iterator[Check]:
        yield self._own.check()

    def _check_quotas(self) -> Iterator[Check]:
        types = self._site.types.find(self._site.default_types)
        used = vcpus_in_use(self._session, self._site.types)
        allowances: list[Allowance] = []
        for market in Market:
            quotas = quotas_of(types, market)
            allowances += allowances_of(quotas, {quota: quota_vcpus(self._session, quota) for quota in quotas}, used)
        yield from quota_checks.farm_checks(allowances, region=self._session.region, max_instances=self._max_instances)

    def _check_prices(self) -> Iterator[Check]:
        problem = self._price_problem()
        if problem:
            yield Check(name="prices", is_ok=False, is_warning=True, text=problem, remedy="costs and caps go by them; the farm asks again")
        else:
            yield Check(name="prices", is_ok=True, text="as AWS says them")

    def _job_quotas(self, types: Sequence[InstanceType], needs: JobNeeds) -> Iterator[Check]:
        quotas = quotas_of(types, needs.market)
        vcpus = {quota: self._believed_vcpus(quota) for quota in quotas}
        allowances = allowances_of(quotas, vcpus, self._used())
        yield from quota_checks.job_checks(allowances, region=self._session.region, instances=needs.instances)

    def _believed_vcpus(self, quota: Quota) -> int:
        if quota not in self._quotas:
            self._quotas[quota] = Believed(lambda: quota_vcpus(self._session, quota), lasts_s=_BELIEVED_S, clock=self._clock)
        return self._quotas[quota]()

    def _spot_price(self, places: Sequence[Place], needs: JobNeeds) -> Iterator[Check]:
        bid = needs.max_price_usd_per_h
        if needs.market is not Market.SPOT or bid is None:
            return
        prices = [self._prices.instance_usd_per_h(each.instance_type, market=Market.SPOT, zone=each.subnet.zone) for each in places]
        known = [price for price in prices if price is not None]
        if known and bid < min(known):
            costs = f"spot costs ${_short(min(known))} an hour at least at present"
            text = f"{costs}, more than the highest price of ${_short(bid)}: the job waits"
            remedy = "raise the highest price, name other instance types, or rent on demand"
            yield Check(name="spot price", is_ok=False, is_warning=True, text=text, remedy=remedy)


def _step_check(step: SetupStep) -> Check:
    if step.state is StepState.READY:
        return Check(name=step.name, is_ok=True, text=step.text)
    if step.state is StepState.BLOCKED:
        return Check(name=step.name, is_ok=False, text=step.text)
    if step.state is StepState.DIFFERS:
        return Check(name=step.name, is_ok=False, is_warning=True, text=f"is not as it should be; to do: {step.text}", remedy=_SET_UP)
    # on-demand jobs go without the role for spot
    return Check(name=step.name, is_ok=False, is_warning=SPOT_ROLE in step.name, text="is not there", remedy=_SET_UP)


def _told(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """What a look finds; a failure of AWS is a finding too."""
    try:
        yield from look()
    except CloudError as error:
        yield Check(name=name, is_ok=False, text=str(error))


def _short(price: Decimal) -> str:
    return f"{price.normalize():f}" if price == price.quantize(Decimal("0.0001")) else f"{price:.4f}"
