"""What a job would take with some settings: time and money, from the farm's own past."""

from __future__ import annotations

from supervisor.domain.errors import CommandError
from supervisor.domain.estimate import Estimate, Offer, basis_in_words, estimate, price_in_words, time_in_words
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings
from supervisor.domain.submission import chosen_frames, chosen_scene
from supervisor.farm import Farm
from supervisor.measuring import boot_s, paces_of, work_of
from supervisor.renting import as_rented
from supervisor.spending import is_counted, types_of, usd_per_h
from supervisor.store import files, frames, paces
from supervisor.store.database import Connection
from supervisor.store.jobs import Job

#: The newest say most; older ones are of machines and files long gone.
_NEWEST = 2000
#: What instances are called where there is nothing to choose: this machine.
_HERE = "local"


def estimate_job(farm: Farm, connection: Connection, job: Job, settings: JobSettings) -> Estimate | None:
    """Estimate what is left to render of a job; of a draft, all of it with those settings.

    Returns: None if nobody can tell what would be rendered: there is no main file yet, or the settings do not fit it
    """
    work = work_of(connection, job, settings)
    count = _frames(farm, connection, job, settings)
    if work is None or not count:
        return None
    known = [pace for pace in paces.newest_paces(connection, limit=_NEWEST) if pace.work.job != job.id]
    known += paces_of(connection, job, now=farm.now())  # its own, fresh
    return estimate(work, _offers(farm, connection, settings), known, frames=count, instances=_at_once(farm, job, settings))


def _frames(farm: Farm, connection: Connection, job: Job, settings: JobSettings) -> int:
    if job.status is not JobStatus.DRAFT:
        counted = frames.counts(connection, job.id)
        return counted.total - counted.received
    main_id = files.main_file_id(connection, job.id)
    main = files.file_by_id(connection, main_id, job=job.id) if main_id else None
    if main is None or main.inspection is None:
        return 0
    try:
        return len(chosen_frames(settings, chosen_scene(settings, main.inspection), max_frames=farm.config.render.max_frames))
    except CommandError:
        return 0


def _at_once(farm: Farm, job: Job, settings: JobSettings) -> int:
    most = farm.config.launch.max_instances if is_counted(farm) else farm.config.local.slots
    return 1 if job.ordered else min(as_rented(farm, settings).instances, most)


def _offers(farm: Farm, connection: Connection, settings: JobSettings) -> list[Offer]:
    return [
        Offer(instance_type=each, usd_per_h=usd_per_h(farm, each, settings), boot_s=boot_s(connection, each))
        for each in types_of(farm, settings) or (_HERE,)
    ]


def in_words(found: Estimate | None) -> str:
    """What an estimate comes to and what it rests on, for people. Empty where there is nothing to estimate yet"""
    if found is None:
        return ""
    if found.wall_s is None:
        return f"time and price are {basis_in_words(found)}"
    price = price_in_words(found.usd) if found.usd else ""
    return time_in_words(found.wall_s) + (f", {price}" if price else "") + f", {basis_in_words(found)}"


def rest_in_words(found: Estimate) -> str:
    """What an estimate comes to, in a sentence's middle: “take about 2 h and cost about $4.20”. Empty where nothing is known"""
    if found.wall_s is None:
        return ""
    price = price_in_words(found.usd) if found.usd else ""
    return f"take {time_in_words(found.wall_s)}" + (f" and cost {price}" if price else "")
