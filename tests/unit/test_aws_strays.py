"""What of the farm's things on AWS nobody owns, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from supervisor.cloud.aws.inventory import FarmInstance, FarmSnapshot, FarmVolume, Fleet
from supervisor.cloud.aws.strays import Kind, Needed, Owners, Stock, strays_in

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
OLD = NOW - timedelta(hours=2)
YOUNG = NOW - timedelta(minutes=9)

INSTANCE = FarmInstance(id="i-1", job="job_a", role="render", request="launch_1", state="running", launched_at=OLD)
VOLUME = FarmVolume(id="vol-1", job="job_a", role="stage", request="stage-1", state="available", gib=5, created_at=OLD, is_blank=True)
SNAPSHOT = FarmSnapshot(id="snap-1", job="job_a", content="c1", state="completed", started_at=OLD, volume="vol-1")
IMAGES = FarmSnapshot(id="snap-i", job="", content="", state="completed", started_at=OLD, image="recipe", request="build_1")

OWNERS = Owners(
    jobs=frozenset({"job_a"}), needed=Needed(tokens={"stage-1": "c1"}, contents=frozenset({"c1"})), builds=frozenset({"build_1"})
)
NOBODY = Owners(jobs=frozenset(), needed=Needed(tokens={}, contents=frozenset()), builds=frozenset())


def stock(
    *things: FarmInstance | FarmVolume | FarmSnapshot | Fleet,
    templates: dict[str, datetime] | None = None,
    image_snapshots: frozenset[str] = frozenset(),
) -> Stock:
    return Stock(
        instances=[each for each in things if isinstance(each, FarmInstance)],
        volumes=[each for each in things if isinstance(each, FarmVolume)],
        snapshots=[each for each in things if isinstance(each, FarmSnapshot)],
        fleets=[each for each in things if isinstance(each, Fleet)],
        templates=templates or {},
        image_snapshots=image_snapshots,
    )


def found(there: Stock, owners: Owners) -> list[str]:
    return [stray.id for stray in strays_in(there, owners, now=NOW)]


STAGING = replace(INSTANCE, role="stage", request="stage-1")
BUILDER = replace(INSTANCE, role="build", request="build_1", job="")
POOLED = replace(INSTANCE, role="pool", job="", group="kiln-f0")
LET_GO = replace(POOLED, group="", is_spot=True)


@pytest.mark.parametrize("thing", [INSTANCE, STAGING, BUILDER, POOLED, LET_GO], ids=["render", "stage", "build", "pool", "let go"])
def test_instance_that_somebody_owns_is_left_alone(thing: FarmInstance) -> None:
    assert found(stock(thing), OWNERS) == []


@pytest.mark.parametrize("thing", [INSTANCE, STAGING, BUILDER, replace(POOLED, group="")], ids=lambda thing: str(thing.role))
def test_instance_that_nobody_owns_is_a_stray_once_it_is_old_enough(thing: FarmInstance) -> None:
    assert found(stock(thing), NOBODY) == ["i-1"]
    assert found(stock(replace(thing, launched_at=YOUNG)), NOBODY) == []


@pytest.mark.parametrize("state", ["shutting-down", "terminated"])
def test_instance_that_is_ending_is_no_stray(state: str) -> None:
    assert found(stock(replace(INSTANCE, state=state)), NOBODY) == []


def test_what_a_person_made_with_the_farms_tag_is_left_alone() -> None:
    by_hand = stock(replace(INSTANCE, role=""), replace(VOLUME, role=""), replace(SNAPSHOT, content=""), replace(POOLED, role="other"))
    assert found(by_hand, NOBODY) == []


def test_staging_instance_is_a_stray_when_its_files_are_frozen() -> None:
    assert found(stock(STAGING, SNAPSHOT), OWNERS) == ["i-1"]
    assert found(stock(STAGING, replace(SNAPSHOT, state="pending")), OWNERS) == []


def test_volume_of_a_staging_that_goes_on_is_left_alone_and_one_that_was_frozen_is_not() -> None:
    assert found(stock(VOLUME), OWNERS) == []
    assert found(stock(VOLUME, SNAPSHOT), OWNERS) == ["vol-1"]
    assert found(stock(replace(VOLUME, request="stage-0")), OWNERS) == ["vol-1"]


def test_volume_that_is_being_frozen_or_attached_is_left_alone_whoever_owned_it() -> None:
    assert found(stock(VOLUME, replace(SNAPSHOT, state="pending", started_at=YOUNG)), NOBODY) == []
    assert found(stock(replace(VOLUME, state="in-use")), NOBODY) == []


HELD = replace(VOLUME, id="vol-2", state="in-use", host="i-here", instance="i-here", device="/dev/sdf", attachment="attached")


def test_volume_that_the_farm_fills_itself_is_left_alone_and_let_go_when_no_workspace_needs_it() -> None:
    assert found(stock(HELD), OWNERS) == []
    [stray] = strays_in(stock(replace(HELD, request="stage-0")), OWNERS, now=NOW)
    assert (stray.kind, stray.what) == (Kind.HELD_VOLUME, "a volume of job_a on i-here, where the farm was to fill it")
    assert found(stock(HELD, SNAPSHOT), OWNERS) == ["vol-2"]


def test_volume_on_another_instance_than_the_farms_own_is_no_ones_to_take() -> None:
    assert found(stock(replace(HELD, instance="i-other")), NOBODY) == []
    assert found(stock(replace(HELD, host="")), NOBODY) == []


def test_volume_that_the_farm_fills_itself_is_a_stray_at_once_where_its_job_is_known_and_later_where_it_is_not() -> None:
    young = replace(HELD, request="stage-0", created_at=YOUNG)
    assert found(stock(young), OWNERS) == ["vol-2"]
    assert found(stock(replace(young, state="available", instance="")), OWNERS) == ["vol-2"]
    assert found(stock(young), NOBODY) == []


@pytest.mark.parametrize("role", ["render", "pool", "build"])
def test_volume_that_outlived_its_instance_is_a_stray(role: str) -> None:
    left = replace(VOLUME, role=role, request="launch_1")
    assert found(stock(left), OWNERS) == ["vol-1"]
    assert found(stock(replace(left, created_at=YOUNG)), OWNERS) == []


def test_volume_of_a_build_that_goes_on_is_left_alone() -> None:
    assert found(stock(replace(VOLUME, role="build", request="build_1")), OWNERS) == []


def test_snapshot_is_a_stray_when_no_job_has_its_files_whichever_job_it_was_made_for() -> None:
    assert found(stock(replace(SNAPSHOT, job="job_gone")), OWNERS) == []
    assert found(stock(SNAPSHOT), NOBODY) == ["snap-1"]
    assert found(stock(replace(SNAPSHOT, started_at=YOUNG)), NOBODY) == []


def test_second_snapshot_of_the_same_files_is_a_stray_once_one_is_complete() -> None:
    twin = replace(SNAPSHOT, id="snap-2", started_at=OLD + timedelta(minutes=1))
    assert found(stock(SNAPSHOT, twin), OWNERS) == ["snap-2"]
    assert found(stock(SNAPSHOT, replace(twin, state="error")), OWNERS) == ["snap-2"]
    assert found(stock(replace(SNAPSHOT, state="pending"), replace(twin, state="pending")), OWNERS) == []
    assert found(stock(replace(SNAPSHOT, state="error")), OWNERS) == []


def test_snapshot_of_an_image_is_a_stray_when_image_and_build_are_gone() -> None:
    assert found(stock(IMAGES), OWNERS) == []
    assert found(stock(IMAGES, image_snapshots=frozenset({"snap-i"})), NOBODY) == []
    assert found(stock(IMAGES), NOBODY) == ["snap-i"]
    assert found(replace(stock(IMAGES), image_snapshots=None), NOBODY) == []


def test_fleet_is_a_stray_when_its_job_is_gone() -> None:
    fleet = Fleet(id="fleet-1", job="job_a", created_at=OLD)
    assert found(stock(fleet), OWNERS) == []
    assert found(stock(fleet), NOBODY) == ["fleet-1"]
    assert found(stock(replace(fleet, created_at=YOUNG)), NOBODY) == []


def test_template_versions_are_strays_when_their_job_is_gone_or_rents_nothing_for_long() -> None:
    assert found(stock(templates={"job_a": NOW - timedelta(minutes=30)}), OWNERS) == []
    assert found(stock(templates={"job_a": NOW - timedelta(minutes=30)}), NOBODY) == ["job_a"]
    assert found(stock(templates={"job_a": OLD}), OWNERS) == ["job_a"]
    assert found(stock(INSTANCE, templates={"job_a": OLD}), OWNERS) == []


def test_what_holds_comes_before_what_is_held() -> None:
    fleet = Fleet(id="fleet-1", job="job_a", created_at=OLD)
    everything = replace(stock(SNAPSHOT, HELD, VOLUME, fleet, INSTANCE, templates={"job_b": OLD}), old_groups=frozenset({"sg-1"}))
    assert [stray.kind for stray in strays_in(everything, NOBODY, now=NOW)] == list(Kind)
