"""Whatever befalls the calls that make, freeze and give back: a workspace ends with one snapshot in use, and nothing else rented."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from supervisor.cloud.aws.session import AwsSession

from .faults import Fault, FirstOf, Way, breakable
from .moto_server import Moto
from .own_place import run_own_instance
from .workspace_place import WorkspacePlace
from .workspace_steps import JOB, settle, through_struck_by

MAKING = ["RunInstances", "CreateSnapshot", "DeleteVolume", "DescribeSnapshots"]
FAULTS = [
    Fault.THROTTLED_FOR_GOOD,
    Fault.UNREACHABLE,
    Fault.DIED_BEFORE,
    Fault.DIED_AFTER,
    Fault.REPLY_LOST,
    Fault.REPLY_LOST_FOR_GOOD,
]


@pytest.fixture
def way() -> Iterator[Way]:
    with breakable(Way()) as way:
        yield way


@pytest.fixture
def place(moto: Moto, aws_session: AwsSession) -> WorkspacePlace:
    place = WorkspacePlace(moto, aws_session)
    moto.change(is_slow=True)
    return place


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", MAKING)
def test_workspace_survives_a_fault(place: WorkspacePlace, way: Way, operation: str, fault: Fault) -> None:
    snapshot = through_struck_by(place, way, FirstOf(operation, fault), work=place.player.work)
    settle(place)
    assert place.player.staging_instances("running", "pending") == []
    assert place.volumes() == []
    made = [each["SnapshotId"] for each in place.snapshots()]
    # EC2 takes no token for snapshots: a lost reply that botocore asks for again makes two. The sweep deletes the second.
    assert len(made) == (2 if (operation, fault) == ("CreateSnapshot", Fault.REPLY_LOST) else 1)
    assert snapshot in made
    place.workspaces.delete(JOB)
    assert place.snapshots() == []
    assert len({asked["ClientToken"] for asked in place.moto.calls("RunInstances")}) == 1


OWN_MAKING = ["CreateVolume", "AttachVolume", "DetachVolume", "CreateSnapshot", "DeleteVolume", "DescribeVolumes"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", OWN_MAKING)
def test_volume_that_the_farm_fills_itself_survives_a_fault(place: WorkspacePlace, way: Way, operation: str, fault: Fault) -> None:
    place.here = here = run_own_instance(place.moto)
    place.restart()
    place.parts.own.check()  # what it may do is known: the volume is asked for in earnest
    # those of the present process of the farm: it may have died on the way
    snapshot = through_struck_by(place, way, FirstOf(operation, fault), work=lambda: place.fillings.work())
    settle(place)
    assert place.volumes() == []
    assert [one["InstanceId"] for one in place.moto.instances("running")] == [here.id]
    made = [each["SnapshotId"] for each in place.snapshots()]
    assert snapshot in made
    assert len(made) == (2 if (operation, fault) == ("CreateSnapshot", Fault.REPLY_LOST) else 1)
    assert len({asked["ClientToken"] for asked in place.moto.calls("CreateVolume") if not asked.get("DryRun")}) == 1
    place.workspaces.delete(JOB)
    assert place.snapshots() == []
