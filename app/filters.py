"""Numbers, sizes, times and statuses as people read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from flask import Flask, url_for
from markupsafe import Markup, escape

from app.auth import signed_in_user
from app.current import current_farm, has_images
from nodeimage.protocol import runs_of
from supervisor.domain.account import MIN_PASSWORD_CHARACTERS
from supervisor.domain.download import DownloadStatus
from supervisor.domain.file import FileStatus
from supervisor.domain.frame import FrameStatus, frames_in_words
from supervisor.domain.instance import InstanceStatus, Market
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import HIGHEST_PRIORITY, USUAL_PRIORITY
from supervisor.domain.wording import about, dollars

#: What a text may name that looks otherwise: addresses, pages of the farm's that administrators alone see, and what is typed into a shell.
_NAMED = re.compile(r"(https://[^\s<>\"”),;]+|page “Images”|AWS page|`[^`]+`)")
_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")

JOB_WORDS = {
    JobStatus.DRAFT: "Draft",
    JobStatus.SUBMITTED: "Submitted",
    JobStatus.STAGING: "Preparing files",
    JobStatus.SNAPSHOTTING: "Preparing files",
    JobStatus.LAUNCHING: "Launching",
    JobStatus.RENDERING: "Rendering",
    JobStatus.RELEASING: "Finishing",
    JobStatus.PAUSED: "Paused",
    JobStatus.COMPLETED: "Completed",
    JobStatus.FAILED: "Failed",
    JobStatus.CANCELLED: "Cancelled",
}
#: Which of the few looks a status has: idle, busy, hot, held, good, bad, off.
JOB_TONES = {
    JobStatus.DRAFT: "idle",
    JobStatus.SUBMITTED: "busy",
    JobStatus.STAGING: "busy",
    JobStatus.SNAPSHOTTING: "busy",
    JobStatus.LAUNCHING: "busy",
    JobStatus.RENDERING: "hot",
    JobStatus.RELEASING: "busy",
    JobStatus.PAUSED: "held",
    JobStatus.COMPLETED: "good",
    JobStatus.FAILED: "bad",
    JobStatus.CANCELLED: "off",
}
FRAME_WORDS = {
    FrameStatus.QUEUED: "waiting",
    FrameStatus.RENDERING: "rendering",
    FrameStatus.RECEIVED: "done",
    FrameStatus.FAILED: "failed",
}
INSTANCE_WORDS = {
    InstanceStatus.REQUESTED: "asked for",
    InstanceStatus.PENDING: "starting",
    InstanceStatus.RUNNING: "running",
    InstanceStatus.STOPPING: "stopping",
    InstanceStatus.STOPPED: "stopped",
    InstanceStatus.TERMINATING: "ending",
    InstanceStatus.TERMINATED: "ended",
}
INSTANCE_TONES = {
    InstanceStatus.REQUESTED: "busy",
    InstanceStatus.PENDING: "busy",
    InstanceStatus.RUNNING: "hot",
    InstanceStatus.STOPPING: "busy",
    InstanceStatus.STOPPED: "held",
    InstanceStatus.TERMINATING: "busy",
    InstanceStatus.TERMINATED: "off",
}
FILE_WORDS = {
    FileStatus.UPLOADING: "upload unfinished",
    FileStatus.CHECKING: "checking",
    FileStatus.READY: "ready",
    FileStatus.BAD: "can't be used",
}
MARKET_WORDS = {
    Market.ON_DEMAND: "On demand",
    Market.SPOT: "Spot",
}
DOWNLOAD_WORDS = {
    DownloadStatus.PACKING: "packing",
    DownloadStatus.READY: "ready",
    DownloadStatus.FAILED: "failed",
    DownloadStatus.DELETED: "deleted",
}
_ENGINES = {
    "CYCLES": "Cycles",
    "BLENDER_EEVEE": "EEVEE",
    "BLENDER_EEVEE_NEXT": "EEVEE",
    "BLENDER_WORKBENCH": "Workbench",
}
_FORMATS = {
    "OPEN_EXR": "OpenEXR",
    "OPEN_EXR_MULTILAYER": "OpenEXR multilayer",
    "TARGA": "Targa",
    "TARGA_RAW": "Targa raw",
    "JPEG2000": "JPEG 2000",
    "WEBP": "WebP",
    "HDR": "Radiance HDR",
    "CINEON": "Cineon",
    "FFMPEG": "video (FFmpeg)",
    "AVI_JPEG": "video (AVI)",
    "AVI_RAW": "video (AVI)",
}


def size(length: int) -> str:
    """Units:   bytes in; decimal units out, as disks and clouds are sold"""
    value = float(length)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("the last unit takes every size")


def duration(seconds: float | None) -> str:
    """Write a span of time with its two largest units. Returns: a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, unit_s, smaller, smaller_s in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= unit_s:
            rest = whole % unit_s // smaller_s
            return f"{whole // unit_s} {unit} {rest} {smaller}" if rest else f"{whole // unit_s} {unit}"
    return f"{whole} s"


def rough(seconds: float | None) -> str:
    """Write an estimate no more exactly than it is known. Returns: empty for None."""
    return "" if seconds is None else about(seconds)


