"""Instances as pages show them, with what their nodes say."""

from __future__ import annotations

from datetime import datetime

from nodeimage.protocol import Heartbeat, NodeState
from supervisor.domain.instance import InstanceStatus
from supervisor.farm import Farm
from supervisor.store import attempts, instances
from supervisor.store.instances import Instance

from .frames import progress_pct
from .jobs import found_job
from .models import InstanceView

_ENDING = {InstanceStatus.TERMINATING: "ending", InstanceStatus.STOPPING: "stopping", InstanceStatus.STOPPED: "stopped"}


def job_instances(farm: Farm, job: str) -> list[InstanceView]:
    """A job's instances, running ones first, then by launch. Errors: NotFound"""
    with farm.db.read() as connection:
        found_job(connection, job)
        found = instances.instances_of(connection, job)
        finished = attempts.finished_by_node(connection, job)
    views = [_view(instance, finished.get(instance.node, 0)) for instance in found]
    return sorted(views, key=lambda view: (view.ended_at is not None, view.launched_at))


def _view(instance: Instance, finished: int) -> InstanceView:
    beat = instance.heartbeat
    is_at_work = beat is not None and instance.status is InstanceStatus.RUNNING and beat.state is NodeState.RENDERING
    return InstanceView(
        id=instance.id,
        node=instance.node,
        status=instance.status,
        market=instance.market,
        instance_type=instance.instance_type,
        price_usd_per_h=instance.price_usd_per_h,
        launched_at=instance.launched_at,
        ended_at=instance.ended_at,
        taken_back_at=_taken_back_at(instance),
        note=instance.note,
        doing=_doing(instance),
        frame=beat.frame if beat and is_at_work else None,
        progress_pct=progress_pct(beat) if beat and is_at_work else None,
        elapsed_s=beat.elapsed_s if beat and is_at_work else None,
        finished=finished,
        device=beat.device if beat else "",
        beat_at=instance.beat_at,
        log_tail=beat.log_tail if beat else (),
        problem=beat.problem if beat and instance.is_rented else "",
    )


def _taken_back_at(instance: Instance) -> datetime | None:
    if instance.was_interrupted:
        return instance.interruption_at or instance.ended_at
    return instance.interruption_at if instance.is_rented else None


def _doing(instance: Instance) -> str:
    if instance.status is InstanceStatus.TERMINATED and instance.was_interrupted:
        return "taken back by the cloud"
    if instance.status is InstanceStatus.TERMINATED:
        return f"ended: {instance.note}" if instance.note else "ended"
    if instance.status in _ENDING:
        return _ENDING[instance.status]
    if instance.heartbeat is None:
        return "starting" if instance.status is InstanceStatus.RUNNING else "being launched"
    return _said(instance.heartbeat)


def _said(beat: Heartbeat) -> str:
    frame = f"frame {beat.frame}" if beat.frame is not None else "a frame"
    sample = f", sample {beat.sample} of {beat.samples}" if beat.sample is not None and beat.samples else ""
    phase = f": {beat.phase}" if beat.phase and not sample else ""
    return {
        NodeState.STARTING: beat.phase or "starting Blender",
        NodeState.OPENING: "opening the .blend",
        NodeState.RENDERING: f"rendering {frame}{sample}{phase}",
        NodeState.DELIVERING: f"uploading {_frames(beat.uploading)}",
        NodeState.IDLE: "waiting to be taken back by the cloud" if beat.interruption_at_ms else "waiting for frames",
        NodeState.GONE: "ending",
    }[beat.state]


def _frames(numbers: tuple[int, ...]) -> str:
    if not numbers:
        return "its last frame"
    return ("frame " if len(numbers) == 1 else "frames ") + ", ".join(map(str, numbers[:4])) + ("…" if len(numbers) > 4 else "")
