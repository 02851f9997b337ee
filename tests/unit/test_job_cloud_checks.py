"""What the cloud says of a job before anything is rented for it: when it is submitted, resumed, retried."""

from __future__ import annotations

from decimal import Decimal

import pytest

from supervisor import queries
from supervisor.cloud.ports import Check, JobNeeds, SignedOut, Unreachable
from supervisor.commands import jobs as commands
from supervisor.config import CloudConfig, Config
from supervisor.domain.errors import Rejected
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from tests.fakes.farm import FakeFarm, an_inspection

QUOTA = Check(name="quota", is_ok=False, text="the account may run no G instances", remedy="ask AWS for more")
DEAR = Check(name="spot price", is_ok=False, is_warning=True, text="spot costs more than the highest price", remedy="raise it")


def test_what_the_cloud_would_not_render_is_not_submitted(bench: FakeFarm) -> None:
    job = bench.a_draft()
    bench.cloud.premises.job_checks_made = [QUOTA, DEAR]

    with pytest.raises(Rejected, match=r"^the account may run no G instances: ask AWS for more\.$"):
        commands.submit_job(bench.farm, job)

    assert bench.status(job) is JobStatus.DRAFT
    assert not bench.woken.is_set()


def test_the_cloud_is_asked_for_what_the_job_needs(bench: FakeFarm) -> None:
    bench = FakeFarm.open(bench.farm.data, config=Config(cloud=CloudConfig(provider="aws")))
    job = bench.a_draft(inspection=an_inspection(version=(4, 2)))
    settings = JobSettings(instances=3, market=Market.SPOT, max_price_usd_per_h=Decimal("0.2"), instance_types=("c7i.4xlarge",))

    commands.submit_job(bench.farm, job, settings)

    assert bench.cloud.premises.asked_for == [
        JobNeeds(
            instances=3,
            market=Market.SPOT,
            max_price_usd_per_h=Decimal("0.2"),
            instance_types=("c7i.4xlarge",),
            bytes=7,
            blender_version=(4, 5, 15),
        )
    ]


def test_a_draft_that_is_not_ready_is_refused_before_the_cloud_is_asked(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)

    with pytest.raises(Rejected, match="no files"):
        commands.submit_job(bench.farm, job)

    assert bench.cloud.premises.asked_for == []


def test_a_warning_of_the_cloud_is_kept_with_the_job_until_it_is_gone(bench: FakeFarm) -> None:
    job = bench.a_draft()
    bench.cloud.premises.job_checks_made = [DEAR]
    commands.submit_job(bench.farm, job)
    [problem] = queries.job_detail(bench.farm, job).problems
    assert (problem.severity, problem.text, problem.remedy) == ("warning", DEAR.text, "raise it")

    bench.cloud.premises.job_checks_made = []
    commands.cancel_job(bench.farm, job)
    commands.retry_job(bench.farm, job)

    assert queries.job_detail(bench.farm, job).problems == ()


def test_a_cloud_that_does_not_answer_keeps_nobody_from_submitting(bench: FakeFarm) -> None:
    job = bench.a_draft()
    bench.cloud.premises.fail_next(Unreachable("can't read the quotas: no answer"), call="job_checks")

    commands.submit_job(bench.farm, job)

    assert bench.status(job) is JobStatus.SUBMITTED


def test_a_farm_that_is_not_signed_in_says_so_when_a_job_is_submitted(bench: FakeFarm) -> None:
    job = bench.a_draft()
    bench.cloud.premises.fail_next(SignedOut("can't look for images: the farm is not signed in"), call="job_checks")

    with pytest.raises(Rejected, match="not signed in"):
        commands.submit_job(bench.farm, job)


@pytest.mark.parametrize("wish", ["resume", "retry"])
def test_a_job_is_checked_again_when_it_is_resumed_or_retried(bench: FakeFarm, wish: str) -> None:
    job = bench.a_submitted_job()
    status = JobStatus.PAUSED if wish == "resume" else JobStatus.CANCELLED
    bench.tick()
    (commands.pause_job if wish == "resume" else commands.cancel_job)(bench.farm, job)
    for _ in range(4):  # its instances never answer: they are given up, and given back
        bench.tick(after_s=120)
    assert bench.status(job) is status
    bench.cloud.premises.job_checks_made = [QUOTA]
    ask = commands.resume_job if wish == "resume" else commands.retry_job

    with pytest.raises(Rejected, match="no G instances"):
        ask(bench.farm, job)
    assert bench.status(job) is status

    bench.cloud.premises.job_checks_made = []
    ask(bench.farm, job)
    assert bench.status(job) is (JobStatus.LAUNCHING if wish == "resume" else JobStatus.SUBMITTED)
