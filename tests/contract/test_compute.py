"""The contract of Compute: in memory, with processes on this machine, and on EC2 as moto plays it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supervisor.cloud.local.blender import LocalBlender
from supervisor.cloud.local.compute import LocalCompute, NodeStore, stop_nodes
from supervisor.cloud.ports import Compute, LaunchSpec, NoCapacity, RentedInstance
from supervisor.config import LaunchConfig, NodeTimes
from supervisor.domain.instance import InstanceStatus, Market
from tests.aws.farm import Renting, set_up_farm
from tests.aws.moto_server import Moto
from tests.fakes import FakeCompute
from tests.waiting import wait_until

SLOTS = 3
SPEC = LaunchSpec(
    job="job_a",
    count=2,
    market=Market.ON_DEMAND,
    max_price_usd_per_h=None,
    instance_types=(),
    workspace="frozen-job_a",
    blender_version=(4, 5),
)
#: Waits to be ended, as an agent does that has nothing to do.
AGENT = "import signal; signal.pause()"


@dataclass
class Place:
    compute: Compute
    lose: Callable[[RentedInstance], None]  #: make an instance end by itself
    spec: LaunchSpec = SPEC

    def all_in(self, status: InstanceStatus) -> list[RentedInstance]:
        instances = list(self.compute.instances())
        return instances if all(instance.status is status for instance in instances) else []


def local_compute(
    folder: Path,
    *,
    agent: str = AGENT,
    command: Sequence[str] = (),
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    is_owner: bool = True,
) -> LocalCompute:
    """Compute whose agents run the Python code `agent` (or are the `command`)."""
    snapshot = folder / "frozen"
    snapshot.mkdir(parents=True, exist_ok=True)
    (snapshot / "scene.blend").touch()
    return LocalCompute(
        folder / "nodes",
        slots=SLOTS,
        threads=0,
        store=NodeStore(endpoint="http://127.0.0.1:9", region="us-east-1", bucket="kiln", access_key="a", secret_key="s"),
        times=NodeTimes(),
        blenders=lambda: [LocalBlender(command="blender", kind="blender", version="4.5.15")],
        snapshot_folder=lambda snapshot: folder / "frozen",
        clock=clock,
        agent=command or (sys.executable, "-c", agent),
        is_owner=is_owner,
    )


@pytest.fixture(params=["fake", "local", "ec2"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "fake":
        fake = FakeCompute(slots=SLOTS)
        yield Place(fake, lambda instance: fake.end_instance(instance.id))
        return
    if request.param == "ec2":
        moto: Moto = request.getfixturevalue("moto")
        set_up_farm(moto)
        renting = Renting(request.getfixturevalue("aws_session"), launch=LaunchConfig(max_instances=SLOTS))
        # of the spot market, where stopping means terminating
        spec = replace(SPEC, market=Market.SPOT)
        yield Place(renting.compute, lambda instance: moto.tell("lose", instance=instance.id), spec)
        return
    compute = local_compute(tmp_path)
    yield Place(compute, lambda instance: kill(compute, instance))
    compute.close()
    stop_nodes(tmp_path / "nodes", grace_s=0)


def kill(compute: LocalCompute, instance: RentedInstance) -> None:
    process = compute.process_of(instance.id)
    assert process is not None
    process.kill()


def test_launched_instances_come_to_run(place: Place) -> None:
    assert place.compute.launch(place.spec, request_id="r1") == 2
    running = wait_until(lambda: place.all_in(InstanceStatus.RUNNING))
    assert {(instance.job, instance.request_id) for instance in running} == {("job_a", "r1")}
    assert len({instance.id for instance in running}) == len({instance.node for instance in running}) == 2
    assert all(instance.launched_at.tzinfo for instance in running)


def test_asking_again_with_the_same_request_launches_nothing_new(place: Place) -> None:
    place.compute.launch(place.spec, request_id="r1")
    assert place.compute.launch(place.spec, request_id="r1") == 2
    assert len(place.compute.instances()) == 2


def test_fewer_are_granted_where_slots_run_out(place: Place) -> None:
    assert place.compute.free_slots() == SLOTS
    assert place.compute.launch(replace(place.spec, count=SLOTS + 5), request_id="r1") == SLOTS
    assert place.compute.free_slots() == 0


def test_nothing_is_launched_without_a_free_slot(place: Place) -> None:
    place.compute.launch(replace(place.spec, count=SLOTS), request_id="r1")
    with pytest.raises(NoCapacity, match="job_b"):
        place.compute.launch(replace(place.spec, job="job_b"), request_id="r2")
    assert {instance.job for instance in place.compute.instances()} == {"job_a"}


def test_terminated_instance_ends_and_frees_its_slot(place: Place) -> None:
    place.compute.launch(place.spec, request_id="r1")
    running = wait_until(lambda: place.all_in(InstanceStatus.RUNNING))
    place.compute.terminate([instance.id for instance in running])
    wait_until(lambda: place.all_in(InstanceStatus.TERMINATED))
    assert place.compute.free_slots() == SLOTS


def test_instance_terminated_before_it_runs_ends_all_the_same(place: Place) -> None:
    place.compute.launch(place.spec, request_id="r1")
    place.compute.terminate([instance.id for instance in place.compute.instances()])
    wait_until(lambda: place.all_in(InstanceStatus.TERMINATED))


def test_terminating_unknown_or_ended_instances_is_no_error(place: Place) -> None:
    place.compute.launch(place.spec, request_id="r1")
    running = wait_until(lambda: place.all_in(InstanceStatus.RUNNING))
    for _ in range(2):
        place.compute.terminate(["local_nobody", running[0].id])
    wait_until(lambda: place.compute.instances()[0].status is InstanceStatus.TERMINATED)
    place.compute.terminate([running[0].id])
    assert [instance.status for instance in place.compute.instances()] == [InstanceStatus.TERMINATED, InstanceStatus.RUNNING]


def test_instance_that_ends_by_itself_is_shown_as_terminated_with_a_note(place: Place) -> None:
    place.compute.launch(replace(place.spec, count=1), request_id="r1")
    [instance] = wait_until(lambda: place.all_in(InstanceStatus.RUNNING))
    place.lose(instance)
    [ended] = wait_until(lambda: place.all_in(InstanceStatus.TERMINATED))
    assert ended.id == instance.id
    assert ended.note


def test_request_whose_instances_have_ended_launches_nothing_new(place: Place) -> None:
    place.compute.launch(replace(place.spec, count=1), request_id="r1")
    wait_until(lambda: place.all_in(InstanceStatus.RUNNING))
    place.compute.terminate([instance.id for instance in place.compute.instances()])
    wait_until(lambda: place.all_in(InstanceStatus.TERMINATED))
    assert place.compute.launch(replace(place.spec, count=1), request_id="r1") == 1
    assert len(place.compute.instances()) == 1


def test_stopping_where_nothing_can_be_started_again_terminates(place: Place) -> None:
    place.compute.launch(replace(place.spec, count=1), request_id="r1")
    [instance] = wait_until(lambda: place.all_in(InstanceStatus.RUNNING))
    place.compute.stop([instance.id])
    wait_until(lambda: place.all_in(InstanceStatus.TERMINATED))
    place.compute.start([instance.id])
    assert place.all_in(InstanceStatus.TERMINATED)
