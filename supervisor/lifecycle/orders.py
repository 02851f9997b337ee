"""Write a job's order: what its nodes are to do, and which of them begins where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import structlog

from nodeimage.protocol import Action, Order, RenderSettings, Requeued, Task, order_key, runs_of
from supervisor.domain.task import divide
from supervisor.farm import Farm
from supervisor.scouts import wanted_of
from supervisor.store import files, frames, instances, jobs
from supervisor.store.database import Connection
from supervisor.store.frames import Frame
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job

from .hands import is_at_work

log = structlog.get_logger(__name__)

_GIB = 1 << 30


def keep_order(farm: Farm, job: Job, action: Action) -> None:
    """Make the order in the bucket say what it must. Nothing is written while it does. Repeat: safe

    Frames that were received do not change it: nodes find them claimed. New nodes do, requeued frames, another action.
    """
    with farm.db.read() as connection:
        current = jobs.find_job(connection, job.id)
        assert current is not None, "a job is removed only when it has ended"
        nodes = [one for one in instances.instances_of(connection, job.id) if is_at_work(one)]
        if current.ordered and not nodes:
            nodes = _one_of_pool(connection)
        again = frames.requeued(connection, job.id)
        settings = _render_settings(farm, connection, current)
    requeued = _requeued(again, [one.node for one in nodes])
    digest = _digest(action, settings, current, nodes, requeued)
    if digest == current.order_written:
        return
    with farm.db.write() as connection:
        jobs.change_job(connection, job.id, order_revision=current.order_revision + 1)
        left = wanted_of(current, frames.unended(connection, job.id)) if action is Action.RENDER else []
    order = Order(
        job=job.id,
        revision=current.order_revision + 1,
        action=action,
        settings=settings,
        tasks=_tasks(left, nodes, ordered=current.ordered),
        requeued={number: requeued[number] for number in left if number in requeued},
        ordered=current.ordered,
    )
    farm.cloud.objects.put(order_key(job.id), order.to_bytes())
    with farm.db.write() as connection:
        jobs.change_job(connection, job.id, order_written=digest)
    log.info("order written", job=job.id, revision=order.revision, action=str(action), nodes=len(nodes), frames=len(left))


def _one_of_pool(connection: Connection) -> list[Instance]:
    """The node of the shared pool that an ordered job is handed to: nobody takes frames of it that is not named. Empty: there is no pool"""
    free = [one for one in instances.pool_instances(connection) if is_at_work(one) and one.heartbeat and not one.works_for]
    return free[:1]


def _render_settings(farm: Farm, connection: Connection, job: Job) -> RenderSettings:
    path = files.path_of(connection, job.main_file_id or "", job=job.id)
    assert path is not None, "a submitted job has a main file, and its files stay"
    asked, render = job.settings, farm.config.render
    limit_gib = farm.config.blender.memory_limit_gib
    return RenderSettings(
        main_file=path,
        scene=asked.scene,
        camera=asked.camera,
        output_name=asked.output.name,
        file_format=asked.output.format,
        resolution_pct=asked.output.resolution_pct,
        samples=asked.output.samples,
        persistent_data=render.persistent_data if asked.persistent_data is None else asked.persistent_data,
        frame_timeout_s=render.frame_timeout_s,
        memory_limit_bytes=int(limit_gib * _GIB) if limit_gib else None,
        preview_width_px=render.preview_width_px,
    )


def _requeued(again: Sequence[Frame], nodes: Sequence[str]) -> dict[int, Requeued]:
    """What nodes must know of the frames that had attempts. Where every node failed a frame, none is to avoid it."""
    told = {}
    for frame in again:
        avoid = tuple(node for node in frame.avoid if node in nodes)
        if len(avoid) == len(nodes):
            avoid = ()
        told[frame.number] = Requeued(attempt=frame.attempt, avoid=avoid, persistent_data=frame.persistent_data)
    return told


def _digest(
    action: Action,
    settings: RenderSettings,
    job: Job,
    nodes: Sequence[Instance],
    requeued: dict[int, Requeued],
) -> str:
    """A name for all that makes an order another one. Which frames were received does not."""
    about_frames = [[number, asdict(told)] for number, told in requeued.items()] if action is Action.RENDER else []
    fresh_since = job.submitted_at.isoformat() if job.submitted_at else ""
    said = [action, asdict(settings), job.ordered, sorted(one.node for one in nodes), about_frames, fresh_since, job.scout_frames]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _tasks(left: Sequence[int], nodes: Sequence[Instance], *, ordered: bool) -> tuple[Task, ...]:
    """Hand the frames that are left to the nodes: each goes on where it is."""
    at = sorted(nodes, key=_place)
    if ordered or len(at) < 2:
        return (Task(node=at[0].node if at else None, frames=runs_of(left)),) if left else ()
    ranges = divide(left, len(at))
    return tuple(Task(node=one.node, frames=runs_of(frames)) for one, frames in zip(at, ranges, strict=False))


def _place(instance: Instance) -> tuple[float, str]:
    """Where in the range a node is, so that neighbours of what it rendered stay its own."""
    beat = instance.heartbeat
    return (beat.frame if beat and beat.frame is not None else float("inf"), instance.node)
