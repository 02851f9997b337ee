"""`kiln submit`: upload a project, have it rendered, wait for it, bring the frames home."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from app.api import models, money_models
from supervisor.domain.errors import Rejected
from supervisor.domain.file import FileStatus, is_blend, is_zip
from supervisor.domain.frame import FIRST_FRAME, LAST_FRAME, FrameStatus, TooManyFrames, parse_frames
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import HIGHEST_PRIORITY, USUAL_PRIORITY
from supervisor.domain.workspace import WorkspaceMode

from .client import ApiError, Client
from .failure import Failed
from .options import make_client, with_json, with_server
from .patience import patiently
from .progress import Progress, size_text
from .project import LocalFile, gather
from .report import end_lines, estimate_lines, found_lines, warning_lines
from .unfinished import Unfinished, state_folder
from .upload import Uploader
from .watch import FrameFolder, follow

_CHECK_EVERY_S = 0.5
_MOST_FRAMES = LAST_FRAME - FIRST_FRAME + 1  # a farm's own limit is lower, and its own to tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for."""

    name: str
    main: Path
    main_path: str | None  #: which .blend of a zip
    settings: dict[str, Any]
    files: tuple[LocalFile, ...]


@click.command()
@click.argument("blend", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE|FOLDER]...")
@with_server
@click.option("--frames", metavar="SPEC", help="Such as 1-100, 1-100x5, 1,5,10-20 or -5-5.  [default: the scene's own]")
@click.option("--instances", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="How many render at once.")
@click.option(
    "--priority",
    type=click.IntRange(0, HIGHEST_PRIORITY),
    default=USUAL_PRIORITY,
    show_default=True,
    metavar="N",
    help="Among jobs that wait for instances.",
)
@click.option("--name", metavar="NAME", help="Of the job.  [default: the file's]")
@click.option("--scene", metavar="NAME", help="Which scene.  [default: the one current when the file was saved]")
@click.option("--camera", metavar="NAME", help="Which camera.  [default: the scene's own]")
@click.option(
    "--blender",
    metavar="SERIES",
    help="Which Blender of the farm's, such as 4.5.  [default: the one that saved the file, else the next newer]",
)
@click.option("--format", "file_format", metavar="FORMAT", help="Blender's name of it, such as PNG or OPEN_EXR.  [default: the file's]")
@click.option("--resolution", type=click.IntRange(1, 1000), metavar="PCT", help="Percent of the scene's resolution.")
@click.option("--samples", type=click.IntRange(1, 65536), metavar="N", help="Render samples.")
@click.option(
    "--workspace",
    type=click.Choice([mode.value for mode in WorkspaceMode]),
    metavar="MODE",
    help="How the files come to rented instances: s3, each fetches them; snapshot, each gets a copy of a volume; auto, by their size.  "
    "[default: the farm's choice]",
)
@click.option("--max-cost", type=click.FloatRange(0, min_open=True), metavar="USD", help="The job pauses there.  [default: the farm's cap]")
@click.option("--scout", is_flag=True, help="Render the first, the middle and the last frame, then wait for your yes to the rest.")
@click.option("--main", "main_path", metavar="PATH", help="Which .blend of a zip to render.")
@click.option("--wait", is_flag=True, help="Wait until the job has ended; exit with 1 if frames are missing.")
@click.option(
    "--download", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Bring the frames here as they arrive; waits."
)
@with_json
def submit(blend: Path, files: tuple[Path, ...], **options: Any) -> None:
    """Upload BLEND with its files and have it rendered.

    The files keep their places relative to the .blend. BLEND may be a zip of a whole project. Run again after an interruption, the
    same command goes on with what is left to upload. Prints the job's id and the address of its page.

    Exits with 0 when the job was submitted (with --wait or --download: completed), 1 when it failed, 2 when the command was wrong.
    """
    if not (is_blend(blend.name) or is_zip(blend.name)):
        raise click.UsageError(f"{blend} is no .blend and no .zip")
    _check_frames(options["frames"])
    client = make_client(options["server"], options["token"])
    wanted = Wanted(
        name=options["name"] or blend.stem,
        main=blend,
        main_path=options["main_path"],
        settings=_settings(options),
        files=tuple(gather(blend, files)),
    )
    job = _submitted(client, wanted)
    if not options["as_json"]:
        click.echo(f"{job.id}\n{job.url}")
    if options["wait"] or options["download"]:
        job = _ended(client, job, options["download"])
    if options["as_json"]:
        click.echo(job.model_dump_json(indent=1))
    if job.status in {JobStatus.FAILED, JobStatus.CANCELLED}:
        raise Failed("\n".join(end_lines(job, _failed_frames(client, job))))


