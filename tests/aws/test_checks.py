"""The doctor on AWS: each thing that can be wrong with an account is said in words, with what to do; a good account is well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from supervisor.cloud.aws.assembly import open_own_volumes
from supervisor.cloud.aws.checks import AwsDoctor
from supervisor.cloud.aws.identity import Identity
from supervisor.cloud.aws.launch_site import LaunchSite
from supervisor.cloud.aws.own_filling import Fillings
from supervisor.cloud.aws.session import AwsSession, Keys
from supervisor.cloud.aws.setup import AwsSetup, Wishes
from supervisor.cloud.aws.template import base_data
from supervisor.cloud.ports import Check, JobNeeds, Unreachable
from supervisor.cloud.s3 import S3ObjectStore
from supervisor.config import AwsConfig, LaunchConfig, NodeTimes, WorkspaceConfig
from supervisor.domain.instance import Market
from tests.fakes.prices import FakePrices

from .farm import RELEASE
from .faults import Fault, Way, breakable
from .happenings import IMAGE
from .moto_server import Moto
from .own_place import FakeMachine
from .policy_check import Asked
from .signed_out import sign_out

#: What an account that has grown a little may run.
PLENTY = {"L-1216C47A": 2048.0, "L-34B43A08": 2048.0, "L-DB2E81BA": 0.0, "L-3819A6DF": 0.0}
NEEDS = JobNeeds(instances=4, market=Market.ON_DEMAND, max_price_usd_per_h=None, instance_types=(), bytes=1 << 20, blender_version=(4, 5))


class Bench:
    """A doctor of a farm in the tests' AWS, and what is around it."""

    def __init__(
        self,
        session: AwsSession,
        identity: Identity,
        *,
        aws: AwsConfig | None = None,
        max_instances: int = 64,
        filled_by: Literal["auto", "farm"] = "auto",
    ) -> None:
        aws = aws or AwsConfig()
        wishes = Wishes(
            public_url="https://farm.example", stale_days=7, expire_frames_days=0, subnets=(), fills_volumes=filled_by == "farm"
        )
        self.prices = FakePrices()
        self.price_problem = ""
        self.now_s = 1000.0
        self.ahead = timedelta(0)  #: of the machine's clock
        self.setup = AwsSetup(session, identity, wishes, template_data=partial(base_data, identity))
        self.site = LaunchSite(
            session, identity, aws=aws, workspace=WorkspaceConfig(), node=NodeTimes(), agent=lambda: RELEASE, clock=lambda: self.now_s
        )
        self.own = open_own_volumes(
            session,
            identity,
            site=self.site,
            workspace=WorkspaceConfig(filled_by=filled_by),
            machine=FakeMachine(None),
            fillings=Fillings(Path("/nonexistent"), session),
            clock=lambda: self.now_s,
        )
        s3 = session.late("s3")
        self.doctor = AwsDoctor(
            session,
            setup=self.setup,
            site=self.site,
            objects=S3ObjectStore(s3, identity.projects_bucket, received_bucket=identity.received_bucket),
            prices=self.prices,
            price_problem=lambda: self.price_problem,
            launch=LaunchConfig(max_instances=max_instances),
            own=self.own,
            clock=lambda: self.now_s,
            now=lambda: datetime.now(UTC) + self.ahead,
        )

    def wrong(self) -> list[Check]:
        return [check for check in self.doctor.checks() if not check.is_ok]

    def job(self, **needs: Any) -> list[Check]:
        return [check for check in self.doctor.job_checks(JobNeeds(**{**_fields(NEEDS), **needs})) if not check.is_ok]


def _fields(needs: JobNeeds) -> dict[str, Any]:
    return {name: getattr(needs, name) for name in needs.__slots__}


def only(checks: Sequence[Check]) -> Check:
    assert len(checks) == 1, [(check.name, check.text) for check in checks]
    return checks[0]


@pytest.fixture
def bench(aws_session: AwsSession, identity: Identity, moto: Moto) -> Bench:
    """A farm that is set up in an account with quotas that are large enough."""
    bench = Bench(aws_session, identity)
    list(bench.setup.apply())
    moto.change(quotas=PLENTY)
    return bench


