"""One job with everything that its page and the API show, and its files."""

from __future__ import annotations

from supervisor.domain import eta
from supervisor.domain.blender import check_blender, told_if_newer
from supervisor.domain.budget import OverBudget
from supervisor.domain.dependencies import resolve_dependencies
from supervisor.domain.errors import CommandError
from supervisor.domain.frame import FrameStatus, format_frames, frames_in_words
from supervisor.domain.job import JobStatus, can_cancel, can_delete, can_pause, can_resume, can_retry
from supervisor.domain.problem import Problem
from supervisor.domain.submission import chosen_frames, chosen_scene
from supervisor.farm import Farm
from supervisor.readiness import blenders_of, blockers, limits_of
from supervisor.scouts import has_scouted, scouts_of, wanted_counts
from supervisor.spending import cap_usd, check_budget, farm_cap_usd, fewer_than_wished, is_counted, job_cost
from supervisor.store import events, files, frames, instances, inventory
from supervisor.store.database import Connection
from supervisor.store.files import FileRow
from supervisor.store.instances import Instance
from supervisor.store.jobs import Job

from .jobs import found_job, summaries
from .models import FileView, JobDetail, Scouting


def job_detail(farm: Farm, job: str) -> JobDetail:
    """Errors: NotFound"""
    blenders = blenders_of(farm)
    with farm.db.read() as connection:
        found = found_job(connection, job)
        main = _main_file(connection, found)
        inspection = main.inspection if main else None
        stock = inventory.inventory(connection, job)
        is_draft = found.status is JobStatus.DRAFT
        rented = instances.instances_of(connection, job)
        version = _would_render(found, main, blenders) if is_draft else found.blender_version
        return JobDetail(
            summary=summaries(farm, connection, [found])[0],
            settings=found.settings,
            has_pool=farm.cloud.pool is not None,
            frames_spec=_frames_spec(farm, connection, found, main),
            main_file=file_view(main, main_id=main.id) if main else None,
            main_candidates=tuple(file_view(blend, main_id=main.id if main else None) for blend in files.blends_of(connection, job)),
            scene=inspection.scene(found.settings.scene) if inspection else None,
            dependencies=resolve_dependencies(main.path, inventory.usable_files(connection, job)) if main else (),
            file_count=stock.count,
            file_bytes=stock.bytes,
            uploading=stock.uploading,
            checking=stock.checking,
            problems=(
                *_hindrance(found, rented),
                *_damage(connection, found),
                *events.problems_of(connection, job),
                *_fewer(farm, connection, found),
            ),
            blockers=(
                *blockers(connection, job, found.settings, limits_of(farm), blenders=blenders),
                *_over_budget(farm, connection, found),
            )
            if is_draft
            else (),
            cost=job_cost(connection, job, now=farm.now()),
            cap_usd=cap_usd(found.settings, farm.config.money) if is_counted(farm) else None,
            farm_cap_usd=farm_cap_usd(farm.config.money) if is_counted(farm) else None,
            scouting=_scouting(connection, found),
            blender_version=version,
            blender_words=told_if_newer(inspection.version, version) if inspection else "",
            seconds_per_frame=eta.seconds_per_frame(frames.newest_render_times(connection, job, limit=eta.MEASURED_FRAMES)),
            can_pause=can_pause(found.status),
            can_resume=can_resume(found.status),
            can_cancel=can_cancel(found.status) or found.then is JobStatus.PAUSED,
            can_retry=can_retry(found.status),
            can_delete=can_delete(found.status),
        )


def job_files(farm: Farm, job: str, *, after: str = "", limit: int = 1000) -> list[FileView]:
    """A job's files by path, following path `after`. Errors: NotFound"""
    with farm.db.read() as connection:
        found_job(connection, job)
        main = files.main_file_id(connection, job)
        return [file_view(file, main_id=main) for file in files.files_of(connection, job, after=after, limit=limit)]


def file_view(file: FileRow, *, main_id: str | None) -> FileView:
    """A file as pages and the API show it."""
    return FileView(
        id=file.id,
        job=file.job,
        path=file.path,
        bytes=file.bytes,
        status=file.status,
        problem=file.problem,
        is_main=file.id == main_id,
        inspection=file.inspection,
    )


