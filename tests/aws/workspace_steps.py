"""The steps of a workspace's way, as the lifecycle and time take them: for tests of all that befalls it there."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

from supervisor.cloud.aws.identity import tags_of
from supervisor.cloud.ports import CloudError, StagedFile, WorkspaceState

from .faults import Crash, FirstOf, Way
from .workspace_place import WorkspacePlace

JOB, OTHER = "job_a", "job_b"


def files_of(place: WorkspacePlace, job: str = JOB, body: bytes = b"BLENDER") -> list[StagedFile]:
    key = f"projects/{job}/scene.blend"
    place.objects.put(key, body)
    return [StagedFile(path="scene.blend", key=key, bytes=len(body), checksum=f"crc32:{zlib.crc32(body):08x}")]


def tick(place: WorkspacePlace, job: str = JOB) -> WorkspaceState:
    """What the lifecycle does with a workspace in a tick, two seconds after the last."""
    place.clock.pass_s(2)
    state = place.workspaces.state(job)
    if state is None or not (state.is_staged or state.problem):
        place.workspaces.stage(job, files_of(place, job), request_id=f"{job}-stage")
        state = place.workspaces.state(job)
    if state and state.is_staged and not state.snapshot:
        place.workspaces.snapshot(job, request_id=f"{job}-snapshot")
        state = place.workspaces.state(job)
    assert state is not None
    return state


def settle(place: WorkspacePlace) -> None:
    place.moto.tell("settle")


def running(place: WorkspacePlace) -> str:
    """Let a tick ask for an instance and let it run. Returns: its id"""
    tick(place)
    settle(place)
    [one] = place.player.staging_instances("running")
    return str(one["InstanceId"])


def through(place: WorkspacePlace, job: str = JOB) -> str:
    """Go all the way. Returns: the snapshot's id"""
    for _ in range(12):
        state = tick(place, job)
        if state.snapshot:
            return state.snapshot
        settle(place)
        place.player.work()
    raise AssertionError(f"no snapshot: {state}")


def rented(place: WorkspacePlace) -> dict[str, list[str]]:
    """What of the workspaces still costs money, as EC2 shows it now."""
    settle(place)
    return {
        "instances": [one["InstanceId"] for one in place.player.staging_instances("pending", "running", "stopped")],
        "volumes": [each["VolumeId"] for each in place.volumes()],
        "snapshots": [each["SnapshotId"] for each in place.snapshots()],
    }


def tag(one: Mapping[str, Any], key: str) -> str:
    return tags_of(one)[key]


def tick_struck_by(place: WorkspacePlace, way: Way, plan: FirstOf) -> WorkspaceState | None:
    """A tick that may meet a fault; the farm is started again if it dies. Returns: what it saw at its end, if it came so far"""
    place.clock.pass_s(13)
    plan.is_on = True
    try:
        return tick(place)
    except CloudError:
        return None
    except Crash:
        way.is_dead = False
        place.restart()
        return None
    finally:
        plan.is_on = False


def through_struck_by(place: WorkspacePlace, way: Way, plan: FirstOf, *, work: Callable[[], object]) -> str:
    """Go all the way, and meet the fault on it. `work` lets go on what fills the volume. Returns: the snapshot's id"""
    way.take(plan)
    for _ in range(24):
        state = tick_struck_by(place, way, plan)
        if state and state.snapshot:
            assert plan.met is not None
            return state.snapshot
        settle(place)
        work()
    raise AssertionError(f"no snapshot: {state}")
