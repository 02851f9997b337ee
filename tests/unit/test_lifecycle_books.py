"""The books: what is held and stored, in which month, and what is left of it when a job is deleted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from nodeimage.protocol import NodeState
from supervisor import queries
from supervisor.cloud.ports import Holding, Unreachable
from supervisor.commands import jobs as commands
from supervisor.domain.cost import MonthCost
from supervisor.domain.job import JobStatus
from supervisor.lifecycle.books import Books
from supervisor.queries import TypeFigures
from supervisor.store import ledger
from tests.fakes.farm import FakeFarm, a_renting_farm
from tests.fakes.node import FakeNodes


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return a_renting_farm(tmp_path)


@pytest.fixture
def books(bench: FakeFarm) -> Books:
    return Books(bench.farm)


def hold(bench: FakeFarm, job: str, *, id: str = "vol-1", kind: str = "volume", usd_per_month: str = "720") -> Holding:
    """Let the cloud hold something: by default for a dollar an hour."""
    made = Holding(id=id, job=job, kind=kind, gib=Decimal(30), usd_per_month=Decimal(usd_per_month), since=bench.clock())
    bench.cloud.premises.held.append(made)
    return made


def cost(bench: FakeFarm, job: str) -> Decimal:
    return queries.job_detail(bench.farm, job).cost.total_usd


def months(bench: FakeFarm, job: str) -> dict[str, MonthCost]:
    with bench.farm.db.read() as connection:
        found = {month: ledger.entry_of(connection, month, job) for month in ("2026-01", "2026-02")}
    return {month: entry.cost for month, entry in found.items() if entry}


def rendered(bench: FakeFarm, *, frames: int = 3, frame_s: float = 100.0) -> str:
    """A job of one instance that booted for 40 s and rendered its frames."""
    nodes = FakeNodes(bench)
    job = bench.a_submitted_job(frames=f"1-{frames}")
    bench.tick()
    bench.tick(after_s=40)
    nodes.only().beat(NodeState.STARTING)
    bench.tick(after_s=0)
    for number in range(1, frames + 1):
        nodes.only().begin()
        bench.tick(after_s=frame_s)
        nodes.only().deliver(number, render_s=frame_s)
    bench.tick(after_s=0)
    bench.tick(after_s=0)
    assert bench.status(job) is JobStatus.COMPLETED
    return job


def test_what_is_held_costs_from_its_making_until_it_is_missed(bench: FakeFarm, books: Books) -> None:
    job = bench.a_draft()
    hold(bench, job)
    bench.clock.pass_s(30)
    books.keep()
    for _ in range(60):
        bench.clock.pass_s(60)
        books.keep()
    assert cost(bench, job) == Decimal("1.0083")  # 3630 s

    bench.cloud.premises.held.clear()
    bench.clock.pass_s(60)
    books.keep()
    bench.clock.pass_s(9999)
    books.keep()

    assert cost(bench, job) == Decimal("1.0250")  # 3690 s
    assert months(bench, job)["2026-01"].total_usd == Decimal("1.0250")


def test_each_kind_of_holding_has_its_part(bench: FakeFarm, books: Books) -> None:
    job = bench.a_draft()
    for kind in ("volume", "snapshot", "instance"):
        hold(bench, job, id=kind, kind=kind)
    books.keep()
    bench.clock.pass_s(3600)

    found = queries.job_detail(bench.farm, job).cost

    assert (found.volumes_usd, found.snapshots_usd, found.preparing_usd) == (Decimal(1), Decimal(1), Decimal(1))


def test_holdings_that_can_not_be_read_are_left_as_they_were(bench: FakeFarm, books: Books) -> None:
    job = bench.a_draft()
    hold(bench, job)
    books.keep()
    bench.cloud.premises.fail_next(Unreachable("no answer"), call="holdings")
    bench.clock.pass_s(3600)
    books.keep()

    assert cost(bench, job) == Decimal(1)
    assert months(bench, job)["2026-01"].volumes_usd == Decimal(1)


def test_what_went_while_the_farm_was_off_ended_with_its_jobs_last_instance(bench: FakeFarm, books: Books) -> None:
    job = bench.a_rendering_job(frames="1-9")
    hold(bench, job)
    books.keep()
    node = FakeNodes(bench).only()
    node.begin()
    bench.tick()
    bench.clock.pass_s(1800)
    node.leave()
    bench.cloud.premises.held.clear()
    bench.clock.pass_s(10 * 3600)
    bench.restart()
    bench.cloud.compute.fail_next(Unreachable("no capacity"), call="launch")

    Books(bench.farm).keep()  # before the first tick, as it may be: the run is still open
    bench.tick()
    Books(bench.farm).keep()

    volumes = queries.job_detail(bench.farm, job).cost.volumes_usd
    assert Decimal("0.50") < volumes < Decimal("0.52")


def test_what_is_stored_is_added_up_as_time_goes_by(bench: FakeFarm, books: Books) -> None:
    bench.cloud.prices.stored = Decimal(720)  # a dollar an hour and gibibyte
    job = bench.a_draft(blend=None)
    bench.a_file(job, "shot.blend", body=b"B" * (1 << 20))
    books.keep()
    for _ in range(4):
        bench.clock.pass_s(900)
        books.keep()

    assert cost(bench, job) == (Decimal(1) / 1024).quantize(Decimal("0.0001"))


def test_received_frames_are_stored_too(bench: FakeFarm, books: Books) -> None:
    bench.cloud.prices.stored = Decimal(720 << 30)  # a dollar an hour and byte
    job = rendered(bench, frames=2)
    books.keep()
    bench.clock.pass_s(3600)
    books.keep()

    stored = len(b"BLENDER") + 2 * len(b"picture 1")
    assert months(bench, job)["2026-01"].storage_usd == stored


def test_storage_over_the_end_of_a_month_costs_in_each_its_share(bench: FakeFarm, books: Books) -> None:
    bench.cloud.prices.stored = Decimal(720 << 30)
    bench.clock.at = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)
    job = bench.a_draft()
    books.keep()
    bench.clock.pass_s(3 * 3600)
    books.keep()

    assert {month: found.storage_usd for month, found in months(bench, job).items()} == {"2026-01": 7, "2026-02": 14}


def test_a_jobs_months_add_up_to_what_its_page_shows(bench: FakeFarm, books: Books) -> None:
    bench.clock.at = datetime(2026, 1, 31, 23, 58, tzinfo=UTC)
    job = rendered(bench)
    hold(bench, job, kind="snapshot")
    books.keep()
    bench.clock.pass_s(600)
    books.keep()

    found = months(bench, job)

    assert set(found) == {"2026-01", "2026-02"}
    assert (found["2026-01"] + found["2026-02"]).total_usd == cost(bench, job)
    assert queries.job_summary(bench.farm, job).cost_usd == cost(bench, job)


def test_the_list_shows_by_the_second_what_running_jobs_cost(bench: FakeFarm, books: Books) -> None:
    job = bench.a_rendering_job(frames="1-9")
    books.keep()
    bench.clock.pass_s(100)

    assert queries.job_list(bench.farm)[0].cost_usd == cost(bench, job) == Decimal("0.101")


def test_a_deleted_jobs_snapshot_goes_on_counting_for_the_month(bench: FakeFarm, books: Books) -> None:
    job = rendered(bench)
    hold(bench, job, kind="snapshot")
    books.keep()
    spent = cost(bench, job)
    commands.delete_job(bench.farm, job)
    bench.clock.pass_s(3600)
    books.keep()
    bench.clock.pass_s(3600)
    books.keep()

    month = queries.month(bench.farm)

    assert month is not None
    assert month.cost.total_usd == spent + 2
    assert [entry.name for entry in month.jobs] == ["shot"]


def test_long_gone_holdings_of_deleted_jobs_are_forgotten_and_their_months_are_not(bench: FakeFarm, books: Books) -> None:
    job = rendered(bench)
    hold(bench, job, kind="snapshot")
    books.keep()
    commands.delete_job(bench.farm, job)
    bench.clock.pass_s(3600)
    bench.cloud.premises.held.clear()
    books.keep()
    before = months(bench, job)
    bench.clock.pass_s(70 * 86400)
    books.keep()
    books.keep()

    assert months(bench, job) == before
    with bench.farm.db.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM holdings").scalar() == 0


def test_statistics_tell_frames_by_time_and_money_of_each_kind_of_instance(bench: FakeFarm, books: Books) -> None:
    job = rendered(bench, frames=4)
    books.keep()

    (figures,) = queries.statistics(bench.farm)

    paid_s = 40 + 4 * 100
    assert figures == TypeFigures(
        instance_type="fake.large",
        market="on_demand",
        jobs=1,
        instances=1,
        frames=4,
        frame_s=100.0,
        frames_per_h=4 * 3600 / paid_s,
        frames_per_usd=float(4 / Decimal("0.44")),
        boot_s=40.0,
        rendering_pct=100 * 400 / paid_s,
        paid_s=paid_s,
        usd=Decimal("0.440"),
    )
    commands.delete_job(bench.farm, job)
    assert queries.statistics(bench.farm) == [figures]


def test_statistics_of_a_job_deleted_before_the_books_saw_it_are_kept(bench: FakeFarm) -> None:
    job = rendered(bench)
    commands.delete_job(bench.farm, job)

    assert [figures.frames for figures in queries.statistics(bench.farm)] == [3]
    month = queries.month(bench.farm)
    assert month is not None
    assert month.cost.instances_usd == Decimal("0.340")


def test_keeping_the_books_again_changes_nothing(bench: FakeFarm, books: Books) -> None:
    job = rendered(bench)
    hold(bench, job)
    books.keep()
    before, figures = months(bench, job), queries.statistics(bench.farm)
    books.keep()
    Books(bench.farm).keep()

    assert months(bench, job) == before
    assert queries.statistics(bench.farm) == figures


def test_an_estimate_uses_the_same_file_of_a_deleted_job(bench: FakeFarm, books: Books) -> None:
    commands.delete_job(bench.farm, rendered(bench))
    draft = bench.a_draft()

    found = queries.job_estimate(bench.farm, draft, replace(queries.job_detail(bench.farm, draft).settings, frames="1-100"))

    assert found is not None
    assert found.frame_s is not None
    assert (found.basis, found.measured, found.frame_s.low) == ("file", 3, 100.0)
    assert found.types[0].offer.boot_s == 40.0  # as measured


def test_nothing_is_estimated_on_a_farm_that_rendered_nothing(bench: FakeFarm) -> None:
    found = queries.job_estimate(bench.farm, bench.a_draft())
    assert found is not None
    assert (found.frames, found.basis, found.wall_s, found.usd) == (3, None, None, None)
    assert queries.job_estimate(bench.farm, bench.a_draft(blend=None)) is None
