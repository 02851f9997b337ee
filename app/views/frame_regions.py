"""The regions that show a job's frames: the grid, the previews, and one frame with its log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from flask import url_for

from app.auth import may_change
from app.current import current_farm
from app.filters import spec
from app.views.regions import Region, region, trigger_of
from supervisor import queries
from supervisor.domain.errors import NotFound
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import ACTIVE, can_render_again
from supervisor.queries import FrameMark, JobSummary

#: Frames of one range of the grid: ten seconds at 24 fps.
RANGE_FRAMES = 240
#: Ranges of a job at most; above it, ranges grow by whole multiples.
MAX_RANGES = 120
STRIP_PREVIEWS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRange:
    """A stretch of a job's frames, as the strip above the grid shows it."""

    first: int
    last: int
    frames: int
    received: int
    rendering: int
    failed: int
    is_shown: bool

    @property
    def tone(self) -> str:
        """The look of it: what needs attention first."""
        if self.failed:
            return "bad"
        if self.rendering:
            return "hot"
        if self.received == self.frames:
            return "good"
        return "part" if self.received else "idle"


def frames_region(job: str, first: int | None) -> Region:
    """The grid: one range of frames, and the strip to choose another.

    Shape:   first: a frame of the range to show; None: the range where something happens
    """
    summary = queries.job_summary(current_farm(), job)
    marks = queries.job_frame_marks(current_farm(), job)
    start, size = _shown_range(marks, first)
    shown = marks[start : start + size]
    ranges = _ranges(marks, size, start) if len(marks) > size else []
    return region(
        "jobs/_frames.html",
        shows=(summary.status, repr(summary.frames), ranges, shown),
        job=summary,
        ranges=ranges,
        cells=shown,
        first=shown[0].number if shown and first is not None else None,
        frame_base=url_for("jobs.detail", job=job) + "/frames/",
        trigger=trigger_of(summary.status),
    )


def _shown_range(marks: Sequence[FrameMark], first: int | None) -> tuple[int, int]:
    """Returns: index of the first frame shown, and how many a range has"""
    size = RANGE_FRAMES
    if len(marks) > RANGE_FRAMES * MAX_RANGES:
        size = RANGE_FRAMES * -(-len(marks) // (RANGE_FRAMES * MAX_RANGES))
    if first is None:
        place = next((i for i, mark in enumerate(marks) if mark.status is FrameStatus.RENDERING), 0)
    else:
        place = max(0, bisect_right(marks, first, key=lambda mark: mark.number) - 1)
    return place // size * size, size


def _ranges(marks: Sequence[FrameMark], size: int, shown: int) -> list[FrameRange]:
    ranges = []
    for start in range(0, len(marks), size):
        part = marks[start : start + size]
        statuses = [mark.status for mark in part]
        ranges.append(
            FrameRange(
                first=part[0].number,
                last=part[-1].number,
                frames=len(part),
                received=statuses.count(FrameStatus.RECEIVED),
                rendering=statuses.count(FrameStatus.RENDERING),
                failed=statuses.count(FrameStatus.FAILED),
                is_shown=start == shown,
            )
        )
    return ranges


def previews_region(job: str) -> Region:
    """The frames that have a picture, for the flip-book, and the newest of them as a strip."""
    summary = queries.job_summary(current_farm(), job)
    pictured = [mark for mark in queries.job_frame_marks(current_farm(), job) if mark.has_preview]
    runs = _runs_by_attempt(pictured)
    return region(
        "jobs/_previews.html",
        shows=(runs, summary.cover_frame, summary.status, summary.frames.received > 0),
        job=summary,
        runs=runs,
        strip=_strip(pictured),
        cover=_cover(pictured, summary),
        frame_base=url_for("jobs.detail", job=job) + "/frames/",
        trigger=trigger_of(summary.status),
    )


def _runs_by_attempt(pictured: Sequence[FrameMark]) -> str:
    """Write which frames have pictures, of which attempt: `1:1-120;2:121,130`. A frame rendered anew has another picture."""
    by_attempt: dict[int, list[int]] = {}
    for mark in pictured:
        by_attempt.setdefault(mark.attempt, []).append(mark.number)
    return ";".join(f"{attempt}:{spec(numbers)}" for attempt, numbers in sorted(by_attempt.items()))


def _strip(pictured: Sequence[FrameMark]) -> list[FrameMark]:
    """A few pictures spread evenly over what there is, the first and the last among them."""
    if len(pictured) <= STRIP_PREVIEWS:
        return list(pictured)
    last = len(pictured) - 1
    return [pictured[round(i * last / (STRIP_PREVIEWS - 1))] for i in range(STRIP_PREVIEWS)]


def _cover(pictured: Sequence[FrameMark], job: JobSummary) -> FrameMark | None:
    newest = next((mark for mark in pictured if mark.number == job.cover_frame), None)
    return newest or (pictured[-1] if pictured else None)


def panel_region(job: str, number: int) -> Region:
    """One frame: its picture, times, outputs and log; looks again while it can change."""
    summary = queries.job_summary(current_farm(), job)
    frame = queries.job_frame(current_farm(), job, number)
    log = _log_of(job, number) if frame.has_log or frame.status is FrameStatus.RENDERING else ""
    marks = queries.job_frame_marks(current_farm(), job)
    place = bisect_right(marks, number, key=lambda mark: mark.number) - 1
    has_ended = frame.status in {FrameStatus.RECEIVED, FrameStatus.FAILED}
    allowed = has_ended and can_render_again(summary.status) and may_change(summary)
    return region(
        "frames/_panel.html",
        shows=(frame, log, summary.status, allowed),
        job=summary,
        frame=frame,
        log=log,
        may_render_again=allowed,
        before=marks[place - 1].number if place > 0 else None,
        after=marks[place + 1].number if place + 1 < len(marks) else None,
        live=summary.status in ACTIVE and frame.status in {FrameStatus.QUEUED, FrameStatus.RENDERING},
    )


def _log_of(job: str, number: int) -> str:
    try:
        return queries.frame_log(current_farm(), job, number)
    except NotFound:
        return ""
