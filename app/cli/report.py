"""What the inspection found and how a job ended, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from app.api import models, money_models
from supervisor.domain.scene import FoundAs
from supervisor.domain.wording import dollars

_SHOWN = 10

_FOUND: dict[FoundAs, str] = {
    FoundAs.MISSING: "is not among the files; add it to the command",
    FoundAs.ABSOLUTE: "is a path on your machine; make it relative in Blender (File > External Data) and add the file",
    FoundAs.ELSEWHERE: "is among the files, but in another place",
}


def found_lines(job: models.Job) -> Iterator[str]:
    """What the farm read in the main .blend."""
    scene = job.scene
    if not scene:
        return
    size = f"{scene.width_px}×{scene.height_px}" + (f" at {scene.resolution_pct} %" if scene.resolution_pct != 100 else "")
    step = f", step {scene.frame_step}" if scene.frame_step != 1 else ""
    samples = f", {scene.samples} samples" if scene.samples else ""
    frames = f"frames {scene.frame_start}-{scene.frame_end}{step}"
    yield f"{job.main_file}: scene “{scene.name}”, {frames}, {size}, {scene.engine}{samples}, {scene.file_format}"
    yield f"  to render: frames {job.frames_spec}" if job.frames_spec else "  to render: nothing yet"
    if job.blender_words:
        yield f"  {job.blender_words}"


def warning_lines(job: models.Job) -> Iterator[str]:
    """What is likely to make the frames come out wrong."""
    missing = [each for each in job.dependencies if each.found is not FoundAs.PRESENT]
    for each in missing[:_SHOWN]:
        where = f" (it is at {each.at})" if each.at else ""
        yield f"warning: {each.path}, which {each.in_file} uses as {each.kind.value}, {_FOUND[each.found]}{where}"
    if len(missing) > _SHOWN:
        yield f"warning: … and {len(missing) - _SHOWN} more files; all are listed on {job.url}"
    # what the farm says of files beside their own list would say it twice
    for problem in job.problems:
        if not missing or "missing" not in problem.code:
            yield f"{problem.severity}: {problem.text}" + (f" {problem.remedy}" if problem.remedy else "")


def estimate_lines(job: models.Job, estimate: money_models.Estimate | None) -> Iterator[str]:
    """What the job will take, and its cap."""
    if estimate and estimate.frames:
        yield f"  estimate: {estimate.text}"
    if job.cap_usd is not None:
        cap = dollars(Decimal(str(job.cap_usd)))
        over = bool(estimate and estimate.cost_usd and estimate.cost_usd.low > job.cap_usd)
        yield f"warning: that is more than its cap of {cap}; it pauses there" if over else f"  pauses at: {cap}"


def end_lines(job: models.Job, failed: list[models.Frame]) -> Iterator[str]:
    """Why a job did not complete."""
    yield f"{job.name} {job.status.value}: {job.reason} ({job.frames.received} of {job.frames.total} frames received)"
    for problem in job.problems:
        if problem.severity == "error":
            yield f"  {problem.text}" + (f" {problem.remedy}" if problem.remedy else "")
    for frame in failed[:_SHOWN]:
        yield f"  frame {frame.number}: {frame.reason or frame.status.value}"
    if len(failed) > _SHOWN:
        yield f"  … and {len(failed) - _SHOWN} more frames"
