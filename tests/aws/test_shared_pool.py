"""Jobs on a shared pool that is an Auto Scaling group: lifecycle and adapter together, with scripted nodes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from supervisor import queries
from supervisor.cloud.aws.pool import Ec2Pool
from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import RentedInstance
from supervisor.config import AwsConfig, CloudConfig, Config, MoneyConfig, PoolConfig
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import ENDED, JobStatus
from supervisor.lifecycle.sweep import sweep
from tests.aws.farm import IDENTITY, Renting, set_up_farm
from tests.aws.moto_server import Moto
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNode

CONFIG = Config(
    cloud=CloudConfig(provider="aws"),
    money=MoneyConfig(max_usd_per_month=0),
    pool=PoolConfig(mode="shared", market="spot", max_instances=4),
)


@dataclass
class Studio:
    """A farm whose instances are EC2's, and their nodes."""

    bench: FakeFarm
    renting: Renting
    moto: Moto
    nodes: dict[str, FakeNode] = field(default_factory=dict)

    def alive(self) -> list[FakeNode]:
        """The nodes of the instances that run, oldest first."""
        running = [one for one in self.renting.compute.instances() if one.status is InstanceStatus.RUNNING]
        return [self.nodes.setdefault(one.id, self.node_on(one)) for one in running]

    def node_on(self, one: RentedInstance) -> FakeNode:
        power_off = partial(self.moto.tell, "power_off", instance=one.id)
        return FakeNode(objects=self.bench.cloud.objects, clock=self.bench.clock, instance=one, power_off=power_off)

    def work(self) -> None:
        for node in self.alive():
            for frame in list(node.claims):
                node.deliver(frame)
            node.take_job()

    def members(self) -> set[str]:
        groups = self.moto.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        return {one["InstanceId"] for group in groups for one in group["Instances"]}


@pytest.fixture
def studio(tmp_path: Path, moto: Moto, aws_session: AwsSession) -> Studio:
    set_up_farm(moto)
    renting = Renting(aws_session, aws=AwsConfig(describe_s=0))
    bench = FakeFarm.open(tmp_path, config=CONFIG)
    bench.clock.at = datetime.now(UTC)
    pool = Ec2Pool(
        aws_session,
        IDENTITY,
        pool=CONFIG.pool,
        node=CONFIG.node_times,
        site=renting.site,
        clock=lambda: bench.clock.at.timestamp(),
    )
    bench.farm = replace(bench.farm, cloud=replace(bench.farm.cloud, compute=renting.compute, pool=pool))
    bench.restart()
    return Studio(bench=bench, renting=renting, moto=moto)


def _run(studio: Studio, *jobs: str) -> list[JobStatus]:
    for _ in range(60):
        studio.bench.tick()
        studio.work()
        if all(studio.bench.status(job) in ENDED for job in jobs):
            break
    return [studio.bench.status(job) for job in jobs]


def test_two_jobs_are_rendered_on_the_group_which_is_empty_some_minutes_later(studio: Studio) -> None:
    first, second = (studio.bench.a_submitted_job(frames=frames) for frames in ("1-25", "1-5"))

    assert _run(studio, first, second) == [JobStatus.COMPLETED] * 2
    assert len(studio.members()) == 3
    assert sweep(studio.bench.farm) == []
    for _ in range(35):
        studio.work()
        studio.bench.tick(after_s=10)

    assert studio.members() == set()
    assert studio.alive() == []


def test_an_instance_that_aws_takes_back_is_replaced_with_its_notice_and_ended_by_aws(studio: Studio) -> None:
    job = studio.bench.a_submitted_job(frames="1-8")
    for _ in range(2):
        studio.bench.tick()
    (doomed,) = studio.alive()
    doomed.take_job()
    studio.bench.tick()

    doomed.hear_notice(in_s=120)
    for _ in range(3):
        studio.bench.tick()
    assert len(studio.alive()) == 2
    assert doomed.instance.id not in studio.members()
    studio.moto.tell("interrupt", instance=doomed.instance.id)

    assert _run(studio, job) == [JobStatus.COMPLETED]
    lost = next(one for one in queries.job_instances(studio.bench.farm, job) if one.id == doomed.instance.id)
    assert lost.doing == "taken back by the cloud"
    assert len(studio.members()) == 1
