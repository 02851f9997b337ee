"""The regions that show how jobs go: the list, a job's status, instances, problems, history and downloads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from app.auth import may_change
from app.current import current_farm
from app.filters import duration, rough
from app.links import download_url
from app.views.money_regions import has_scouted
from app.views.regions import POLLS, WAITS, Region, region, trigger_of
from supervisor import queries
from supervisor.commands import downloads
from supervisor.domain.download import DownloadStatus
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import ACTIVE, ENDED, can_render_again
from supervisor.domain.wording import dollars
from supervisor.queries import InstanceView, JobDetail, JobSummary

JOBS_ON_A_PAGE = 50
_AT_WORK = frozenset({InstanceStatus.PENDING, InstanceStatus.RUNNING})


def list_region(after: str | None) -> Region:
    """A page of jobs, newest first, following job `after`."""
    jobs = queries.job_list(current_farm(), after=after, limit=JOBS_ON_A_PAGE + 1)
    shown, more = jobs[:JOBS_ON_A_PAGE], len(jobs) > JOBS_ON_A_PAGE
    return region(
        "jobs/_list.html",
        shows=([_seen_of(job) for job in shown], more, after),
        jobs=shown,
        after=after,
        next_after=shown[-1].id if more else None,
        live=any(job.status in ACTIVE for job in shown),
        now=datetime.now(UTC),
    )


def _seen_of(job: JobSummary) -> tuple[object, ...]:
    """All of a summary but its version, which grows with changes that nobody sees, and the estimate more exactly than it is written."""
    eta, cost = rough(job.eta_s), dollars(job.cost_usd)
    return (job.id, job.name, job.owner, job.status, job.reason, repr(job.frames), job.instances_running, eta, cost, job.cover_frame)


def status_region(job: str, detail: JobDetail | None = None) -> Region:
    detail = detail or queries.job_detail(current_farm(), job)
    allowed = may_change(detail.summary)
    flags = (allowed, detail.can_pause, detail.can_resume, detail.can_cancel, detail.can_retry, detail.can_delete)
    return region(
        "jobs/_status.html",
        shows=(_seen_of(detail.summary), flags, has_scouted(detail), duration(detail.seconds_per_frame), detail.file_count),
        job=detail.summary,
        detail=detail,
        may_change=allowed,
        has_scouted=has_scouted(detail),
        trigger=trigger_of(detail.summary.status),
        kept=_what_stays(detail.summary),
    )


def _what_stays(job: JobSummary) -> str:
    """What a cancel keeps, for its question."""
    received = job.frames.received
    if not received:
        return "No frame has been received yet."
    return f"The {received} frames received so far stay and can be downloaded." if received > 1 else "The one frame received so far stays."


def instances_region(job: str) -> Region:
    summary = queries.job_summary(current_farm(), job)
    instances = queries.job_instances(current_farm(), job)
    running = [each for each in instances if each.ended_at is None]
    return region(
        "jobs/_instances.html",
        shows=(summary.status, [_instance_seen(each) for each in instances]),
        job=summary,
        running=running,
        at_work=sum(1 for each in running if each.status in _AT_WORK and each.taken_back_at is None),
        ended=[each for each in instances if each.ended_at is not None],
        trigger=trigger_of(summary.status),
        now=datetime.now(UTC),
    )


def _instance_seen(each: InstanceView) -> tuple[object, ...]:
    """All of an instance but the time of its last heartbeat, which changes when nothing else does."""
    elapsed = None if each.elapsed_s is None else round(each.elapsed_s)
    said = (each.note, each.doing, each.taken_back_at, each.log_tail, each.problem)
    return (each.id, each.status, each.price_usd_per_h, each.progress_pct, elapsed, each.finished, said)


def problems_region(job: str, detail: JobDetail | None = None) -> Region:
    detail = detail or queries.job_detail(current_farm(), job)
    return region(
        "jobs/_problems.html",
        shows=detail.problems,
        job=detail.summary,
        problems=detail.problems,
        trigger=trigger_of(detail.summary.status),
    )


def events_region(job: str) -> Region:
    summary = queries.job_summary(current_farm(), job)
    events = queries.job_events(current_farm(), job)
    return region("jobs/_events.html", shows=events, job=summary, events=events, trigger=trigger_of(summary.status))


def downloads_region(job: str) -> Region:
    """The zips of a job; looks again twice a second while one is being packed."""
    summary = queries.job_summary(current_farm(), job)
    held = downloads.job_downloads(current_farm(), job)
    damaged = queries.damaged_frames(current_farm(), job)
    allowed = may_change(summary) and can_render_again(summary.status)
    packing = any(each.status is DownloadStatus.PACKING for each in held)
    return region(
        "jobs/_downloads.html",
        shows=(held, summary.frames.received, summary.status in ENDED, damaged, allowed),
        job=summary,
        downloads=held,
        links={each.id: download_url(each) for each in held if each.status is DownloadStatus.READY},
        newest=downloads.is_packed(current_farm(), job, received=summary.frames.received),
        damaged=damaged,
        may_change=allowed,
        has_ended=summary.status in ENDED,
        link_days=current_farm().config.downloads.link_days,
        trigger=POLLS.replace("2s", "500ms") if packing else trigger_of(summary.status),
    )


def priority_region(
    job: str, detail: JobDetail | None = None, *, typed: str | None = None, errors: Mapping[str, str] | None = None
) -> Region:
    """A job's priority, and the form that changes it. It is not replaced under a person's hands: only actions change it."""
    detail = detail or queries.job_detail(current_farm(), job)
    priority, has_ended = detail.settings.priority, detail.summary.status in ENDED
    allowed = may_change(detail.summary) and not has_ended
    return region(
        "jobs/_priority.html",
        shows=(priority, allowed),
        job=detail.summary,
        priority=priority,
        value=str(priority) if typed is None else typed,
        may_change=allowed,
        errors=errors or {},
        trigger=WAITS,
    )
