"""What the farm shows: read models for pages and the API. Each function is one read; nothing here changes anything."""

from __future__ import annotations

from supervisor.domain.frame import FrameCounts
from supervisor.domain.problem import Problem
from supervisor.store.events import Event as EventView

from .checks import farm_checks
from .detail import job_detail, job_files
from .frames import damaged_frames, frame_log, frame_preview, job_frame, job_frame_marks, job_frames, open_output
from .instances import job_instances
from .jobs import health, job_events, job_list, job_summary, jobs_version, unfinished_blenders
from .models import (
    DownloadView,
    FileView,
    FrameMark,
    FrameView,
    Health,
    InstanceView,
    JobDetail,
    JobSummary,
    MonthView,
    OutputView,
    Scouting,
    TypeFigures,
)
from .money import job_estimate, month, statistics

__all__ = [
    "DownloadView",
    "EventView",
    "FileView",
    "FrameCounts",
    "FrameMark",
    "FrameView",
    "Health",
    "InstanceView",
    "JobDetail",
    "JobSummary",
    "MonthView",
    "OutputView",
    "Problem",
    "Scouting",
    "TypeFigures",
    "damaged_frames",
    "farm_checks",
    "frame_log",
    "frame_preview",
    "health",
    "job_detail",
    "job_estimate",
    "job_events",
    "job_files",
    "job_frame",
    "job_frame_marks",
    "job_frames",
    "job_instances",
    "job_list",
    "job_summary",
    "jobs_version",
    "month",
    "open_output",
    "statistics",
    "unfinished_blenders",
]
