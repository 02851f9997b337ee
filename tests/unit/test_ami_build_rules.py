"""What a build of an image needs next, by every kind of thing that there may be of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ami.build_rules import FIRST_REPORT, LONGEST_BUILD, ROOM_PATIENCE, SHOWN_WITHIN, SILENCE, Next, Seen, SeenBuilder, SeenImage, next_step
from ami.builds import BuildStatus, ImageBuild
from nodeimage.launch import BuildReport, BuildState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BUILD = ImageBuild(
    id="build_1",
    recipe="abc",
    variant="cpu",
    arch="x86_64",
    name="kiln-node-4.5-cpu-x86_64-abc",
    blenders=("4.5.15",),
    status=BuildStatus.BUILDING,
    asked_at=NOW,
    launched_at=NOW,
)
ASKED = replace(BUILD, launched_at=None)
HELD_UP = replace(BUILD, held_up="can't make the image: not allowed")
NO_ROOM = replace(ASKED, held_up="can't launch a builder: no room")
FAILING = replace(BUILD, status=BuildStatus.FAILING, message="no room")


def builder(state: str, *, age: timedelta = timedelta(0)) -> SeenBuilder:
    return SeenBuilder(id="i-1", state=state, launched_at=NOW - age)


def report(state: BuildState, *, age: timedelta = timedelta(0), message: str = "") -> BuildReport:
    return BuildReport(state=state, build="build_1", at_ms=int((NOW - age).timestamp() * 1000), progress="5/9 Blender", message=message)


def seen(*builders: SeenBuilder, image: str = "", told: BuildReport | None = None, now: datetime = NOW) -> Seen:
    return Seen(now=now, builders=builders, image=SeenImage(id="ami-1", state=image) if image else None, report=told)


RUNNING, DONE, FAILED = report(BuildState.RUNNING), report(BuildState.DONE), report(BuildState.FAILED, message="50-blender.sh: no room")
LATER = timedelta(minutes=1)

TABLE = [
    ("nothing was asked of EC2 yet", ASKED, seen(), Next.LAUNCH),
    ("there was no room for it", NO_ROOM, seen(now=NOW + ROOM_PATIENCE - LATER), Next.LAUNCH),
    ("there was no room for it for too long", NO_ROOM, seen(now=NOW + ROOM_PATIENCE + LATER), Next.FAIL),
    ("asked for, and not shown yet", BUILD, seen(now=NOW + SHOWN_WITHIN - LATER), Next.LAUNCH),
    ("asked for, and never shown", BUILD, seen(now=NOW + SHOWN_WITHIN + LATER), Next.FAIL),
    ("boots", BUILD, seen(builder("pending")), Next.WAIT),
    ("runs, and has not reported yet", BUILD, seen(builder("running", age=FIRST_REPORT - LATER)), Next.WAIT),
    ("runs, and never reported", BUILD, seen(builder("running", age=FIRST_REPORT + LATER)), Next.FAIL),
    ("builds", BUILD, seen(builder("running"), told=RUNNING), Next.WAIT),
    ("fell silent", BUILD, seen(builder("running"), told=report(BuildState.RUNNING, age=SILENCE + LATER)), Next.FAIL),
    ("takes too long", BUILD, seen(builder("running", age=LONGEST_BUILD + LATER), told=RUNNING), Next.FAIL),
    ("stopped in the middle", BUILD, seen(builder("stopped"), told=RUNNING), Next.FAIL),
    ("ended in the middle", BUILD, seen(builder("terminated"), told=RUNNING), Next.FAIL),
    ("is gone and forgotten, having reported", BUILD, seen(told=RUNNING), Next.FAIL),
    ("failed, and runs", BUILD, seen(builder("running"), told=FAILED), Next.FAIL),
    ("failed, and is gone", BUILD, seen(told=FAILED), Next.FAIL),
    ("is done, and runs still", BUILD, seen(builder("running"), told=DONE), Next.STOP),
    ("is done, and stops", BUILD, seen(builder("stopping"), told=DONE), Next.WAIT),
    ("is done and stopped", BUILD, seen(builder("stopped"), told=DONE), Next.MAKE_IMAGE),
    ("is done, and can't be made an image", HELD_UP, seen(builder("stopped"), told=DONE), Next.MAKE_IMAGE),
    (
        "is done, and could not be made an image for hours",
        HELD_UP,
        seen(builder("stopped", age=LONGEST_BUILD + LATER), told=DONE),
        Next.FAIL,
    ),
    ("the image is being made", BUILD, seen(builder("stopped"), told=DONE, image="pending"), Next.WAIT),
    ("the image could not be made", BUILD, seen(builder("stopped"), told=DONE, image="failed"), Next.FAIL),
    ("the image is there, and the builder too", BUILD, seen(builder("stopped"), told=DONE, image="available"), Next.END_BUILDER),
    ("the image is there, and the builder ends", BUILD, seen(builder("shutting-down"), told=DONE, image="available"), Next.FINISH),
    ("the image is there alone", BUILD, seen(image="available"), Next.FINISH),
    ("failed, with a builder", FAILING, seen(builder("running")), Next.END_BUILDER),
    ("failed, with nothing left", FAILING, seen(builder("terminated")), Next.GIVE_UP),
]


@pytest.mark.parametrize(("build", "there", "wanted"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_build_needs_next(build: ImageBuild, there: Seen, wanted: Next) -> None:
    assert next_step(build, there)[0] is wanted


def test_every_step_is_needed_somewhere() -> None:
    assert {row[3] for row in TABLE} == set(Next)


def test_failure_of_a_provisioner_is_told_in_its_own_words() -> None:
    assert next_step(BUILD, seen(builder("running"), told=FAILED)) == (Next.FAIL, "50-blender.sh: no room")


def test_image_that_failed_for_another_farm_says_what_to_do() -> None:
    theirs = Seen(now=NOW, image=SeenImage(id="ami-1", state="failed", why_failed="no room", is_ours=False))
    step, said = next_step(BUILD, theirs)
    assert (step, said) == (
        Next.FAIL,
        "EC2 could not make the image: no room; another farm of this account made ami-1: deregister it, then build again",
    )


def test_launch_that_was_refused_all_along_fails_with_that_refusal() -> None:
    refused = replace(BUILD, held_up="can't launch a builder: there is no such profile")
    assert next_step(refused, seen(now=NOW + SHOWN_WITHIN + LATER)) == (Next.FAIL, refused.held_up)