def _check_frames(spec: str | None) -> None:
    """Refuse a spec that no farm takes before anything is uploaded."""
    try:
        parse_frames("1" if spec is None else spec, max_frames=_MOST_FRAMES)
    except TooManyFrames as error:
        numbers = f"Blender's frame numbers go from {FIRST_FRAME} to {LAST_FRAME}"
        raise click.BadParameter(f"“{spec}” is more frames than there are; {numbers}", param_hint="--frames") from error
    except Rejected as error:
        raise click.BadParameter(str(error), param_hint="--frames") from error


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """All of them, also those that are as the scene has them: a draft that is gone on with may have others from the run before."""
    output = {"format": options["file_format"], "resolution_pct": options["resolution"], "samples": options["samples"]}
    plain = {name: options[name] for name in ("frames", "scene", "camera", "blender", "instances", "priority", "scout")}
    return plain | {"workspace_mode": options["workspace"], "max_cost_usd": options["max_cost"], "output": output}


def _submitted(client: Client, wanted: Wanted) -> models.Job:
    unfinished = Unfinished(state_folder(), server=client.server, main=wanted.main, name=wanted.name)
    job = _draft(client, wanted, unfinished)
    _upload(client, job, wanted.files, unfinished)
    _wait_for_checks(client, job)
    seen = _with_main_file(client, patiently(lambda: client.job(job)), wanted)
    seen = client.change_job(seen.id, settings=wanted.settings)
    for line in (*found_lines(seen), *warning_lines(seen), *estimate_lines(seen, _estimate(client, job))):
        click.echo(line, err=True)
    submitted = client.submit_job(job)
    unfinished.forget()
    return submitted


def _estimate(client: Client, job: str) -> money_models.Estimate | None:
    """Returns: None from a farm that is older than this command"""
    try:
        return patiently(lambda: client.estimate(job))
    except ApiError as error:
        if error.status != 404:
            raise
        return None


def _draft(client: Client, wanted: Wanted, unfinished: Unfinished) -> str:
    """The draft that an earlier run began, or a new one."""
    if unfinished.job:
        try:
            seen = client.job(unfinished.job)
        except ApiError as error:
            if error.status != 404:
                raise
        else:
            # another's: somebody else's token was used on this machine
            if seen.status is JobStatus.DRAFT and "delete" in seen.actions:
                click.echo(f"going on with {seen.id}", err=True)
                return seen.id
    job = client.create_job(wanted.name).id
    unfinished.begin(job)
    return job


def _upload(client: Client, job: str, files: Sequence[LocalFile], unfinished: Unfinished) -> None:
    left = [file for file in files if not unfinished.has(file)]
    total = sum(file.bytes for file in left)
    sent = 0
    progress = Progress("upload")

    def count(change: int) -> None:
        # several threads: a lost addition would only misdraw the bar
        nonlocal sent
        sent += change
        progress.show(sent, total, f"{size_text(sent)} of {size_text(total)}")

    def note(file: LocalFile, whole: models.File) -> None:
        if whole.status is FileStatus.BAD:
            progress.close()
            raise Failed(f"{file.source}: {whole.problem}")
        unfinished.add(file)

    try:
        Uploader(client, job, on_bytes=count).send(left, on_file=note)
    finally:
        progress.close()


def _wait_for_checks(client: Client, job: str) -> None:
    """Wait until the farm has unpacked and inspected everything. Errors: Failed - a file is bad"""
    while True:
        files = patiently(lambda: list(client.files(job)))
        if bad := [file for file in files if file.status is FileStatus.BAD]:
            raise Failed("\n".join(f"{file.path}: {file.problem}" for file in bad))
        if not any(file.status is FileStatus.CHECKING for file in files):
            return
        time.sleep(_CHECK_EVERY_S)


def _with_main_file(client: Client, job: models.Job, wanted: Wanted) -> models.Job:
    """Make the .blend that the command names the one that is rendered. Errors: Failed - the farm can't tell which"""
    path = wanted.main_path or (wanted.files[0].path if is_blend(wanted.files[0].path) else None)
    if path and job.main_file != path and path not in job.main_candidates:
        raise Failed(f"there is no “{path}” in the project{_choices(job)}")
    if path and job.main_file != path:
        return client.change_job(job.id, main_file=path)
    if job.main_file is None and job.main_candidates:
        raise Failed(f"the project has several .blend files{_choices(job)}")
    if job.main_file is None:
        raise Failed("there is no .blend in the project")
    return job


def _choices(job: models.Job) -> str:
    return "".join(["; say which .blend to render:", *(f"\n  --main {shlex.quote(each)}" for each in job.main_candidates)])


def _ended(client: Client, job: models.Job, folder: Path | None) -> models.Job:
    frames = FrameFolder(client, job.id, folder) if folder else None
    try:
        ended = follow(client, job.id, progress=Progress("render"), frames=frames, wants_rest=_wants_rest)
    except KeyboardInterrupt:
        click.echo(f"\nthe job goes on without you: {job.url}", err=True)
        raise
    if folder and frames:
        click.echo(f"{frames.files} files in {folder}", err=True)
    return ended


def _wants_rest(job: models.Job) -> bool:
    """Ask for the rest of a scouted job, where somebody is there to answer."""
    click.echo(f"{job.reason}\nthe pictures: {job.url}", err=True)
    return sys.stdin.isatty() and click.confirm("Render the rest?", err=True)


def _failed_frames(client: Client, job: models.Job) -> list[models.Frame]:
    return [frame for frame in client.frames(job.id) if frame.status is FrameStatus.FAILED]