def ago(then: datetime | None, now: datetime | None = None) -> str:
    """Write how long ago a time was. Returns: “never” for None."""
    if then is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    if seconds < 45:
        return "just now"
    for unit, unit_s, up_to in (("min", 60, 5400), ("h", 3600, 36 * 3600)):
        if seconds < up_to:
            return f"{max(1, round(seconds / unit_s))} {unit} ago"
    days = round(seconds / 86400)
    return f"{days} days ago" if days < 60 else then.strftime("%-d %B %Y")


def moment(then: datetime) -> str:
    """For people, in UTC; times.js writes it in the reader's own time zone where it runs."""
    return then.astimezone(UTC).strftime("%-d %b %Y, %H:%M:%S UTC")


def hour(then: datetime) -> str:
    """The time of a day that is today's, in UTC; times.js writes it in the reader's own time zone where it runs."""
    return then.astimezone(UTC).strftime("%H:%M UTC")


def iso(then: datetime) -> str:
    """For a `<time datetime>`."""
    return then.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def count(number: int) -> str:
    """Write a number with thin spaces between the thousands."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(number: int, one: str, many: str = "") -> str:
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def percent(part: float, whole: float) -> int:
    """Whole percent, rounded down: 100 means all."""
    return int(part * 100 // whole) if whole else 0


def sentence(text: str) -> str:
    """Begin what a command or the lifecycle says as a sentence begins."""
    return text[:1].upper() + text[1:]


def beyond(reason: str, word: str) -> str:
    """What a reason says beyond the word of its status, where that stands beside it: “paused by a person” is “by a person”."""
    if reason[: len(word)].lower() != word.lower() or reason[len(word) : len(word) + 1] not in {" ", ":"}:
        return reason
    return reason[len(word) :].lstrip(": ")


def linked(text: str) -> Markup:
    """Make what a text names look it: web addresses and pages of the farm's that whoever reads it may see are links, commands code."""
    parts = _NAMED.split(text)
    return Markup("").join(_link(part) if number % 2 else escape(part) for number, part in enumerate(parts))


def _link(named: str) -> Markup:
    if named.startswith("`"):
        return Markup("<code>{}</code>").format(named.strip("`"))
    if not named.startswith("https:"):
        page = _page_of(named)
        return Markup('<a href="{}">{}</a>').format(page, named) if page else escape(named)
    end = "." if named.endswith(".") else ""
    where = named.removesuffix(".")
    return Markup('<a href="{0}" rel="noreferrer" target="_blank">{0}</a>{1}').format(where, end)


def _page_of(name: str) -> str:
    """Returns: empty where there is none, or not for whoever asks"""
    person = signed_in_user()
    if person is None or person.role != "admin":
        return ""
    if name == "AWS page":
        return url_for("aws.index") if current_farm().cloud.account else ""
    return url_for("images.index") if has_images() else ""


def usd(price: Decimal) -> str:
    """Shape:   cents, or four places where a price has them (spot prices do)"""
    cents = price.quantize(Decimal("0.01"))
    return f"${cents}" if cents == price else f"${price.quantize(Decimal('0.0001'))}"


def rate(number: float | None) -> str:
    """Write how many of something there are in an hour or for a dollar: three digits that count. Returns: a dash for None."""
    if number is None:
        return "–"
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def share(pct: float | None) -> str:
    return "–" if pct is None else f"{pct:.0f} %"


def engine(identifier: str) -> str:
    return _ENGINES.get(identifier, identifier.replace("_", " ").title())


def file_format(identifier: str) -> str:
    return _FORMATS.get(identifier, identifier)


def fps(rate: float) -> str:
    return f"{rate:g}" if rate == int(rate) else f"{rate:.3f}".rstrip("0")


def spec(frames: list[int]) -> str:
    """Write frames for a page's script: `1-120,130-240x2`."""
    runs = runs_of(frames)
    return ",".join(f"{first}-{last}x{step}" if last > first else str(first) for first, last, step in runs)


def init_filters(app: Flask) -> None:
    """Make the filters and the words known to the templates."""
    app.jinja_env.filters.update(
        size=size,
        duration=duration,
        rough=rough,
        ago=ago,
        beyond=beyond,
        hour=hour,
        moment=moment,
        iso=iso,
        count=count,
        plural=plural,
        percent=percent,
        sentence=sentence,
        linked=linked,
        usd=usd,
        dollars=dollars,
        rate=rate,
        share=share,
        engine=engine,
        frames_in_words=frames_in_words,
        file_format=file_format,
        fps=fps,
        spec=spec,
    )
    app.jinja_env.globals.update(
        JOB_WORDS=JOB_WORDS,
        JOB_TONES=JOB_TONES,
        FRAME_WORDS=FRAME_WORDS,
        INSTANCE_WORDS=INSTANCE_WORDS,
        INSTANCE_TONES=INSTANCE_TONES,
        FILE_WORDS=FILE_WORDS,
        DOWNLOAD_WORDS=DOWNLOAD_WORDS,
        MARKET_WORDS=MARKET_WORDS,
        MIN_PASSWORD_CHARACTERS=MIN_PASSWORD_CHARACTERS,
        HIGHEST_PRIORITY=HIGHEST_PRIORITY,
        USUAL_PRIORITY=USUAL_PRIORITY,
    )