def _hindrance(job: Job, rented: list[Instance]) -> tuple[Problem, ...]:
    """What keeps every node of a job from rendering: it passes with the nodes' next heartbeats, so no row keeps it."""
    beats = [one.heartbeat for one in rented if one.is_up and one.heartbeat]
    if job.status is not JobStatus.RENDERING or not beats or not all(beat.problem for beat in beats):
        return ()
    remedy = (
        "Nothing is lost: rendering goes on by itself when that is put right. "
        "For room on the disk, delete old jobs, or give the farm a larger disk."
    )
    text = f"No frame is begun at present. {beats[0].problem}"
    return (Problem(code="nodes_hindered", severity="error", text=text, remedy=remedy, since=job.status_since),)


def _damage(connection: Connection, job: Job) -> tuple[Problem, ...]:
    """That frames are not in the store as they were delivered: it passes when they are delivered again, so no row keeps it."""
    damaged = frames.damaged(connection, job.id)
    if not damaged:
        return ()
    which, them = frames_in_words(damaged), "it" if len(damaged) == 1 else "them"
    text = f"{which} {'is' if len(damaged) == 1 else 'are'} not in the store as delivered: no zip with {them} can be made"
    remedy = f"Render {them} again; the button is beside the zips. Something else than the farm removes or changes objects in the bucket."
    return (Problem(code="damaged_frames", severity="error", text=text, remedy=remedy, since=job.status_since),)


def _fewer(farm: Farm, connection: Connection, job: Job) -> tuple[Problem, ...]:
    """That the job's cap lets fewer instances render than would: it passes with what is spent, so no row keeps it."""
    if job.status not in {JobStatus.LAUNCHING, JobStatus.RENDERING} or farm.cloud.pool:
        return ()
    wished = 1 if job.ordered else min(job.settings.instances, wanted_counts(connection, job).unended)
    found = fewer_than_wished(farm, connection, job, wished=wished)
    if found is None:
        return ()
    text = f"{found[0]} of {found[1]} instances at once: more would take it past its cap before their frames are done"
    remedy = "Nothing is wrong; it only takes longer. A higher cap allows more at once."
    return (Problem(code="cost_fewer", severity="info", text=text, remedy=remedy, since=job.status_since),)


def _would_render(job: Job, main: FileRow | None, blenders: tuple[str, ...]) -> str:
    """The version that a draft would be rendered with. Returns: empty while none would"""
    if main is None or main.inspection is None:
        return ""
    try:
        return check_blender(main.inspection.version, blenders, path=main.path, wish=job.settings.blender)
    except CommandError:
        return ""


def _over_budget(farm: Farm, connection: Connection, job: Job) -> tuple[str, ...]:
    try:
        check_budget(farm, connection, job)
    except OverBudget as error:
        return (str(error),)
    return ()


def _scouting(connection: Connection, job: Job) -> Scouting | None:
    scouts = scouts_of(job)
    if not scouts or job.status is JobStatus.DRAFT:
        return None
    received = set(frames.numbers(connection, job.id, FrameStatus.RECEIVED))
    return Scouting(
        frames=scouts, received=tuple(number for number in scouts if number in received), has_ended=has_scouted(connection, job)
    )


def _main_file(connection: Connection, job: Job) -> FileRow | None:
    main = files.main_file_id(connection, job.id)
    return files.file_by_id(connection, main, job=job.id) if main else None


def _frames_spec(farm: Farm, connection: Connection, job: Job, main: FileRow | None) -> str:
    """What is rendered; of a draft, what would be."""
    if job.status is not JobStatus.DRAFT:
        return format_frames(frames.numbers(connection, job.id))
    if main is None or main.inspection is None:
        return job.settings.frames or ""
    try:
        chosen = chosen_frames(job.settings, chosen_scene(job.settings, main.inspection), max_frames=farm.config.render.max_frames)
    except CommandError:
        return job.settings.frames or ""
    return format_frames(chosen)
