"""Frames as pages and the API show them, with their logs, pictures and outputs."""

from __future__ import annotations

from typing import BinaryIO

from nodeimage.protocol import Heartbeat, log_key, output_key, preview_key
from supervisor.domain.errors import NotFound
from supervisor.domain.frame import FrameStatus
from supervisor.farm import Farm
from supervisor.store import frames, instances
from supervisor.store.database import Connection
from supervisor.store.frames import Frame
from supervisor.store.instances import Instance

from .jobs import found_job
from .models import FrameMark, FrameView, OutputView


def job_frames(farm: Farm, job: str, *, after: int | None = None, limit: int = 1000) -> list[FrameView]:
    """A job's frames by number, following frame `after`. Errors: NotFound"""
    with farm.db.read() as connection:
        found_job(connection, job)
        nodes = _nodes(connection, job)
        return [_view(frame, nodes) for frame in frames.frames_page(connection, job, after=after, limit=limit)]


def job_frame_marks(farm: Farm, job: str) -> list[FrameMark]:
    """All frames of a job in brief, by number: one light read of four columns. Empty for a job that is not there."""
    with farm.db.read() as connection:
        return [FrameMark(*mark) for mark in frames.marks(connection, job)]


def damaged_frames(farm: Farm, job: str) -> list[int]:
    """The frames whose outputs in the store are known not to be what their nodes delivered, by number."""
    with farm.db.read() as connection:
        return frames.damaged(connection, job)


def job_frame(farm: Farm, job: str, number: int) -> FrameView:
    """Errors: NotFound"""
    with farm.db.read() as connection:
        return _view(_found(connection, job, number), _nodes(connection, job))


def frame_log(farm: Farm, job: str, number: int, *, attempt: int | None = None) -> str:
    """Blender's log of a frame's newest (or that) attempt; of a frame being rendered, the last lines so far. Errors: NotFound"""
    with farm.db.read() as connection:
        frame = _found(connection, job, number)
        beat = _beat(frame, _nodes(connection, job))
    if beat and attempt in {None, frame.attempt}:
        return "\n".join(beat.log_tail) + "\n"
    wanted = attempt or frame.logged_attempt
    stored = farm.cloud.objects.get(log_key(job, number, wanted)) if wanted else None
    if stored is None:
        which = f"attempt {attempt} at frame {number}" if attempt else f"frame {number}"
        raise NotFound(f"there is no log of {which} (yet)")
    return stored.body.decode(errors="replace")


def frame_preview(farm: Farm, job: str, number: int) -> bytes:
    """A WebP picture. Errors: NotFound"""
    with farm.db.read() as connection:
        frame = _found(connection, job, number)
    stored = farm.cloud.objects.get(preview_key(job, number)) if frame.has_preview else None
    if stored is None:
        raise NotFound(f"there is no picture of frame {number} (yet)")
    return stored.body


def open_output(farm: Farm, job: str, number: int, name: str, *, first_byte: int = 0) -> tuple[BinaryIO, int]:
    """An output as a stream from a byte on, with its whole size. The caller closes it. Errors: NotFound"""
    with farm.db.read() as connection:
        frame = _found(connection, job, number)
    output = next((output for output in frame.outputs if output.name == name), None)
    if output is None or frame.status is not FrameStatus.RECEIVED:
        raise NotFound(f"frame {number} has no output “{name}” (yet)")
    try:
        return farm.cloud.objects.open(output_key(job, number, name), first_byte=first_byte), output.bytes
    except FileNotFoundError as error:
        raise NotFound(f"the output “{name}” of frame {number} is gone from the store") from error


def _found(connection: Connection, job: str, number: int) -> Frame:
    found_job(connection, job)
    frame = frames.find_frame(connection, job, number)
    if frame is None:
        raise NotFound(f"this job has no frame {number}")
    return frame


def _nodes(connection: Connection, job: str) -> dict[str, Instance]:
    return {instance.node: instance for instance in instances.instances_of(connection, job)}


def _beat(frame: Frame, nodes: dict[str, Instance]) -> Heartbeat | None:
    """What the node that renders a frame says of it. Returns: None if none does"""
    instance = nodes.get(frame.node or "")
    beat = instance.heartbeat if instance else None
    return beat if beat and frame.status is FrameStatus.RENDERING and beat.frame == frame.number else None


def _view(frame: Frame, nodes: dict[str, Instance]) -> FrameView:
    instance = nodes.get(frame.node or "")
    beat = _beat(frame, nodes)
    is_received = frame.status is FrameStatus.RECEIVED
    return FrameView(
        number=frame.number,
        status=frame.status,
        attempt=frame.attempt,
        node=frame.node,
        instance=instance.id if instance else None,
        render_s=frame.render_s if is_received else None,
        outputs=tuple(OutputView(name=o.name, bytes=o.bytes, crc32=o.crc32) for o in frame.outputs) if is_received else (),
        has_preview=frame.has_preview,
        has_log=frame.logged_attempt > 0 or beat is not None,
        reason="" if is_received else frame.reason,
        damage=frame.damage if is_received else "",
        progress_pct=progress_pct(beat) if beat else None,
        elapsed_s=beat.elapsed_s if beat else None,
    )


def progress_pct(beat: Heartbeat) -> float | None:
    """Returns: None where Blender does not say"""
    if beat.sample is None or not beat.samples:
        return None
    return round(min(100.0 * beat.sample / beat.samples, 100.0), 1)
