"""The farm's AWS account as the port `CloudAccount` shows it: who the farm is there, its policy, its set-up and its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from supervisor.cloud.ports import Refused, Removal, SetupStep, SignedIn

from .errors import aws_errors
from .policy import Part, Place, farm_policy
from .session import AwsSession, Keys
from .setup import AwsSetup
from .teardown import tear_down


class AwsAccount:
    """`CloudAccount` of AWS."""

    def __init__(self, session: AwsSession, setup: AwsSetup) -> None:
        self._session = session
        self._setup = setup

    def who(self) -> SignedIn:
        source = self._session.source()
        with aws_errors("ask AWS who the farm is"):
            answer = self._session.client("sts").get_caller_identity()
        return SignedIn(account=answer["Account"], name=_short(answer["Arn"]), source=source, has_typed_keys=self._session.has_typed_keys())

    def change_keys(self, access_key: str, secret_key: str) -> None:
        if not access_key and not secret_key:
            self._session.change_keys(None)
            return
        if not access_key or not secret_key:
            raise Refused("a key is two texts, the access key's id and its secret: AWS shows both when it makes one")
        keys = Keys(access_key=access_key, secret_key=secret_key)
        with aws_errors("sign in to AWS with these keys"):
            self._session.trying(keys).client("sts").get_caller_identity()
        self._session.change_keys(keys)

    def policy(self, *, part: str = "") -> Mapping[str, object]:
        place = Place(identity=self._setup.identity, region=self._session.region)
        return farm_policy(place, parts=[Part(part)] if part else self._setup.parts)

    def plan(self, *, origin: str = "") -> Sequence[SetupStep]:
        return self._setup.plan(origin=origin)

    def set_up(self, *, origin: str = "") -> Iterator[SetupStep]:
        return self._setup.apply(origin=origin)

    def tear_down(self, *, with_data: bool, dry_run: bool) -> Iterator[Removal]:
        return tear_down(self._setup, with_data=with_data, dry_run=dry_run)


def _short(arn: str) -> str:
    """“user/kiln” of arn:aws:iam::123456789012:user/kiln."""
    return arn.rpartition(":")[2]
