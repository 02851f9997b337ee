"""What nobody owns is given back: strays, old workspaces, and whatever deleted jobs left behind."""

from __future__ import annotations

from decimal import Decimal

from nodeimage.protocol import NODES_PREFIX, status_key
from supervisor import queries
from supervisor.cloud.ports import LaunchSpec, Unreachable
from supervisor.commands import jobs as commands
from supervisor.commands.files import begin_file
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.lifecycle.deleting import delete_leftovers
from supervisor.lifecycle.sweep import delete_old_heartbeats, sweep, sweep_report
from supervisor.store import deletions
from supervisor.store.files import open_uploads
from tests.fakes.farm import FakeFarm
from tests.fakes.node import FakeNodes


def _completed(bench: FakeFarm) -> str:
    job = bench.a_submitted_job(frames="1-2")
    nodes = FakeNodes(bench)
    while not queries.job_summary(bench.farm, job).ended_at:
        bench.tick()
        nodes.work()
    return job


def _stray(bench: FakeFarm, job: str) -> str:
    """An instance that was rented for a job and that our database knows nothing of."""
    spec = LaunchSpec(
        job=job,
        count=1,
        market=Market.ON_DEMAND,
        max_price_usd_per_h=None,
        instance_types=(),
        workspace="snap",
        blender_version=(4, 5),
    )
    bench.cloud.compute.launch(spec, request_id=f"stray-{job}")
    return bench.cloud.compute.alive()[-1].id


def _objects_of(bench: FakeFarm, job: str) -> list[str]:
    return [key for key in bench.cloud.objects.keys("") if job in key]


def test_an_instance_of_an_unknown_job_is_ended(bench: FakeFarm) -> None:
    stray = _stray(bench, "job_of_another_life")

    swept = sweep(bench.farm)

    assert [thing.id for thing in swept] == [stray]
    assert bench.cloud.compute.alive() == []


def test_an_instance_of_an_ended_job_is_ended(bench: FakeFarm) -> None:
    job = _completed(bench)
    stray = _stray(bench, job)

    assert [(thing.id, "completed" in thing.what) for thing in sweep(bench.farm)] == [(stray, True)]
    assert bench.cloud.compute.alive() == []


def test_a_dry_run_names_what_it_would_give_back_and_leaves_it(bench: FakeFarm) -> None:
    stray = _stray(bench, "job_of_another_life")
    bench.cloud.premises.strays = {"upload-1": "job_x"}

    assert [thing.id for thing in sweep_report(bench.farm, dry_run=True)] == [stray, "upload-1"]

    assert len(bench.cloud.compute.alive()) == 1
    assert bench.cloud.premises.strays


def test_a_rendering_job_is_left_alone(bench: FakeFarm) -> None:
    bench.a_rendering_job()

    assert sweep(bench.farm) == []
    assert len(bench.cloud.compute.alive()) == 1


def test_a_workspace_is_kept_for_a_retry_and_then_given_back(bench: FakeFarm) -> None:
    job = _completed(bench)
    assert sweep(bench.farm) == []
    assert list(bench.cloud.workspaces.jobs()) == [job]

    bench.clock.pass_s(73 * 3600)

    assert [thing.id for thing in sweep(bench.farm)] == [job]
    assert list(bench.cloud.workspaces.jobs()) == []


def test_a_paused_jobs_workspace_is_kept_however_long(bench: FakeFarm) -> None:
    job = bench.a_submitted_job()
    bench.tick()
    commands.pause_job(bench.farm, job)
    bench.tick()
    bench.tick()
    assert bench.status(job) is JobStatus.PAUSED
    bench.clock.pass_s(1000 * 3600)

    assert sweep(bench.farm) == []
    assert list(bench.cloud.workspaces.jobs()) == [job]


def test_status_objects_of_nodes_that_ended_are_deleted_after_a_while(bench: FakeFarm) -> None:
    _completed(bench)
    bench.a_rendering_job()
    FakeNodes(bench).only().beat()
    kept = FakeNodes(bench).only().name
    assert len(bench.cloud.objects.keys(NODES_PREFIX)) == 2
    bench.clock.pass_s(3700)

    delete_old_heartbeats(bench.farm)

    assert bench.cloud.objects.keys(NODES_PREFIX) == [status_key(kept)]


def test_a_deleted_job_leaves_nothing_in_the_bucket_nor_on_the_disk(bench: FakeFarm) -> None:
    job = _completed(bench)
    other = _completed(bench)
    bench.cloud.uploads.begin(f"projects/{job}/big.vdb")

    commands.delete_job(bench.farm, job)
    delete_leftovers(bench.farm)

    assert not _objects_of(bench, job)
    assert _objects_of(bench, other)
    assert list(bench.cloud.workspaces.jobs()) == [other]
    with bench.farm.db.read() as connection:
        assert deletions.deletions_left(connection) == []


def test_a_deletion_that_the_store_interrupts_goes_on_later(bench: FakeFarm) -> None:
    job = _completed(bench)
    commands.delete_job(bench.farm, job)
    bench.cloud.objects.fail_next(Unreachable("no answer"), call="delete")

    delete_leftovers(bench.farm)
    assert _objects_of(bench, job)
    delete_leftovers(bench.farm)

    assert not _objects_of(bench, job)


def test_what_instances_cost_is_added_up_to_the_second(bench: FakeFarm) -> None:
    bench.cloud.compute.price_usd_per_h = Decimal("3.60")
    job = bench.a_submitted_job(frames="1-4", instances=2)
    bench.tick()
    bench.clock.pass_s(99)
    bench.tick()
    commands.cancel_job(bench.farm, job)
    bench.tick()
    bench.tick()
    bench.clock.pass_s(3600)

    assert bench.status(job) is JobStatus.CANCELLED
    assert queries.job_detail(bench.farm, job).cost.total_usd == Decimal("0.2040")


def test_an_upload_that_no_file_knows_of_is_removed_and_one_that_goes_on_stays(bench: FakeFarm) -> None:
    job = bench.a_draft(blend=None)
    plan = begin_file(bench.farm, job, path="scene.blend", length=1000)
    with bench.farm.db.read() as connection:
        (going_on,) = open_uploads(connection)
    bench.cloud.premises.uploads = {"left_by_a_farm_that_died", going_on}

    swept = sweep(bench.farm)

    assert [thing.id for thing in swept] == ["left_by_a_farm_that_died"]
    assert bench.cloud.premises.uploads == {going_on}
    assert plan.received == ()
