"""Read models as the API's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from urllib.parse import quote

from supervisor.commands.files import UploadPlan
from supervisor.domain import scene as found
from supervisor.domain.job import JobStatus, can_render_again
from supervisor.domain.settings import JobSettings
from supervisor.queries import DownloadView, FileView, FrameView, InstanceView, JobDetail, JobSummary, Problem, Scouting

from . import models


def summary_answer(job: JobSummary, *, base_url: str) -> models.JobSummary:
    return models.JobSummary(
        id=job.id,
        name=job.name,
        owner=job.owner,
        status=job.status,
        reason=job.reason,
        status_since=job.status_since,
        created_at=job.created_at,
        submitted_at=job.submitted_at,
        ended_at=job.ended_at,
        frames=_frames(job),
        instances_running=job.instances_running,
        eta_s=job.eta_s,
        cost=float(job.cost_usd),
        version=job.version,
        url=f"{base_url}/jobs/{job.id}",
    )


def _frames(job: JobSummary) -> models.Frames:
    counts = job.frames
    return models.Frames(
        total=counts.total, received=counts.received, rendering=counts.rendering, failed=counts.failed, queued=counts.queued
    )


def job_answer(job: JobDetail, instances: Sequence[InstanceView], *, base_url: str, may_change: bool) -> models.Job:
    """Shape:   may_change: whether who asks may change it"""
    summary = summary_answer(job.summary, base_url=base_url)
    return models.Job(
        **{**dict(summary), "cost": float(job.cost.total_usd)},
        main_file=job.main_file.path if job.main_file else None,
        main_candidates=[file.path for file in job.main_candidates],
        frames_spec=job.frames_spec,
        scene=_scene(job.scene) if job.scene else None,
        settings=_settings(job.settings),
        dependencies=[_dependency(each) for each in job.dependencies],
        files=models.JobFiles(count=job.file_count, bytes=job.file_bytes, uploading=job.uploading),
        instances=[instance_answer(each) for each in instances],
        costs=models.Costs(**{name: _exact(getattr(job.cost, name)) for name in models.Costs.model_fields}),
        cap_usd=None if job.cap_usd is None else float(job.cap_usd),
        scouting=_scouting(job.scouting) if job.scouting else None,
        problems=[_problem(each) for each in job.problems],
        blockers=list(job.blockers),
        blender_version=job.blender_version,
        blender_words=job.blender_words,
        seconds_per_frame=job.seconds_per_frame,
        actions=_actions(job) if may_change else [],
    )


def _actions(job: JobDetail) -> list[models.Action]:
    allowed: tuple[tuple[models.Action, bool], ...] = (
        ("submit", job.summary.status is JobStatus.DRAFT and not job.blockers),
        ("pause", job.can_pause),
        ("resume", job.can_resume),
        ("cancel", job.can_cancel),
        ("retry", job.can_retry),
        ("render_again", can_render_again(job.summary.status)),
        ("delete", job.can_delete),
    )
    return [action for action, may in allowed if may]


def _settings(settings: JobSettings) -> models.Settings:
    price = settings.max_price_usd_per_h
    return models.Settings(
        frames=settings.frames,
        instances=settings.instances,
        market=settings.market,
        max_price_usd_per_h=None if price is None else float(price),
        instance_types=list(settings.instance_types),
        workspace_mode=settings.workspace_mode,
        scene=settings.scene,
        camera=settings.camera,
        blender=settings.blender,
        output=models.OutputSettings(**asdict(settings.output)),
        persistent_data=settings.persistent_data,
        max_cost_usd=None if settings.max_cost_usd is None else float(settings.max_cost_usd),
        priority=settings.priority,
        scout=settings.scout,
    )


def _exact(usd: Decimal) -> float:
    """To a millionth of a dollar: parts may be smaller than what their sum is rounded to."""
    return float(usd.quantize(Decimal("0.000001")))


def _scouting(scouting: Scouting) -> models.Scouting:
    return models.Scouting(frames=list(scouting.frames), received=list(scouting.received), has_ended=scouting.has_ended)


def _scene(scene: found.SceneInfo) -> models.Scene:
    return models.Scene(
        name=scene.name,
        camera=scene.camera,
        cameras=list(scene.cameras),
        marker_cameras=[models.MarkerCamera(frame=frame, camera=camera) for frame, camera in scene.marker_cameras],
        view_layers=list(scene.view_layers),
        frame_start=scene.frame_start,
        frame_end=scene.frame_end,
        frame_step=scene.frame_step,
        fps=scene.fps,
        width_px=scene.width_px,
        height_px=scene.height_px,
        resolution_pct=scene.resolution_pct,
        engine=scene.engine,
        samples=scene.samples,
        file_format=scene.file_format,
        output_path=scene.output_path,
        is_movie=scene.is_movie,
    )


def _dependency(each: found.DependencyFound) -> models.Dependency:
    named = each.dependency
    return models.Dependency(path=named.path, kind=named.kind, used_by=named.used_by, in_file=each.in_file, found=each.found, at=each.at)


def _problem(problem: Problem) -> models.JobProblem:
    return models.JobProblem(
        code=problem.code,
        about=problem.about,
        severity=problem.severity,
        text=problem.text,
        remedy=problem.remedy,
        since=problem.since,
    )


def instance_answer(instance: InstanceView) -> models.Instance:
    return models.Instance(
        id=instance.id,
        node=instance.node,
        status=instance.status,
        market=instance.market,
        instance_type=instance.instance_type,
        price_usd_per_h=float(instance.price_usd_per_h),
        launched_at=instance.launched_at,
        ended_at=instance.ended_at,
        taken_back_at=instance.taken_back_at,
        doing=instance.doing,
        frame=instance.frame,
        progress_pct=instance.progress_pct,
        finished=instance.finished,
        device=instance.device,
        note=instance.note,
        problem=instance.problem,
    )


def file_answer(file: FileView) -> models.File:
    return models.File(
        id=file.id,
        path=file.path,
        bytes=file.bytes,
        status=file.status,
        problem=file.problem,
        is_main=file.is_main,
        inspection=_inspection(file.inspection) if file.inspection else None,
    )


def _inspection(inspection: found.Inspection) -> models.Inspection:
    major, minor = inspection.version
    return models.Inspection(
        blender_version=f"{major}.{minor}",
        is_compressed=inspection.is_compressed,
        scenes=[_scene(each) for each in inspection.scenes],
        current_scene=inspection.current_scene,
        warnings=list(inspection.warnings),
    )


def plan_answer(plan: UploadPlan, *, app_url: str) -> models.UploadPlan:
    """Shape:   app_url: what a part's number is appended to where the part goes through the app"""
    return models.UploadPlan(
        id=plan.file,
        part_bytes=plan.part_bytes,
        parts=[models.PartUrl(number=number, url=url or f"{app_url}{number}") for number, url in plan.urls],
        received=[models.ReceivedPart(number=part.number, etag=part.etag, bytes=part.bytes) for part in plan.received],
    )


def frame_answer(job: str, frame: FrameView, *, base_url: str) -> models.Frame:
    here = f"{base_url}/api/v1/jobs/{job}/frames/{frame.number}"
    return models.Frame(
        number=frame.number,
        status=frame.status,
        attempt=frame.attempt,
        instance=frame.instance,
        node=frame.node,
        render_s=frame.render_s,
        outputs=[
            models.Output(name=each.name, bytes=each.bytes, crc32=each.crc32, url=f"{here}/outputs/{quote(each.name)}")
            for each in frame.outputs
        ],
        preview_url=f"{here}/preview" if frame.has_preview else None,
        log_url=f"{here}/log" if frame.has_log else None,
        reason=frame.reason,
        damage=frame.damage,
        progress_pct=frame.progress_pct,
        elapsed_s=frame.elapsed_s,
    )


def download_answer(download: DownloadView, *, url: str | None) -> models.Download:
    return models.Download(
        id=download.id,
        job=download.job,
        status=download.status,
        reason=download.reason,
        name=download.name,
        frames=download.frames,
        done_bytes=download.done_bytes,
        total_bytes=download.total_bytes,
        created_at=download.created_at,
        ready_at=download.ready_at,
        url=url,
    )
