"""Caps of jobs and of the month: warned of, kept to, and never quietly passed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from supervisor import queries
from supervisor.cloud.ports import Holding
from supervisor.commands import jobs as commands
from supervisor.domain.budget import OverBudget
from supervisor.domain.errors import Conflict, Rejected
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.lifecycle.books import Books
from tests.fakes.farm import FakeFarm, a_renting_farm
from tests.fakes.node import FakeNodes


def capped(usd: str) -> JobSettings:
    return JobSettings(max_cost_usd=Decimal(usd))


def cost(bench: FakeFarm, job: str) -> Decimal:
    return queries.job_detail(bench.farm, job).cost.total_usd


def codes(bench: FakeFarm, job: str) -> set[str]:
    return {problem.code for problem in queries.job_detail(bench.farm, job).problems}


def reason(bench: FakeFarm, job: str) -> str:
    return queries.job_summary(bench.farm, job).reason


def run_until(bench: FakeFarm, nodes: FakeNodes, is_so: Callable[[], bool], *, tick_s: float = 25.0, frame_ticks: int = 3) -> None:
    """Let time pass, each frame taking `frame_ticks` ticks, until something is so."""
    for n in range(400):
        if is_so():
            return
        bench.tick(after_s=tick_s)
        if n % frame_ticks == 0:
            work(nodes, tick_s * frame_ticks)
        else:
            for node in nodes.alive():
                for frame in node.claims:
                    node.beat(frame=frame)
    raise AssertionError("it never came to be so")


def work(nodes: FakeNodes, frame_s: float) -> None:
    """As `FakeNodes.work`, with frames that say how long they took."""
    for node in nodes.alive():
        order = node.order()
        for frame in list(node.claims):
            node.deliver(frame, render_s=frame_s)
        if order and order.action != "render":
            node.leave()
        else:
            node.begin()


def test_a_job_warns_at_its_share_pauses_at_its_cap_and_stays_so(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames="1-500", settings=capped("2.00"))
    warned: list[Decimal] = []

    def is_paused() -> bool:
        if "cost_cap" in codes(bench, job) and not warned:
            warned.append(cost(bench, job))
        return bench.status(job) is JobStatus.PAUSED

    run_until(bench, nodes, is_paused)

    assert Decimal("1.60") <= warned[0] < Decimal("1.65")
    assert reason(bench, job).startswith("its cost reached its cap of $2.00: $1.")
    assert reason(bench, job).endswith(" is spent, and the next frames would pass it")
    assert [p.text for p in queries.job_detail(bench.farm, job).problems] == ["its cost reached its cap of $2.00"]
    assert Decimal("1.85") < cost(bench, job) <= Decimal("2.00")
    assert bench.cloud.compute.alive() == []
    for _ in range(5):
        bench.tick(after_s=600)
    assert bench.status(job) is JobStatus.PAUSED


def test_a_job_that_ends_within_its_cap_warns_of_it_no_more(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames="1-12", settings=capped("1.10"))
    run_until(bench, nodes, lambda: "cost_cap" in codes(bench, job))
    run_until(bench, nodes, lambda: bench.status(job) is JobStatus.COMPLETED)

    assert "cost_cap" not in codes(bench, job)


def test_no_frame_is_lost_when_a_job_pauses_at_its_cap(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames="1-500", instances=3, settings=capped("3.00"))

    run_until(bench, nodes, lambda: bench.status(job) is JobStatus.PAUSED)

    assert not any("queued again" in event.text for event in queries.job_events(bench.farm, job))
    assert cost(bench, job) <= Decimal("3.00")


def test_a_frame_that_takes_far_longer_than_others_is_ended_a_tenth_above_the_cap(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames="1-500", settings=capped("2.00"))
    run_until(bench, nodes, lambda: cost(bench, job) > 1)
    node = nodes.only()

    for _ in range(400):  # it renders on and on
        if bench.status(job) is JobStatus.PAUSED:
            break
        bench.tick(after_s=20)
        node.beat(frame=next(iter(node.claims)))

    assert bench.status(job) is JobStatus.PAUSED
    assert Decimal("2.20") <= cost(bench, job) < Decimal("2.25")
    assert bench.cloud.compute.alive() == []


def test_resuming_is_refused_with_numbers_while_the_cap_is_reached(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames="1-500", settings=capped("2.00"))
    run_until(bench, nodes, lambda: bench.status(job) is JobStatus.PAUSED)

    with pytest.raises(OverBudget, match=r"its cost is \$1\.\d\d; its cap of \$2.00 a?.*raise its cap first"):
        commands.resume_job(bench.farm, job)

    commands.change_cap(bench.farm, job, Decimal("2.60"))
    assert "cost_cap" not in codes(bench, job)
    assert bench.status(job) is JobStatus.PAUSED
    commands.resume_job(bench.farm, job)
    run_until(bench, nodes, lambda: bench.status(job) is JobStatus.PAUSED)
    assert Decimal("2.30") < cost(bench, job) <= Decimal("2.60")


def test_no_more_instances_are_launched_than_there_is_money_for(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    job = bench.a_submitted_job(frames="1-500", instances=20, settings=capped("1.00"))

    for _ in range(20):
        bench.tick()

    assert len(bench.cloud.compute.alive()) == 3  # five minutes of each are 30 cents
    assert "3 of 20 instances at once" in next(p.text for p in queries.job_detail(bench.farm, job).problems if p.code == "cost_fewer")


def test_instances_that_the_cloud_does_not_show_yet_count_too(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    bench.cloud.compute.hide_new_instances()
    bench.a_submitted_job(frames="1-500", instances=20, settings=capped("1.00"))

    for _ in range(20):
        bench.tick()

    assert len(bench.cloud.compute.alive()) == 3


def test_a_cap_below_the_first_minutes_of_an_instance_is_refused_at_once(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    job = bench.a_draft()
    with pytest.raises(OverBudget, match=r"its cap of \$0.20 is nearly reached, and an instance's first minutes \(about \$0.30\)"):
        commands.submit_job(bench.farm, job, capped("0.20"))
    assert queries.job_detail(bench.farm, job).summary.status is JobStatus.DRAFT


def test_the_farms_cap_holds_for_jobs_without_one_of_their_own(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path, max_usd_per_job=2.0)
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames="1-500")

    run_until(bench, nodes, lambda: bench.status(job) is JobStatus.PAUSED)

    assert reason(bench, job).startswith("its cost reached its cap of $2.00")


def test_only_an_administrator_gives_a_job_a_cap_beyond_the_farms(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path, max_usd_per_job=2.0)
    job = bench.a_draft()
    with pytest.raises(Rejected, match=r"an administrator can give it a cap of \$5.00"):
        commands.change_settings(bench.farm, job, capped("5"))
    with pytest.raises(Rejected, match=r"may cost \$2.00"):
        commands.change_cap(bench.farm, job, Decimal(5))

    commands.change_cap(bench.farm, job, Decimal(5), by_admin=True)
    commands.submit_job(bench.farm, job)  # its owner, who leaves the cap as it is

    assert queries.job_detail(bench.farm, job).cap_usd == Decimal(5)


def test_an_ended_job_takes_no_cap(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    job = bench.a_submitted_job()
    commands.cancel_job(bench.farm, job)
    with pytest.raises(Conflict, match="this job is cancelled"):
        commands.change_cap(bench.farm, job, Decimal(5))


def test_a_farm_that_renders_itself_takes_no_cap(tmp_path: Path) -> None:
    bench = FakeFarm.open(tmp_path)
    with pytest.raises(Rejected, match="costs nothing"):
        commands.submit_job(bench.farm, bench.a_draft(), capped("5"))


def test_every_job_pauses_at_the_months_cap_and_none_is_begun(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path, max_usd_per_month=3.0)
    nodes = FakeNodes(bench)
    both = [bench.a_submitted_job(frames="1-500"), bench.a_submitted_job(frames="1-500")]

    run_until(bench, nodes, lambda: all(bench.status(job) is JobStatus.PAUSED for job in both))

    assert all(reason(bench, job).startswith("all jobs together reached the farm's cap of $3.00 a month: $2.") for job in both)
    month = queries.month(bench.farm)
    assert month is not None
    assert Decimal("2.7") < month.cost.total_usd <= Decimal("3.0")
    draft = bench.a_draft()
    with pytest.raises(OverBudget, match=r"all jobs together cost \$2.\d\d this month; the farm's cap of \$3.00 a month"):
        commands.submit_job(bench.farm, draft)
    assert "the farm's cap of $3.00 a month" in queries.job_detail(bench.farm, draft).blockers[0]


def test_a_job_that_the_month_has_no_money_for_pauses_while_another_goes_on(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path, max_usd_per_month=3.0)
    nodes = FakeNodes(bench)
    first = bench.a_submitted_job(frames="1-500")
    run_until(bench, nodes, lambda: cost(bench, first) > Decimal("2.58"))
    second = bench.a_submitted_job(frames="1-500")  # what is spent leaves enough; what the first one is about to spend does not
    for _ in range(9):
        bench.tick()

    assert bench.status(second) is JobStatus.PAUSED
    assert reason(bench, second).startswith("all jobs together reached the farm's cap of $3.00 a month: $2.")
    assert bench.status(first) is JobStatus.RENDERING
    assert len(bench.cloud.compute.launches) == 1


def test_deleting_jobs_does_not_make_the_month_cheaper(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path, max_usd_per_month=3.0)
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames="1-500")
    run_until(bench, nodes, lambda: cost(bench, job) > 1)
    commands.cancel_job(bench.farm, job)
    run_until(bench, nodes, lambda: bench.status(job) is JobStatus.CANCELLED)
    spent = cost(bench, job)

    commands.delete_job(bench.farm, job)

    month = queries.month(bench.farm)
    assert month is not None
    assert month.cost.total_usd == spent
    assert [entry.job for entry in month.jobs] == [job]


def test_a_new_month_begins_with_nothing_spent(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path, max_usd_per_month=3.0)
    bench.clock.at = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames="1-500")
    run_until(bench, nodes, lambda: bench.clock() > datetime(2026, 2, 1, 0, 20, tzinfo=UTC))

    month = queries.month(bench.farm)

    assert month is not None
    assert month.month == "2026-02"
    assert Decimal("1.2") <= month.cost.total_usd < Decimal("1.3")
    assert cost(bench, job) > Decimal("2.9")


def test_what_no_job_owns_counts_for_the_month(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path, max_usd_per_month=3.0)
    image = Holding(id="snap-1", job="", kind="snapshot", gib=Decimal(8), usd_per_month=Decimal(720), since=bench.clock())
    bench.cloud.premises.held = [image]
    Books(bench.farm).keep()
    bench.clock.pass_s(2.95 * 3600)
    Books(bench.farm).keep()

    with pytest.raises(OverBudget, match=r"all jobs together cost \$2.95 this month"):
        commands.submit_job(bench.farm, bench.a_draft())


def test_what_has_no_known_price_is_not_begun_under_a_cap(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    settings = JobSettings(instance_types=("odd-large",), max_cost_usd=Decimal(5))
    bench.cloud.prices.default = None
    with pytest.raises(OverBudget, match="does not know what odd-large cost"):
        commands.submit_job(bench.farm, bench.a_draft(), settings)


def test_only_the_types_whose_price_is_not_known_are_named(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    bench.cloud.prices.default = None
    bench.cloud.prices.by_type[("known-large", Market.ON_DEMAND)] = Decimal(1)
    settings = JobSettings(instance_types=("known-large", "odd-large", "odd-small"), max_cost_usd=Decimal(5))

    with pytest.raises(OverBudget, match="does not know what odd-large, odd-small cost"):
        commands.submit_job(bench.farm, bench.a_draft(), settings)


def test_a_price_that_is_no_longer_known_pauses_a_job_that_waits_for_an_instance(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    job = bench.a_submitted_job(settings=capped("5"))
    bench.cloud.prices.default = None

    for _ in range(9):
        bench.tick()

    assert bench.status(job) is JobStatus.PAUSED
    assert "does not know what fake.large cost" in reason(bench, job)
    assert bench.cloud.compute.launches == []


def test_spot_whose_price_is_not_known_counts_as_on_demand_and_never_above_the_bid(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    bench.cloud.prices.default = None
    bench.cloud.prices.by_type = {("fake.large", Market.ON_DEMAND): Decimal("3.60")}
    bench.a_submitted_job(frames="1-500", instances=20, settings=JobSettings(market=Market.SPOT, max_cost_usd=Decimal(1)))
    bid = JobSettings(market=Market.SPOT, max_cost_usd=Decimal(1), max_price_usd_per_h=Decimal("1.20"))
    bench.a_submitted_job(frames="1-500", instances=20, settings=bid)

    bench.tick()

    assert sorted(launch.count for launch in bench.cloud.compute.launches) == [3, 10]


def test_a_retry_is_refused_while_the_cap_is_reached(tmp_path: Path) -> None:
    bench = a_renting_farm(tmp_path)
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames="1-500", settings=capped("2.00"))
    run_until(bench, nodes, lambda: bench.status(job) is JobStatus.PAUSED)
    commands.cancel_job(bench.farm, job)
    bench.tick()
    bench.tick()

    with pytest.raises(OverBudget, match="raise its cap first"):
        commands.retry_job(bench.farm, job)
