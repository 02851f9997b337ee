"""Whatever befalls the calls that make, freeze and give back: a workspace ends with one snapshot in use, and nothing else rented."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from supervisor.cloud.aws.session import AwsSession
from supervisor.cloud.ports import CloudError, StagedFile, WorkspaceState

from .faults import Call, Crash, Fault, Way, breakable
from .moto_server import Moto
from .workspace_place import WorkspacePlace

JOB = "job_a"
FILES = [StagedFile(path="scene.blend", key=f"projects/{JOB}/scene.blend", bytes=7, checksum=f"crc32:{zlib.crc32(b'BLENDER'):08x}")]
MAKING = ["RunInstances", "CreateSnapshot", "DeleteVolume", "DescribeSnapshots"]
FAULTS = [
    Fault.THROTTLED_FOR_GOOD,
    Fault.UNREACHABLE,
    Fault.DIED_BEFORE,
    Fault.DIED_AFTER,
    Fault.REPLY_LOST,
    Fault.REPLY_LOST_FOR_GOOD,
]


@dataclass
class FirstOf:
    """A plan by which the farm's first call of an operation meets a fault; what the tests themselves ask goes well."""

    operation: str
    fault: Fault
    is_on: bool = False
    met: int | None = None  #: number of the call

    def __call__(self, call: Call) -> Fault | None:
        if self.met is None and self.is_on and call.operation == self.operation:
            self.met = call.number
        return self.fault if call.number == self.met else None


@pytest.fixture
def way() -> Iterator[Way]:
    with breakable(Way()) as way:
        yield way


@pytest.fixture
def place(moto: Moto, aws_session: AwsSession) -> WorkspacePlace:
    place = WorkspacePlace(moto, aws_session)
    place.objects.put(FILES[0].key, b"BLENDER")
    moto.change(is_slow=True)
    return place


def tick(place: WorkspacePlace, way: Way, plan: FirstOf) -> WorkspaceState | None:
    """A tick that may meet the fault; the farm is started again if it dies. Returns: what it saw at its end, if it came so far"""
    place.clock.pass_s(15)
    plan.is_on = True
    try:
        return _tick(place)
    except CloudError:
        return None
    except Crash:
        way.is_dead = False
        place.restart()
        return None
    finally:
        plan.is_on = False


def _tick(place: WorkspacePlace) -> WorkspaceState | None:
    state = place.workspaces.state(JOB)
    if state is None or not (state.is_staged or state.problem):
        place.workspaces.stage(JOB, FILES, request_id="r1")
        state = place.workspaces.state(JOB)
    if state and state.is_staged and not state.snapshot:
        place.workspaces.snapshot(JOB, request_id="r1")
        state = place.workspaces.state(JOB)
    return state


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", MAKING)
def test_workspace_survives_a_fault(place: WorkspacePlace, way: Way, operation: str, fault: Fault) -> None:
    plan = FirstOf(operation, fault)
    way.take(plan)
    state = None
    for _ in range(20):
        state = tick(place, way, plan)
        if state and state.snapshot:
            break
        place.moto.tell("settle")
        place.player.work()
    assert plan.met is not None
    assert state is not None
    assert state.snapshot
    place.moto.tell("settle")
    assert place.player.staging_instances("running", "pending") == []
    assert place.volumes() == []
    made = [each["SnapshotId"] for each in place.snapshots()]
    # EC2 takes no token for snapshots: a lost reply that botocore asks for again makes two. The sweep deletes the second.
    assert len(made) == (2 if (operation, fault) == ("CreateSnapshot", Fault.REPLY_LOST) else 1)
    assert state.snapshot in made
    place.workspaces.delete(JOB)
    assert place.snapshots() == []
    assert len({asked["ClientToken"] for asked in place.moto.calls("RunInstances")}) == 1
