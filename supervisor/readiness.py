"""Whether a draft can be submitted: its files, its main .blend, its settings. Read by the command and by the page."""

from __future__ import annotations

import structlog

from supervisor.cloud.ports import Check, JobNeeds, Refused, Throttled, Unreachable
from supervisor.domain.blender import check_blender, kept_blender, listed, numbers_of
from supervisor.domain.errors import Rejected
from supervisor.domain.scene import Inspection
from supervisor.domain.settings import JobSettings
from supervisor.domain.submission import Limits, check_settings
from supervisor.farm import Farm
from supervisor.store import files, inventory
from supervisor.store.database import Connection
from supervisor.store.files import FileRow
from supervisor.store.jobs import Job

log = structlog.get_logger(__name__)


def limits_of(farm: Farm) -> Limits:
    render = farm.config.render
    return Limits(max_frames=render.max_frames, max_instances=render.max_instances, rents=farm.config.cloud.provider != "local")


def check_files(found: inventory.Inventory) -> None:
    """Errors: Rejected - field `files`: there are none, or some are not usable (yet)"""
    if not found.count:
        raise Rejected("this job has no files; upload a .blend", field="files")
    if found.uploading:
        raise Rejected(f"{_files(found.uploading)} still being uploaded; wait for the rest, or remove what you don't need", field="files")
    if found.checking:
        raise Rejected(f"{_files(found.checking)} still being checked; try again in a moment", field="files")
    for path, problem in found.bad:
        raise Rejected(f"“{path}” can't be used: {problem}", field="files")


def _files(count: int) -> str:
    return "one file is" if count == 1 else f"{count} files are"


def main_file(connection: Connection, job: str) -> FileRow:
    """The .blend that is rendered. Errors: Rejected - field `main_file`: there is none, or a person must choose"""
    chosen = files.main_file_id(connection, job)
    found = files.file_by_id(connection, chosen, job=job) if chosen else None
    if found:
        return found
    candidates = files.blends_of(connection, job)
    if not candidates:
        raise Rejected("this job has no .blend; upload one", field="main_file")
    names = ", ".join(f"“{file.path}”" for file in candidates[:8])
    raise Rejected(f"this job has {len(candidates)} .blend files ({names}); choose the one to render", field="main_file")


def inspected(file: FileRow) -> Inspection:
    """Errors: Rejected - field `main_file`: it was not (or could not be) inspected"""
    if file.inspection is None:
        raise Rejected(f"“{file.path}” could not be read; upload it again", field="main_file")
    return file.inspection


def check_main_file(main: FileRow, settings: JobSettings, limits: Limits, *, blenders: tuple[str, ...]) -> tuple[Inspection, str]:
    """Check that the farm can render the main file as asked. Returns: what is in it, and the Blender that renders it. Errors: Rejected"""
    inspection = inspected(main)
    version = check_blender(inspection.version, blenders, path=main.path, wish=settings.blender, rents=limits.rents)
    check_settings(settings, limits, main=inspection)
    return inspection, version


def check_kept_blender(job: Job, main: FileRow, limits: Limits, *, blenders: tuple[str, ...], received: int) -> str:
    """Choose the Blender for the rest of a job: the one that it has been rendered with. While it has no frame, another will do.

    Errors:  Rejected - there is none of its series any more, and frames of it: two versions in one animation can be seen
    """
    kept = kept_blender(job.blender_version, blenders) if numbers_of(job.blender_version) else None
    if kept is None and received and numbers_of(job.blender_version):
        was = f"{'its one frame' if received == 1 else f'its {received} frames'} so far {'was' if received == 1 else 'were'} rendered"
        text = f"{was} by Blender {job.blender_version}, and this farm has {listed(blenders)} now"
        raise Rejected(f"{text}: give it that Blender again, or submit what is missing as a new job", field="blender")
    return kept or check_main_file(main, job.settings, limits, blenders=blenders)[1]


def needs_of(main: FileRow, settings: JobSettings, *, bytes: int, blender: str) -> JobNeeds:
    """What a job will ask of the cloud. Shape: blender: version that renders it"""
    return JobNeeds(
        instances=settings.instances,
        market=settings.market,
        max_price_usd_per_h=settings.max_price_usd_per_h,
        instance_types=settings.instance_types,
        bytes=bytes,
        blender_version=numbers_of(blender),
    )


def check_cloud(farm: Farm, needs: JobNeeds) -> tuple[Check, ...]:
    """Ask the cloud whether a job would be rendered there, before anything is rented for it.

    Returns: what a person should know all the same
    Errors:  Rejected - it would not; says why, and what to do
    """
    try:
        found = farm.cloud.premises.job_checks(needs)
    except (Throttled, Unreachable) as error:
        # the job waits for the cloud as any job does that is under way
        log.warning("a job's needs were not checked", error=str(error))
        return ()
    except Refused as error:
        raise Rejected(str(error)) from error
    failed = [check for check in found if not check.is_ok and not check.is_warning]
    if failed:
        raise Rejected(" ".join(_said(check) for check in failed))
    return tuple(check for check in found if check.is_warning)


def _said(check: Check) -> str:
    text = f"{check.text}: {check.remedy}" if check.remedy else check.text
    return text if text.endswith(".") else f"{text}."


def blenders_of(farm: Farm) -> tuple[str, ...]:
    """Versions of the Blenders that the farm has."""
    return tuple(blender.version for blender in farm.cloud.premises.blenders())


def blockers(connection: Connection, job: str, settings: JobSettings, limits: Limits, *, blenders: tuple[str, ...]) -> tuple[str, ...]:
    """Why a draft can't be submitted yet, for people. Empty: it can"""
    held = inventory.inventory(connection, job)
    found = []
    try:
        check_files(held)
    except Rejected as error:
        found.append(str(error))
    if not held.count or ((held.uploading or held.checking) and not files.blends_of(connection, job)):
        return tuple(found)  # that there is no .blend (yet) goes without saying
    try:
        check_main_file(main_file(connection, job), settings, limits, blenders=blenders)
    except Rejected as error:
        found.append(str(error))
    return tuple(dict.fromkeys(found))
