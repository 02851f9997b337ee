"""The shared pool on AWS: what the Auto Scaling group is made of, and that the farm alone says which instances end."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from supervisor.cloud.aws.operations import OPERATIONS
from supervisor.cloud.aws.policy import MOST_CHARACTERS, Part, Place, farm_policy
from supervisor.cloud.aws.pool import Ec2Pool, remove_group
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import Refused, Throttled, Unreachable
from supervisor.config import AwsConfig, NodeTimes, PoolConfig
from supervisor.domain.instance import InstanceStatus, Market
from tests.aws.farm import IDENTITY, RELEASE, SPEC, Clock, Renting, set_up_farm
from tests.aws.faults import Call, Fault, Way, breakable, nothing
from tests.aws.moto_server import Moto

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=2)
PLACE = Place(identity=IDENTITY, region="us-east-1")
TYPES = "c7i.4xlarge, c7a.4xlarge"


@pytest.fixture
def way() -> Iterator[Way]:
    with breakable(Way()) as way:
        yield way


@pytest.fixture
def farm(moto: Moto, aws_session: AwsSession, way: Way) -> Renting:
    set_up_farm(moto)
    return Renting(aws_session, aws=AwsConfig(describe_s=0, instance_types=TYPES))


def _pass_a_minute(farm: Renting) -> None:
    """What is believed of AWS for a moment is looked at again after that."""
    assert isinstance(farm.clock, Clock)
    farm.clock.now_s += 61


def _pool(farm: Renting, *, least: int = 0, most: int = 8, market: str = "on_demand") -> Ec2Pool:
    """The pool as a process of the farm has it."""
    config = PoolConfig.model_validate({"mode": "shared", "min_instances": least, "max_instances": most, "market": market})
    return Ec2Pool(farm.session, IDENTITY, pool=config, node=NodeTimes(), site=farm.site, clock=farm.clock)


def _group(moto: Moto) -> Any:
    [group] = moto.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    return group


def _alive(farm: Renting) -> list[str]:
    return [one.id for one in farm.compute.instances() if one.status is InstanceStatus.RUNNING]


def _member_ids(moto: Moto) -> set[str]:
    return {one["InstanceId"] for one in _group(moto)["Instances"]}


# What it is made of


def test_the_pools_instances_are_the_farms_and_no_jobs(moto: Moto, farm: Renting) -> None:
    _pool(farm).resize(3, until=LATER)

    shown = farm.compute.instances()
    assert [(one.job, one.market, one.status) for one in shown] == [("", Market.ON_DEMAND, InstanceStatus.RUNNING)] * 3
    assert {one.instance_type for one in shown} <= set(TYPES.split(", "))
    assert (_group(moto)["MinSize"], _group(moto)["MaxSize"], _group(moto)["DesiredCapacity"]) == (0, 8, 3)


def test_an_instance_of_the_pool_is_told_that_it_is_one(moto: Moto, farm: Renting) -> None:
    _pool(farm).resize(1, until=LATER)

    [instance] = farm.compute.instances()
    shown = moto.client("ec2").describe_instance_attribute(InstanceId=instance.id, Attribute="userData")
    told = json.loads(b64decode(shown["UserData"]["Value"]))
    assert (told["role"], told["job"], told["workspace"]) == ("pool", "", "s3")
    assert told["idle_s"] == 900.0, "only a farm that is silent does not give it back sooner"


def test_a_pool_that_keeps_instances_lets_them_wait_for_an_hour(moto: Moto, farm: Renting) -> None:
    _pool(farm, least=1).resize(1, until=LATER)

    version = moto.client("ec2").describe_launch_template_versions(LaunchTemplateName=IDENTITY.name, Versions=["2"])
    told = json.loads(b64decode(version["LaunchTemplateVersions"][0]["LaunchTemplateData"]["UserData"]))
    assert told["idle_s"] == 3600.0


def test_a_pool_may_be_smaller_than_its_least_while_all_of_it_fails(moto: Moto, farm: Renting) -> None:
    pool = _pool(farm, least=3)
    pool.resize(3, until=LATER)
    [kept, *failed] = sorted(_member_ids(moto))

    pool.release(failed)
    pool.resize(1, until=LATER)

    assert (_group(moto)["MinSize"], _group(moto)["DesiredCapacity"], _member_ids(moto)) == (0, 1, {kept})


def test_a_spot_pool_asks_for_spot_alone(moto: Moto, farm: Renting) -> None:
    _pool(farm, market="spot").resize(2, until=LATER)

    assert {one.market for one in farm.compute.instances()} == {Market.SPOT}
    distribution = _group(moto)["MixedInstancesPolicy"]["InstancesDistribution"]
    assert (distribution["OnDemandPercentageAboveBaseCapacity"], distribution["SpotAllocationStrategy"]) == (0, "price-capacity-optimized")


def test_aws_moves_no_instances_between_zones_and_ends_none_by_a_guess(moto: Moto, farm: Renting) -> None:
    _pool(farm).resize(1, until=LATER)

    group = _group(moto)
    assert [each["ProcessName"] for each in group["SuspendedProcesses"]] == ["AZRebalance"]
    assert group["CapacityRebalance"] is False
    assert {each["Key"]: each["Value"] for each in group["Tags"]} == {"kiln:farm": IDENTITY.farm, "kiln:role": "pool"}


def test_the_version_of_the_template_that_the_pool_launches_is_no_jobs(moto: Moto, farm: Renting) -> None:
    _pool(farm).resize(1, until=LATER)
    farm.compute.launch(SPEC, request_id="launch_1")

    assert farm.site.versions.jobs().keys() == {"job_a"}


# Its size


def test_nothing_is_made_while_nothing_is_wanted(moto: Moto, farm: Renting) -> None:
    _pool(farm).resize(0, until=LATER)

    assert moto.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == []


def test_the_pool_grows_and_what_ends_is_replaced(moto: Moto, farm: Renting) -> None:
    pool = _pool(farm)
    pool.resize(1, until=LATER)
    pool.resize(3, until=LATER)
    assert len(_alive(farm)) == 3

    moto.tell("lose", instance=_alive(farm)[0])
    _pass_a_minute(farm)
    pool.resize(3, until=LATER)

    assert len(_alive(farm)) == 3


def test_a_smaller_pool_ends_none_of_its_instances(moto: Moto, farm: Renting) -> None:
    pool = _pool(farm)
    pool.resize(4, until=LATER)
    before = _alive(farm)

    pool.resize(1, until=LATER)

    assert _alive(farm) == before
    assert _group(moto)["DesiredCapacity"] == 4


def test_released_instances_end_and_the_pool_is_smaller_by_them(moto: Moto, farm: Renting) -> None:
    pool = _pool(farm)
    pool.resize(4, until=LATER)
    gone, kept = _alive(farm)[:2], _alive(farm)[2:]

    for _ in range(2):
        pool.release([*gone, "i-0123456789abcdef0"])

    assert _alive(farm) == kept
    assert _group(moto)["DesiredCapacity"] == 2


def test_what_aws_takes_back_is_replaced_and_stays_until_it_is_taken(moto: Moto, farm: Renting) -> None:
    pool = _pool(farm, market="spot")
    pool.resize(2, until=LATER)
    doomed, other = _alive(farm)

    for process in (pool, pool, _pool(farm, market="spot")):
        process.let_go([doomed])

    assert len(_alive(farm)) == 3
    assert doomed in _alive(farm)
    assert doomed not in _member_ids(moto)
    assert other in _member_ids(moto)


def test_the_group_empties_itself_when_the_farm_says_nothing_more(moto: Moto, farm: Renting) -> None:
    pool = _pool(farm)
    pool.resize(2, until=LATER)
    pool.resize(2, until=LATER + timedelta(minutes=5))
    pool.resize(2, until=LATER + timedelta(minutes=15))

    [action] = moto.client("autoscaling").describe_scheduled_actions(AutoScalingGroupName=IDENTITY.name)["ScheduledUpdateGroupActions"]
    assert (action["MinSize"], action["DesiredCapacity"]) == (0, 0)
    assert abs(action["StartTime"] - (LATER + timedelta(minutes=15))) < timedelta(seconds=2)


def test_a_group_that_somebody_changed_is_put_right(moto: Moto, farm: Renting) -> None:
    pool = _pool(farm)
    pool.resize(2, until=LATER)
    scaling = moto.client("autoscaling")
    scaling.update_auto_scaling_group(AutoScalingGroupName=IDENTITY.name, MaxSize=50, MinSize=2)
    scaling.resume_processes(AutoScalingGroupName=IDENTITY.name, ScalingProcesses=["AZRebalance"])

    _pass_a_minute(farm)
    pool.resize(2, until=LATER)

    assert (_group(moto)["MinSize"], _group(moto)["MaxSize"]) == (0, 8)
    assert [each["ProcessName"] for each in _group(moto)["SuspendedProcesses"]] == ["AZRebalance"]


def test_a_new_agent_is_what_the_next_instances_get_and_old_versions_go(moto: Moto, farm: Renting) -> None:
    _pool(farm).resize(1, until=LATER)
    upgraded = Renting(farm.session, aws=farm.aws, release=replace(RELEASE, key="agent/2-fedcba9876543210.pyz", sha256="cd" * 32))

    _pool(upgraded).resize(2, until=LATER)

    shown = moto.client("ec2").describe_launch_template_versions(LaunchTemplateName=IDENTITY.name)["LaunchTemplateVersions"]
    assert [each["VersionNumber"] for each in shown if each["VersionDescription"].startswith("shared-pool")] == [3]
    assert _group(moto)["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] == "3"
    assert len(_alive(farm)) == 2


def test_nothing_is_asked_of_aws_while_nothing_changes(moto: Moto, farm: Renting, way: Way) -> None:
    pool = _pool(farm)
    pool.resize(2, until=LATER)
    before = len(way.calls)

    for seconds in range(50):
        pool.resize(2, until=LATER + timedelta(seconds=seconds))

    assert len(way.calls) == before


# What the farm must be allowed for it


def test_everything_that_the_pool_asks_for_is_in_its_policy_and_nothing_else_is(moto: Moto, farm: Renting, way: Way) -> None:
    pool = _pool(farm, market="spot")
    pool.resize(4, until=LATER)
    pool.let_go(_alive(farm)[:1])
    pool.release(sorted(_member_ids(moto))[:1])  # the one that was let go is none any more
    _pool(farm).resize(5, until=LATER)
    pool.problem()
    pool.remove()

    asked = {f"auto-scaling:{call.operation}" for call in way.calls if call.service == "autoscaling"}
    known = {name for name in OPERATIONS if name.startswith("auto-scaling:")}
    assert asked == known


def test_the_pools_policy_fits_iam_and_changes_the_farms_group_alone() -> None:
    policy = farm_policy(PLACE, parts=[Part.POOL])

    assert len(json.dumps(policy)) < MOST_CHARACTERS
    for statement in policy["Statement"]:
        assert all(name.endswith((f"/{IDENTITY.name}", "/AWSServiceRoleForAutoScaling")) for name in statement["Resource"])


def test_everybody_who_may_not_see_groups_has_none_to_remove(farm: Renting, way: Way) -> None:
    _pool(farm).resize(1, until=LATER)
    way.take(lambda call: Fault.REFUSED if call.operation == "DescribeAutoScalingGroups" else None)

    assert remove_group(farm.session, IDENTITY.name) is None


# Trouble


def test_a_pool_without_capacity_tells_the_words_of_aws(moto: Moto, farm: Renting) -> None:
    pool = _pool(farm)
    moto.change(capacity={"*": 0})
    pool.resize(2, until=LATER)
    assert "We currently do not have sufficient" in pool.problem()

    moto.change(capacity={})
    _pass_a_minute(farm)
    pool.resize(2, until=LATER)

    assert len(_alive(farm)) == 2
    assert pool.problem() == ""


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (Fault.THROTTLED_FOR_GOOD, Throttled),
        (Fault.REFUSED, Refused),
        (Fault.BROKEN, Unreachable),
        (Fault.REPLY_LOST_FOR_GOOD, Unreachable),
    ],
)
@pytest.mark.parametrize(
    "operation", ["CreateAutoScalingGroup", "SuspendProcesses", "PutScheduledUpdateGroupAction", "CreateLaunchTemplateVersion"]
)
def test_a_pool_that_was_not_made_whole_is_finished_by_the_next_tick(
    moto: Moto, farm: Renting, way: Way, operation: str, fault: Fault, raised: type[Exception]
) -> None:
    def plan(call: Call) -> Fault | None:
        return fault if call.operation == operation else None

    way.take(plan)
    with pytest.raises(raised):
        _pool(farm).resize(2, until=LATER)
    way.take(nothing)
    _pool(farm).resize(2, until=LATER)

    assert len(_alive(farm)) == 2
    assert [each["ProcessName"] for each in _group(moto)["SuspendedProcesses"]] == ["AZRebalance"]
    scheduled = moto.client("autoscaling").describe_scheduled_actions(AutoScalingGroupName=IDENTITY.name)
    assert len(scheduled["ScheduledUpdateGroupActions"]) == 1


def test_a_farm_that_is_not_set_up_says_so(moto: Moto, aws_session: AwsSession) -> None:
    with pytest.raises(Refused, match="kiln aws setup"):
        _pool(Renting(aws_session)).resize(1, until=LATER)


def test_a_removed_pool_leaves_nothing_behind_and_can_be_removed_again(moto: Moto, farm: Renting) -> None:
    pool = _pool(farm, least=1)
    pool.resize(3, until=LATER)

    for _ in range(2):
        pool.remove()

    assert _alive(farm) == []
    assert moto.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == []
    shown = moto.client("ec2").describe_launch_template_versions(LaunchTemplateName=IDENTITY.name)["LaunchTemplateVersions"]
    assert [each["VersionNumber"] for each in shown] == [1]
