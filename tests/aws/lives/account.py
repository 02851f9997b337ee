"""The farm's AWS account within this process: moto, what time it is there, what runs on it, and the way that the farm's calls take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from urllib3 import HTTPResponse, PoolManager

from supervisor.cloud.aws.identity import Identity
from supervisor.cloud.aws.session import PRICING_REGION, AwsSession, Keys
from supervisor.cloud.aws.setup import AwsSetup, Wishes
from supervisor.cloud.aws.template import base_data
from supervisor.config import Config
from supervisor.domain.instance import Market
from tests.aws import cloud_time
from tests.aws.faults import Way, breakable
from tests.aws.moto_here import MotoHere
from tests.aws.patching import mend
from tests.aws.policy_check import Asked, check_nothing_more_is_asked
from tests.aws.world import REGION
from tests.fakes.farm import Clock

from .bucket import Bucket
from .machine import Surroundings
from .machines import Machines

FARM = "0a1b2c3d4e5f"
IDENTITY = Identity(farm=FARM, projects_bucket=f"kiln-{FARM}-projects", received_bucket=f"kiln-{FARM}-received")
KEYS = Keys(access_key="testing", secret_key="testing")
#: Dollars an hour, as the Pricing API and the history of spot prices tell it.
ON_DEMAND_PRICES = {"c7i.4xlarge": "0.714", "c7a.4xlarge": "0.821", "c7i.xlarge": "0.179", "c7a.xlarge": "0.205"}
_ON_DEMAND_QUOTA, _SPOT_QUOTA = "L-1216C47A", "L-34B43A08"
SPOT_PRICES = {"c7i.4xlarge": "0.29", "c7a.4xlarge": "0.31"}

#: What the farm has clients for.
_SERVICES = ("ec2", "s3", "iam", "sts", "pricing", "service-quotas", "autoscaling")


@dataclass
class Account:
    """An account that the farm is set up in. Opened once; a life begins with `begin_anew`."""

    moto: MotoHere
    clock: Clock
    way: Way
    session: AwsSession  #: the farm's own
    asked: Asked  #: what the farm asks
    bucket: Bucket = field(default_factory=lambda: Bucket(IDENTITY))
    machines: Machines = field(init=False)

    def begin_anew(self, market: Market, config: Config) -> None:
        """Make it a new account, set up by a farm that is configured so, for jobs of that market."""
        self.moto.reset()
        self.machines = Machines(Surroundings(bucket=self.bucket, clock=self.clock))
        # the quota of spot vCPUs is AWS's default: a job on demand need not mind
        quotas = {"quotas": {_ON_DEMAND_QUOTA: 6400}, "unapplied_quotas": [_SPOT_QUOTA]}
        if market is Market.SPOT:
            quotas = {"quotas": {_ON_DEMAND_QUOTA: 6400, _SPOT_QUOTA: 6400}}
        self.moto.change(on_demand_prices=ON_DEMAND_PRICES, spot_prices=SPOT_PRICES, **quotas)
        setup = AwsSetup(self.session, IDENTITY, Wishes.of(config), template_data=partial(base_data, IDENTITY))
        for step in setup.apply():
            assert step.state == "ready", step
        self.moto.change(is_slow=True)
        self.moto.tell("forget_calls")
        check_nothing_more_is_asked(self.asked, IDENTITY)
        self.asked.forget()

    def put(self, url: str, body: bytes) -> str:
        """Send a part of a file to a presigned URL, as a browser does. Returns: its ETag"""
        answer = self.moto.put(url, body)
        assert answer.status == 200, answer.data
        return answer.headers["ETag"].strip('"')

    @contextmanager
    def taking_presigned(self) -> Iterator[None]:
        """Let what the farm itself sends to presigned URLs, past botocore, take the same way as its other calls."""

        def urlopen(_pool: Any, method: str, url: str, *, body: Any = None, **_: Any) -> HTTPResponse:
            assert method == "PUT", f"{method} {url}"
            return self.way.go("s3", "UploadPart", lambda: self.moto.put(url, body.read()))

        there = PoolManager.urlopen
        mend(PoolManager, "urlopen", lambda original: urlopen)
        try:
            yield
        finally:
            mend(PoolManager, "urlopen", lambda ours: there)


@contextmanager
def open_account() -> Iterator[Account]:
    """An account on moto within this process."""
    with ExitStack() as stack:
        clock, moto = Clock(), MotoHere()
        stack.enter_context(cloud_time.told_by(clock))
        way, asked = stack.enter_context(breakable(Way())), Asked(moto)

        def hear(session: Any) -> None:
            moto.hear(session)
            asked.hear(session)

        session = AwsSession(region=REGION, keys=KEYS, on_session=hear)
        account = Account(moto=moto, clock=clock, way=way, session=session, asked=asked)
        stack.enter_context(account.taking_presigned())
        for service in _SERVICES:  # made before any fork: to make a client takes a tenth of a second
            session.client(service, region=PRICING_REGION)
        account.begin_anew(Market.SPOT, Config())
        yield account
