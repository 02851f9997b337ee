"""What the farm measures of its own rendering: how fast frames are and instances boot, by kind of instance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import PurePosixPath

from supervisor.domain.cost import Run
from supervisor.domain.estimate import BOOT_S, Pace, Work
from supervisor.domain.settings import JobSettings
from supervisor.store import attempts, files, instances, paces, runs
from supervisor.store.database import Connection
from supervisor.store.jobs import Job

#: What tells versions of one file apart: `shot_010.v03.blend`, `shot_010-v3.blend`.
_VERSION = re.compile(r"[._ -]v\d+$")


def work_of(connection: Connection, job: Job, settings: JobSettings) -> Work | None:
    """What a job renders with those settings. Returns: None if it has no main file that was read, or no such scene"""
    main_id = files.main_file_id(connection, job.id)
    main = files.file_by_id(connection, main_id, job=job.id) if main_id else None
    scene = main.inspection.scene(settings.scene) if main and main.inspection else None
    if main is None or scene is None:
        return None
    share = (settings.output.resolution_pct or scene.resolution_pct) / 100
    return Work(
        job=job.id,
        file=f"{main.checksum}:{main.bytes}" if main.checksum else "",
        name=_VERSION.sub("", PurePosixPath(main.path).stem.casefold()),
        scene=scene.name,
        engine=scene.engine,
        pixels=round(scene.width_px * share) * round(scene.height_px * share),
        samples=settings.output.samples or scene.samples,
    )


@dataclass
class _Tally:
    """What is added up for one kind of instance."""

    runs: list[Run] = field(default_factory=list)
    instances: int = 0
    frames: int = 0
    render_s: float = 0.0


def paces_of(connection: Connection, job: Job, *, now: datetime) -> list[Pace]:
    """What came of a job so far on each kind of instance."""
    work = work_of(connection, job, job.settings)
    if work is None:
        return []
    delivered = attempts.rendered_by_node(connection, job.id)
    by_instance: dict[str, list[Run]] = {}
    for run in runs.runs_of(connection, job.id):
        by_instance.setdefault(run.instance, []).append(run)
    tallies: dict[tuple[str, str], _Tally] = {}
    for one in instances.instances_of(connection, job.id):
        tally = tallies.setdefault((one.instance_type, str(one.market)), _Tally())
        frames, render_s = delivered.get(one.node, (0, 0.0))
        tally.runs += by_instance.get(one.id, [])
        tally.instances, tally.frames, tally.render_s = tally.instances + 1, tally.frames + frames, tally.render_s + render_s
    at = attempts.newest_finished_at(connection, job.id) or now
    return [_pace(work, kind, tally, at=at, now=now) for kind, tally in tallies.items()]


def _pace(work: Work, kind: tuple[str, str], tally: _Tally, *, at: datetime, now: datetime) -> Pace:
    ready = [run for run in tally.runs if run.ready_at]
    return Pace(
        work=work,
        instance_type=kind[0],
        market=kind[1],
        instances=tally.instances,
        frames=tally.frames,
        render_s=tally.render_s,
        paid_s=_seconds(tally.runs, now),
        boots=len(ready),
        boot_s=sum(float(run.booting(now).s) for run in ready),
        usd=sum((run.usd(now=now) for run in tally.runs), Decimal(0)),
        at=at,
    )


def _seconds(mine: Sequence[Run], now: datetime) -> float:
    return sum(((run.ended_at or now) - run.began_at).total_seconds() for run in mine)


def boot_s(connection: Connection, instance_type: str) -> float:
    """Seconds from a launch to the node's first word: the mean of what was measured, else what is usual."""
    boots, seconds = paces.boots_of(connection, instance_type)
    return seconds / boots if boots else BOOT_S