def test_a_good_account_is_well_in_every_way(bench: Bench) -> None:
    found = bench.doctor.checks()
    assert [check for check in found if not check.is_ok] == []
    names = {check.name for check in found}
    assert {"AWS credentials", "clock", "AWS permissions", "buckets", "image", "subnets", "prices"} <= names
    assert {step.name for step in bench.setup.plan()} <= names
    credentials = next(check for check in found if check.name == "AWS credentials")
    assert "123456789012" in credentials.text
    assert "the environment" in credentials.text


def test_without_credentials_the_doctor_says_only_that(
    moto: Moto, identity: Identity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sign_out(monkeypatch, moto.environment)
    bench = Bench(AwsSession(region="us-east-1", keys_file=tmp_path / "keys.json"), identity)
    found = only(bench.doctor.checks())
    assert found.text == "the farm is not signed in to AWS"
    assert "on its AWS page" in found.remedy
    assert "not signed in" in only(bench.job()).text


def test_keys_that_are_typed_later_are_used_at_once(
    moto: Moto, identity: Identity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sign_out(monkeypatch, moto.environment)
    session = AwsSession(region="us-east-1", keys_file=tmp_path / "keys.json")
    bench = Bench(session, identity)
    assert not bench.doctor.checks()[0].is_ok
    session.change_keys(Keys(access_key="AKIAEXAMPLE", secret_key="secret"))
    assert bench.doctor.checks()[0].is_ok
    assert "typed on this farm's page" in bench.doctor.checks()[0].text


def test_credentials_that_turn_up_later_are_found_within_half_a_minute(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_out(monkeypatch, moto.environment)
    now_s = 0.0
    session = AwsSession(region="us-east-1", clock=lambda: now_s)
    with pytest.raises(Exception, match="not signed in"):
        session.client("sts")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(Exception, match="not signed in"):
        session.client("sts")
    now_s = 31.0
    assert session.client("sts").get_caller_identity()["Account"] == "123456789012"


@pytest.mark.parametrize(("ahead_s", "is_warning", "word"), [(90, True, "ahead of"), (-400, False, "behind")])
def test_a_clock_that_is_wrong_is_named(bench: Bench, ahead_s: int, is_warning: bool, word: str) -> None:
    bench.ahead = timedelta(seconds=ahead_s)
    found = only(bench.wrong())
    assert (found.name, found.is_warning) == ("clock", is_warning)
    said = re.fullmatch(rf"this machine's clock is (\d+) s {word} AWS's", found.text)
    assert said, found.text
    assert abs(int(said[1]) - abs(ahead_s)) <= 5, "the answer's date has whole seconds, and was a while on its way"


def test_what_is_not_set_up_is_named_with_the_command_that_does_it(aws_session: AwsSession, identity: Identity, moto: Moto) -> None:
    moto.change(quotas=PLENTY)
    bench = Bench(aws_session, identity)
    wrong = bench.wrong()
    missing = [check for check in wrong if check.text == "is not there"]
    assert {check.name for check in missing} == {step.name for step in bench.setup.plan()}
    assert all("kiln aws setup" in check.remedy for check in missing)
    assert [check.name for check in missing if check.is_warning] == ["role AWSServiceRoleForEC2Spot"]
    assert "not set up" in only(bench.job()).text


def test_a_bucket_whose_rules_were_changed_is_named(bench: Bench, moto: Moto, identity: Identity) -> None:
    moto.client("s3").delete_bucket_cors(Bucket=identity.projects_bucket)
    found = only(bench.wrong())
    assert found.is_warning
    assert "let browsers upload from https://farm.example" in found.text


def test_a_permission_that_lacks_is_named(bench: Bench) -> None:
    with breakable(Way()) as way:
        way.take(lambda call: Fault.REFUSED if call.operation in {"DescribeFleets", "CreateFleet"} else None)
        found = next(check for check in bench.wrong() if check.name == "AWS permissions")
    assert found.text == "the farm's keys may not: ec2:CreateFleet, ec2:DescribeFleets"
    assert "kiln aws policy" in found.remedy


def test_where_the_simulator_may_be_asked_every_permission_is_looked_at(bench: Bench, moto: Moto) -> None:
    moto.change(may_simulate=True)
    whole = next(check for check in bench.doctor.checks() if check.name == "AWS permissions")
    assert whole.is_ok
    assert "that can be tried" not in whole.text
    moto.change(denied=["ec2:TerminateInstances", "s3:PutObject"])
    found = only(bench.wrong())
    assert found.text == "the farm's keys may not: ec2:TerminateInstances, s3:PutObject"


@pytest.fixture
def filling_bench(bench: Bench, aws_session: AwsSession, identity: Identity) -> Bench:
    """A doctor of a farm that is to fill volumes itself."""
    assert bench.own.check().is_ok, "where it need not, nothing is wrong"
    return Bench(aws_session, identity, filled_by="farm")


def test_farm_that_is_to_fill_volumes_itself_and_can_not_is_told_what_is_missing(filling_bench: Bench) -> None:
    found = only(filling_bench.wrong())
    assert (found.name, found.is_warning) == ("volumes", True)
    assert found.text == "are filled by staging instances, because the farm does not run on an EC2 instance"
    assert "docs/aws.md" in found.remedy


def test_rights_to_fill_volumes_are_looked_at_where_the_farm_is_to_fill_them(filling_bench: Bench, bench: Bench, moto: Moto) -> None:
    moto.change(may_simulate=True, denied=["ec2:AttachVolume"])
    said = [
        next(each.text for each in doctor.checks() if each.name == "AWS permissions") for doctor in (filling_bench.doctor, bench.doctor)
    ]
    assert said[0] == "those to run are there; to fill volumes itself takes other keys"
    assert "are there" in said[1]
    assert "to fill volumes" not in said[1]


def test_an_account_without_an_image_is_told_how_to_build_one(bench: Bench, moto: Moto) -> None:
    moto.tell("remove_image", image=IMAGE)
    found = only(bench.wrong())
    assert "no image" in found.text
    assert "kiln ami build" in found.remedy
    assert "kiln ami build" in only(bench.job()).text


def test_a_new_account_is_told_which_quota_keeps_it_from_renting_and_where_to_ask(bench: Bench, moto: Moto) -> None:
    moto.change(quotas={})
    wrong = bench.wrong()
    assert [(check.name, check.is_warning) for check in wrong] == [
        ("quota “Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances”", False),
        ("quota “All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests”", False),
    ]
    assert (
        "it is 5 vCPUs, and one c7i.4xlarge has 16: no Standard (A, C, D, H, I, M, R, T, Z) instance can start on demand" in wrong[0].text
    )
    assert "https://us-east-1.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-1216C47A" in wrong[0].remedy


def test_a_quota_that_the_account_never_changed_is_the_one_that_accounts_begin_with(bench: Bench, moto: Moto) -> None:
    moto.change(quotas=PLENTY, unapplied_quotas=["L-34B43A08"])
    found = only(bench.wrong())
    assert found.is_warning
    assert "it is 5 vCPUs, and one c7i.4xlarge has 16" in found.text


def test_one_market_that_works_makes_the_other_ones_quota_a_warning(bench: Bench, moto: Moto) -> None:
    moto.change(quotas={**PLENTY, "L-34B43A08": 0.0})
    found = only(bench.wrong())
    assert found.is_warning
    assert "it is 0 vCPUs, as new accounts begin: no Standard (A, C, D, H, I, M, R, T, Z) instance can start as spot" in found.text


def test_a_quota_below_the_farms_own_limit_says_how_many_instances_it_is_good_for(bench: Bench, moto: Moto) -> None:
    moto.change(quotas={**PLENTY, "L-1216C47A": 100.0})
    found = only(bench.wrong())
    assert found.is_warning
    assert "100 vCPUs, 0 in use: 6 instances of c7i.4xlarge (16 vCPUs) at once; [launch] max_instances is 64" in found.text


def test_prices_that_are_not_todays_are_a_warning(bench: Bench) -> None:
    bench.price_problem = "prices are those that came with Kiln: AWS did not tell its own"
    assert only(bench.wrong()).is_warning


def test_an_account_that_does_not_answer_is_one_finding(bench: Bench) -> None:
    with breakable(Way()) as way:
        way.take(lambda call: Fault.UNREACHABLE)
        found = only(bench.doctor.checks())
    assert not found.is_ok
    assert "ask AWS who the farm is" in found.text


# One job.


def test_a_job_that_can_be_rendered_has_no_findings_and_costs_few_calls(bench: Bench, asked: Asked) -> None:
    assert bench.job() == []
    before = len(asked.requests)
    assert bench.job() == []
    assert len(asked.requests) == before, "what was asked a moment ago is believed"
    bench.now_s += 61
    assert bench.job() == []
    assert {request.operation for request in asked.requests[before:]} == {
        "ec2:DescribeImages",
        "ec2:DescribeInstances",
        "service-quotas:GetServiceQuota",
    }


def test_a_job_whose_types_the_quota_holds_none_of_is_not_rendered(bench: Bench, moto: Moto) -> None:
    moto.change(quotas={**PLENTY, "L-34B43A08": 5.0})
    found = only(bench.job(market=Market.SPOT))
    assert not found.is_warning
    assert found.text.startswith("none of the job's instance types can start as spot: the account's quota “All Standard")
    assert found.text.endswith("is 5 vCPUs, and one c7i.4xlarge has 16")
    assert "L-34B43A08" in found.remedy
    assert "try on demand" in found.remedy
    assert bench.job() == [], "on demand has a quota of its own"


def test_a_gpu_job_of_a_new_account_is_told_to_ask_for_a_quota(bench: Bench, moto: Moto) -> None:
    moto.tell("add_image", image="ami-0c222222222222222", variant="gpu")
    found = only(bench.job(instance_types=("g6.xlarge",)))
    assert "quota “Running On-Demand G and VT instances” is 0 vCPUs, as new accounts begin" in found.text
    assert "quotas/L-DB2E81BA" in found.remedy


def test_a_gpu_job_without_an_image_for_it_is_told_to_build_one(bench: Bench) -> None:
    assert "kiln ami build --variant gpu" in only(bench.job(instance_types=("g6.xlarge",))).text


def test_a_type_that_does_not_exist_is_named(bench: Bench) -> None:
    assert "there is no instance type c7i.4xlrge in us-east-1" in only(bench.job(instance_types=("c7i.4xlrge",))).text


def test_a_blender_that_no_image_has_is_named(bench: Bench) -> None:
    assert "has Blender 5.0 (there is" in only(bench.job(blender_version=(5, 0))).text


def test_a_quota_that_others_use_up_is_a_warning_that_the_job_waits(bench: Bench, moto: Moto) -> None:
    moto.change(quotas={**PLENTY, "L-1216C47A": 40.0})
    moto.client("ec2").run_instances(ImageId=IMAGE, InstanceType="m5.2xlarge", MinCount=2, MaxCount=2)
    found = only(bench.job())
    assert found.is_warning
    assert "leave room for one instance of the job's types at present, and it asks for 4" in found.text
    moto.client("ec2").run_instances(ImageId=IMAGE, InstanceType="m5.2xlarge", MinCount=2, MaxCount=2)
    bench.now_s += 61
    found = only(bench.job())
    assert found.is_warning
    assert "leave no room for any instance of the job's types at present, so it waits until others end" in found.text


def test_a_bid_below_every_price_is_a_warning(bench: Bench) -> None:
    bench.prices.default = Decimal("0.2874")
    assert bench.job(market=Market.SPOT, max_price_usd_per_h=Decimal("0.29")) == []
    found = only(bench.job(market=Market.SPOT, max_price_usd_per_h=Decimal("0.2")))
    assert found.is_warning
    assert found.text == "spot costs $0.2874 an hour at least at present, more than the highest price of $0.2: the job waits"
    bench.prices.by_type[("c6i.4xlarge", Market.SPOT)] = Decimal("0.19")
    assert bench.job(market=Market.SPOT, max_price_usd_per_h=Decimal("0.2")) == []


def test_a_job_in_an_account_that_does_not_answer_is_not_judged(bench: Bench) -> None:
    with breakable(Way()) as way:
        way.take(lambda call: Fault.UNREACHABLE)
        with pytest.raises(Unreachable):
            bench.job()
