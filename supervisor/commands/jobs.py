"""Commands about jobs, from making one to deleting it. They record wishes; the tick does the work."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from supervisor.bookkeeping import write_down
from supervisor.domain.blender import check_wish
from supervisor.domain.budget import NEAR_CAP, check_cap
from supervisor.domain.errors import CommandError, Conflict, NotFound, Rejected
from supervisor.domain.file import FileStatus, is_blend
from supervisor.domain.frame import FrameStatus, frames_in_words
from supervisor.domain.ids import new_id
from supervisor.domain.job import ENDED, JobStatus, can_cancel, can_delete, can_pause, can_render_again, can_resume, can_retry
from supervisor.domain.settings import JobSettings
from supervisor.domain.submission import check_priority, check_settings
from supervisor.domain.wording import dollars
from supervisor.farm import Farm
from supervisor.readiness import blenders_of, limits_of
from supervisor.scouts import has_scouted
from supervisor.spending import check_budget, farm_cap_usd, is_counted
from supervisor.store import deletions, events, files, frames
from supervisor.store import jobs as store
from supervisor.store.database import Connection
from supervisor.store.jobs import Job

from .submit import FOUND_BEFORE, begin_rest, check_rest, submit

_MAX_NAME = 200


def create_job(farm: Farm, *, name: str, owner_id: str | None) -> str:
    """Make a draft. An empty name becomes that of the main .blend (“Untitled” until there is one).

    Returns: its id
    Errors:  Rejected - field `name`
    """
    job = new_id("job")
    with farm.db.write() as connection:
        store.add_job(connection, job, name=_checked_name(name), owner_id=owner_id, at=farm.now())
    return job


def rename_job(farm: Farm, job: str, *, name: str) -> None:
    """Errors: Rejected (name), NotFound"""
    checked = _checked_name(name)
    if not checked:
        raise Rejected("give the job a name", field="name")
    with farm.db.write() as connection:
        _found(connection, job)
        store.change_job(connection, job, name=checked)


def choose_main_file(farm: Farm, job: str, *, file: str) -> None:
    """Make that .blend of a draft the one that is rendered. Errors: Rejected (main_file), NotFound, Conflict"""
    with farm.db.write() as connection:
        _draft(connection, job)
        chosen = files.file_by_id(connection, file, job=job)
        if chosen is None:
            raise NotFound("this job has no such file (any more)")
        if not is_blend(chosen.path) or chosen.status is not FileStatus.READY:
            raise Rejected(f"“{chosen.path}” is not a usable .blend; choose another file", field="main_file")
        store.change_job(connection, job, main_file_id=chosen.id)


def change_settings(farm: Farm, job: str, settings: JobSettings, *, by_admin: bool = False) -> None:
    """Keep a draft's settings, checked as `submit_job` checks them as far as its files allow.

    Shape:   by_admin: who asks may give it a cap beyond the farm's
    Errors:  Rejected (by field), NotFound, Conflict
    """
    blenders = blenders_of(farm) if settings.blender else ()
    with farm.db.write() as connection:
        seen = _draft(connection, job)
        _check_cap(farm, seen, settings.max_cost_usd, by_admin=by_admin)
        check_wish(settings.blender, blenders)
        main_id = files.main_file_id(connection, job)
        main = files.file_by_id(connection, main_id, job=job) if main_id else None
        check_settings(settings, limits_of(farm), main=main.inspection if main else None)
        store.change_settings(connection, job, settings)


def submit_job(farm: Farm, job: str, settings: JobSettings | None = None, *, by_admin: bool = False) -> None:
    """Ask for a draft to be rendered; None: the settings kept so far.

    Shape:   by_admin: who asks may give it a cap beyond the farm's
    Errors:  Rejected - field `frames`, `instances`, `scene`, `camera`, `output`, `main_file`, `files` …: what is wrong and what to do;
             Conflict - not a draft; OverBudget; NotFound; OutOfSpace
    """
    with farm.db.read() as connection:
        seen = _draft(connection, job)
    wanted = settings or seen.settings
    _check_cap(farm, seen, wanted.max_cost_usd, by_admin=by_admin)
    submit(farm, seen, wanted)
    farm.wake()


def pause_job(farm: Farm, job: str) -> None:
    """Ask nodes to finish their frames and take no more, then give everything back. Errors: NotFound, Conflict"""
    with farm.db.write() as connection:
        seen = _found(connection, job)
        if not can_pause(seen.status):
            raise _conflict(seen, "paused")
        because = "pausing: instances finish the frames that they render and take no more"
        _moved(
            store.move(
                connection,
                seen,
                JobStatus.RELEASING,
                because=because,
                at=farm.now(),
                then=JobStatus.PAUSED,
                then_reason="paused by a person",
            )
        )
    farm.wake()


def resume_job(farm: Farm, job: str) -> None:
    """Ask for the rest of a paused job; of one that was scouted, say yes to it.

    Errors:  NotFound, Conflict, OverBudget; Rejected - the cloud would not render it
    """
    with farm.db.read() as connection:
        seen = _resumable(farm, connection, job)
    rest = check_rest(farm, seen)
    with farm.db.write() as connection:
        seen = _resumable(farm, connection, job)
        begin_rest(connection, job, rest, at=farm.now())
        is_yes = _end_scouting(connection, seen)
        because = "a person saw the scout frames and wants the rest" if is_yes else "resumed by a person"
        _moved(store.move(connection, seen, JobStatus.LAUNCHING, because=because, at=farm.now()))
    farm.wake()


def _resumable(farm: Farm, connection: Connection, job: str) -> Job:
    seen = _found(connection, job)
    if not can_resume(seen.status):
        raise _conflict(seen, "resumed")
    check_budget(farm, connection, seen)
    return seen


def _end_scouting(connection: Connection, seen: Job) -> bool:
    """Want all frames of a job whose scout frames have ended. Returns: False if it has none, or they have not ended"""
    if not has_scouted(connection, seen):
        return False
    store.change_job(connection, seen.id, scout_frames=[])
    return True


def change_cap(farm: Farm, job: str, max_cost_usd: Decimal | None, *, by_admin: bool = False) -> None:
    """Give a job another cap; None: the farm's own. A paused job stays paused: resume it.

    Shape:   by_admin: who asks may go beyond the farm's
    Errors:  Rejected (max_cost_usd), NotFound, Conflict
    """
    with farm.db.write() as connection:
        seen = _found(connection, job)
        if seen.status in ENDED:
            raise _conflict(seen, "capped")
        _check_cap(farm, seen, max_cost_usd, by_admin=by_admin)
        store.change_settings(connection, job, replace(seen.settings, max_cost_usd=max_cost_usd))
        events.clear_problem(connection, job, NEAR_CAP)
        cap = f"a cap of {dollars(max_cost_usd)}" if max_cost_usd else "the farm's own cap"
        events.add_event(connection, job, at=farm.now(), text=f"a person gave it {cap}")
    farm.wake()


def _check_cap(farm: Farm, seen: Job, wanted: Decimal | None, *, by_admin: bool) -> None:
    if wanted is not None and not is_counted(farm):
        raise Rejected("this farm renders on its own machine, which costs nothing: there is no cap to set", field="max_cost_usd")
    check_cap(wanted, kept=seen.settings.max_cost_usd, farm_usd=farm_cap_usd(farm.config.money), by_admin=by_admin)


def cancel_job(farm: Farm, job: str) -> None:
    """End a job now; what was received stays. Errors: NotFound, Conflict"""
    because = "cancelled by a person"
    with farm.db.write() as connection:
        seen = _found(connection, job)
        if seen.status is JobStatus.SUBMITTED:
            _moved(store.move(connection, seen, JobStatus.CANCELLED, because=because, at=farm.now()))
        elif seen.then is JobStatus.PAUSED:  # who pauses need not wait for the last frames to cancel
            _moved(store.change_what_follows(connection, seen, JobStatus.CANCELLED, because=because, at=farm.now()))
        elif can_cancel(seen.status):
            _moved(
                store.move(
                    connection, seen, JobStatus.RELEASING, because=because, at=farm.now(), then=JobStatus.CANCELLED, then_reason=because
                )
            )
        else:
            raise _conflict(seen, "cancelled")
    farm.wake()


def retry_job(farm: Farm, job: str) -> None:
    """Ask for the frames that are missing of a failed or cancelled job, with fresh attempts.

    Errors:  NotFound, Conflict, OverBudget; Rejected - the cloud would not render it
    """
    with farm.db.read() as connection:
        seen = _retriable(farm, connection, job)
    rest = check_rest(farm, seen)
    with farm.db.write() as connection:
        seen = _retriable(farm, connection, job)
        if seen.status is JobStatus.CANCELLED:
            _end_scouting(connection, seen)  # who asks for the rest has seen them
        counted = frames.counts(connection, job)
        missing = counted.total - counted.received
        because = f"a person asked for the {'frame that is' if missing == 1 else f'{missing} frames that are'} missing"
        _moved(store.move(connection, seen, JobStatus.SUBMITTED, because=because, at=farm.now()))
        frames.queue_missing(connection, job)
        for code in FOUND_BEFORE:
            events.clear_problem(connection, job, code)
        begin_rest(connection, job, rest, at=farm.now())
    farm.wake()


def _retriable(farm: Farm, connection: Connection, job: str) -> Job:
    seen = _found(connection, job)
    if not can_retry(seen.status):
        raise _conflict(seen, "retried")
    check_budget(farm, connection, seen)
    return seen


def render_again(farm: Farm, job: str, numbers: Sequence[int] = ()) -> None:
    """Ask for ended frames once more; with none named, for those that are known to be damaged. A job that has ended goes back to work for
    them; a paused one stays paused.

    Errors:  NotFound; Rejected - field `frames`: it has no such frame, or it is to be rendered anyway; Conflict, OverBudget; Rejected - the
             cloud would not render it
    """
    with farm.db.read() as connection:
        seen, _ = _wanted_again(farm, connection, job, numbers)
    rest = check_rest(farm, seen) if seen.status in ENDED else None
    with farm.db.write() as connection:
        seen, chosen = _wanted_again(farm, connection, job, numbers)
        if seen.status in ENDED:
            if rest is None:
                raise Conflict("this job ended just now; ask again")
            _begin_again(connection, seen, f"a person asked for {frames_in_words(chosen)} again{_besides(connection, job)}", at=farm.now())
            begin_rest(connection, job, rest, at=farm.now())
        else:
            events.add_event(connection, job, at=farm.now(), text=f"a person asked for {frames_in_words(chosen)} again")
        frames.render_again(connection, job, chosen, reason="a person asked for it again")
        for number in chosen:
            events.clear_problem(connection, job, "frame_failed", about=str(number))
        store.touch(connection, job)
    farm.wake()


def _wanted_again(farm: Farm, connection: Connection, job: str, numbers: Sequence[int]) -> tuple[Job, list[int]]:
    """The job and the frames that are asked for again, ascending. Errors: as render_again"""
    seen = _found(connection, job)
    if not can_render_again(seen.status):
        raise _conflict(seen, "rendered again")
    if seen.status in ENDED:
        check_budget(farm, connection, seen)
    chosen = sorted(set(numbers)) or frames.damaged(connection, job)
    if not chosen:
        raise Conflict("no frame of this job is known to be damaged; name the frames that are to be rendered again")
    there = {number: status for number, status, _, _ in frames.marks(connection, job)}
    if strange := [number for number in chosen if number not in there]:
        raise Rejected(f"this job has no {frames_in_words(strange)}", field="frames")
    if waiting := [number for number in chosen if there[number] not in {FrameStatus.RECEIVED, FrameStatus.FAILED}]:
        raise Rejected(f"{frames_in_words(waiting)} {'is' if len(waiting) == 1 else 'are'} to be rendered anyway", field="frames")
    return seen, chosen


def _begin_again(connection: Connection, seen: Job, because: str, *, at: datetime) -> None:
    _moved(store.move(connection, seen, JobStatus.SUBMITTED, because=because, at=at))
    for code in FOUND_BEFORE:
        if code != "frame_failed":  # of other frames, which stay as they are
            events.clear_problem(connection, seen.id, code)


def _besides(connection: Connection, job: str) -> str:
    """What a job renders too that was cancelled before all its frames had ended."""
    missing = frames.counts(connection, job).unended
    return f"; {missing} that {'is' if missing == 1 else 'are'} missing {'is' if missing == 1 else 'are'} rendered too" if missing else ""


def change_priority(farm: Farm, job: str, priority: int) -> None:
    """Let a job that has not ended go before others that wait for instances, or after them. What renders already goes on.

    Errors:  Rejected (priority), NotFound, Conflict
    """
    check_priority(priority)
    with farm.db.write() as connection:
        seen = _found(connection, job)
        if seen.status in ENDED:
            raise _conflict(seen, "put first or last")
        if priority == seen.settings.priority:
            return
        store.change_settings(connection, job, replace(seen.settings, priority=priority))
        text = f"a person gave it priority {priority} instead of {seen.settings.priority}"
        events.add_event(connection, job, at=farm.now(), text=text)
    farm.wake()


def delete_job(farm: Farm, job: str) -> None:
    """Make a draft or ended job be gone: rows at once, files, frames and zips soon after. What it cost and how fast it was stays known.

    Repeat:  safe
    Errors:  NotFound, Conflict
    """
    with farm.db.write() as connection:
        seen = _found(connection, job)
        if not can_delete(seen.status):
            raise _conflict(seen, "deleted")
        write_down(connection, seen, now=farm.now())
        deletions.leave_deletion(connection, job, at=farm.now())
        store.remove_job(connection, job)
    farm.wake()


def _found(connection: Connection, job: str) -> Job:
    found = store.find_job(connection, job)
    if found is None:
        raise NotFound("there is no such job (any more)")
    return found


def _draft(connection: Connection, job: str) -> Job:
    found = _found(connection, job)
    if found.status is not JobStatus.DRAFT:
        raise Conflict(f"this job is {found.status}; only a draft's files and settings can be changed or submitted")
    return found


def _conflict(seen: Job, wish: str) -> CommandError:
    """Say which statuses allow the wish, in words."""
    allowed = {
        "paused": "only a job that is being prepared or rendered can be paused",
        "resumed": "only a paused job can be resumed",
        "cancelled": "only a job that waits, is being rendered or is paused can be cancelled",
        "retried": "only a failed or cancelled job can be retried",
        "capped": "what it cost is spent; a cap is for a job that is not ended",
        "rendered again": "a draft has no frames yet; one that is given back right now has to end or pause first",
        "put first or last": "a priority is for a job that is not ended",
        "deleted": "cancel it first; drafts and ended jobs can be deleted",
    }
    return Conflict(f"this job is {seen.status}: {allowed[wish]}")


def _moved(is_moved: bool) -> None:
    assert is_moved, "the job was read in this transaction, and writers go one at a time"


def _checked_name(name: str) -> str:
    clean = " ".join(unicodedata.normalize("NFC", name).split())
    if any(unicodedata.category(c) in {"Cc", "Cs"} for c in clean):
        raise Rejected("the name has a control character in it; leave it out", field="name")
    if len(clean) > _MAX_NAME:
        raise Rejected(f"the name is longer than {_MAX_NAME} characters; shorten it", field="name")
    return clean
