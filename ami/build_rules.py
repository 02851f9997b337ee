"""What a build needs next, as a rule over what there is. Nothing here asks AWS."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ami.builds import BuildStatus, ImageBuild
from nodeimage.launch import BuildReport, BuildState

#: From the launch to the first report: Debian boots and installs boto3.
FIRST_REPORT = timedelta(minutes=15)
#: Between two reports, which come every few seconds; a GPU builder restarts in between.
SILENCE = timedelta(minutes=15)
LONGEST_BUILD = timedelta(hours=3)
#: A launch whose answer we never saw shows its instance within this time.
SHOWN_WITHIN = timedelta(minutes=2)
#: While there is nothing to rent for a builder, it is asked for again for so long.
ROOM_PATIENCE = timedelta(hours=1)


class Next(StrEnum):
    """What to do."""

    LAUNCH = "launch"  #: there is no builder yet
    WAIT = "wait"  #: something is on its way
    STOP = "stop"  #: the builder is done, and still runs
    MAKE_IMAGE = "make_image"  #: the builder is done and stopped
    END_BUILDER = "end_builder"  #: it is needed no more
    FINISH = "finish"  #: the image is there, the builder is gone
    FAIL = "fail"  #: it will not come to an end; `why` says why
    GIVE_UP = "give_up"  #: it failed, and nothing is left of it


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBuilder:
    """The builder as EC2 shows it."""

    id: str
    state: str  #: EC2's word; terminated ones are not shown
    launched_at: datetime
    why_ended: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenImage:
    """The image as EC2 shows it."""

    id: str
    state: str  #: EC2's word: pending, available, failed …
    why_failed: str = ""
    is_ours: bool = True  #: False: another farm of the account made it, of the same recipe; it may be used, and is never removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there is of a build."""

    now: datetime
    builders: tuple[SeenBuilder, ...] = ()  #: of this build, ending ones too
    image: SeenImage | None = None
    report: BuildReport | None = None


def next_step(build: ImageBuild, seen: Seen) -> tuple[Next, str]:
    """Say what a build needs next, and why. Any number of times; what is on its way is waited for."""
    if build.status is BuildStatus.FAILING:
        return (Next.END_BUILDER if _alive(seen) else Next.GIVE_UP), build.message
    image = seen.image
    if image is not None and image.state == "available":
        return (Next.END_BUILDER if _alive(seen) else Next.FINISH), ""
    if image is not None and image.state not in {"pending", "transient"}:
        remedy = "" if image.is_ours else f"; another farm of this account made {image.id}: deregister it, then build again"
        return Next.FAIL, f"EC2 could not make the image: {image.why_failed or image.state}{remedy}"
    if image is not None:
        return Next.WAIT, "the image is being made"
    alive = _alive(seen)
    return _with_builder(alive[0], build, seen) if alive else _without_builder(build, seen)


def _alive(seen: Seen) -> list[SeenBuilder]:
    return [builder for builder in seen.builders if builder.state not in {"shutting-down", "terminated"}]


def _without_builder(build: ImageBuild, seen: Seen) -> tuple[Next, str]:
    if seen.report is not None and seen.report.state is BuildState.FAILED:
        return Next.FAIL, seen.report.message
    if build.launched_at is None:
        too_long = build.held_up and seen.now - build.asked_at > ROOM_PATIENCE
        return (Next.FAIL, f"no builder could be launched for an hour: {build.held_up}") if too_long else (Next.LAUNCH, "")
    gone = next((builder.why_ended for builder in seen.builders if builder.why_ended), "")
    if seen.builders or seen.report is not None:
        return Next.FAIL, f"the builder ended before it was done{': ' + gone if gone else ''}"
    if seen.now - build.launched_at < SHOWN_WITHIN:
        return Next.LAUNCH, ""  # asked again with the same token: nothing new comes of it
    return Next.FAIL, build.held_up or "the builder that was launched never came to be seen"


def _with_builder(builder: SeenBuilder, build: ImageBuild, seen: Seen) -> tuple[Next, str]:
    report = seen.report
    if report is not None and report.state is BuildState.FAILED:
        return Next.FAIL, report.message or "a provisioner failed"
    if report is not None and report.state is BuildState.DONE:
        return _when_done(builder, build, seen.now)
    if builder.state in {"stopping", "stopped"}:
        return Next.FAIL, f"the builder stopped before it was done{': ' + builder.why_ended if builder.why_ended else ''}"
    return _while_building(builder, report, seen.now)


def _when_done(builder: SeenBuilder, build: ImageBuild, now: datetime) -> tuple[Next, str]:
    if build.held_up and now - builder.launched_at > LONGEST_BUILD:
        return Next.FAIL, build.held_up
    if builder.state == "stopped":
        return Next.MAKE_IMAGE, ""
    return (Next.WAIT, "the builder stops") if builder.state == "stopping" else (Next.STOP, "")


def _while_building(builder: SeenBuilder, report: BuildReport | None, now: datetime) -> tuple[Next, str]:
    age = now - builder.launched_at
    if age > LONGEST_BUILD:
        return Next.FAIL, f"it was not done after {LONGEST_BUILD.total_seconds() / 3600:.0f} hours"
    if report is None:
        late = age > FIRST_REPORT
        text = f"the builder {builder.id} said nothing for {FIRST_REPORT.total_seconds() / 60:.0f} minutes after its launch"
        return (Next.FAIL, f"{text}: can it reach S3 and Debian's packages from its subnet?") if late else (Next.WAIT, "the builder boots")
    silent = now.timestamp() * 1000 - report.at_ms
    if silent > SILENCE.total_seconds() * 1000:
        return Next.FAIL, f"the builder has said nothing for {SILENCE.total_seconds() / 60:.0f} minutes; its last words: {report.progress}"
    return Next.WAIT, report.progress
