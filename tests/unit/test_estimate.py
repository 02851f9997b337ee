"""What a job will take, from what the farm rendered before; and that nothing is claimed where nothing is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from supervisor.domain.estimate import (
    Basis,
    Offer,
    Pace,
    Range,
    Work,
    basis_in_words,
    estimate,
    price_in_words,
    time_in_words,
)
from supervisor.domain.scouting import scout_frames, wanted_now

WORK = Work(job="job_1", file="crc32:1:9", name="shot", scene="Scene", engine="CYCLES", pixels=1_000_000, samples=100)
#: A tenth of a cent a second.
LARGE = Offer(instance_type="large", usd_per_h=Decimal("3.60"), boot_s=60)
SMALL = Offer(instance_type="small", usd_per_h=Decimal("1.80"), boot_s=60)


def a_pace(work: Work, *, frame_s: float = 10.0, frames: int = 10, instance_type: str = "large") -> Pace:
    return Pace(
        work=work,
        instance_type=instance_type,
        market="on_demand",
        instances=1,
        frames=frames,
        render_s=frame_s * frames,
        paid_s=frame_s * frames + 60,
        boots=1,
        boot_s=60,
        usd=Decimal(1),
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_nothing_is_estimated_where_nothing_was_rendered() -> None:
    found = estimate(
        WORK, [LARGE], [a_pace(replace(WORK, job="job_2", engine="BLENDER_EEVEE", file="", name="other"))], frames=9, instances=4
    )
    assert (found.basis, found.wall_s, found.usd) == (None, None, None)
    assert basis_in_words(found) == "unknown until a frame is rendered"


def test_an_estimate_counts_boots_rounds_and_every_frame() -> None:
    found = estimate(WORK, [LARGE], [a_pace(WORK)], frames=10, instances=4)
    assert found.wall_s == Range(low=90.0, high=90.0)  # 60 s boot, three rounds of 10 s
    assert found.usd == Range(low=Decimal("0.460"), high=Decimal("0.460"))  # 4 × (60 + 30) s, 10 × 10 s


def test_never_more_instances_are_counted_than_frames() -> None:
    found = estimate(WORK, [LARGE], [a_pace(WORK)], frames=2, instances=64)
    assert (found.instances, found.usd) == (2, Range(low=Decimal("0.200"), high=Decimal("0.200")))


def test_an_instance_costs_a_minute_at_least() -> None:
    quick = replace(LARGE, boot_s=2)
    found = estimate(WORK, [quick], [a_pace(WORK, frame_s=1)], frames=1, instances=1)
    assert found.usd == Range(low=Decimal("0.060"), high=Decimal("0.060"))


@pytest.mark.parametrize(
    ("other", "basis", "frame_s"),
    [
        (WORK, Basis.JOB, 10.0),
        (replace(WORK, job="job_2"), Basis.FILE, 10.0),
        (replace(WORK, job="job_2", file="crc32:2:9"), Basis.NAME, 10.0),
        (replace(WORK, job="job_2", file="crc32:2:9", name="other"), Basis.SIMILAR, 10.0),
        (replace(WORK, job="job_2", pixels=250_000), Basis.FILE, 40.0),
        (replace(WORK, job="job_2", samples=50), Basis.FILE, 20.0),
        (replace(WORK, job="job_2", samples=None), Basis.FILE, 10.0),
        (replace(WORK, job="job_2", file="", name="", pixels=100_000), None, None),  # ten times as small is no likeness
        (replace(WORK, job="job_2", scene="Other", engine="BLENDER_EEVEE"), None, None),
    ],
)
def test_what_is_most_alike_is_believed_scaled_by_pixels_and_samples(other: Work, basis: Basis | None, frame_s: float | None) -> None:
    found = estimate(WORK, [LARGE], [a_pace(other)], frames=10, instances=1)
    assert found.basis == basis
    assert found.frame_s == (None if frame_s is None else Range(low=frame_s, high=frame_s))


def test_the_jobs_own_frames_are_believed_before_those_of_others() -> None:
    others = [a_pace(replace(WORK, job="job_2"), frame_s=99), a_pace(replace(WORK, job="job_3", file="", name=""), frame_s=1)]
    found = estimate(WORK, [LARGE], [*others, a_pace(WORK, frames=3)], frames=10, instances=1)
    assert (found.frame_s, found.measured) == (Range(low=10.0, high=10.0), 3)


def test_other_jobs_give_a_range() -> None:
    one, other = replace(WORK, job="job_2", file="a", name="a"), replace(WORK, job="job_3", file="b", name="b")
    found = estimate(WORK, [LARGE], [a_pace(one, frame_s=5), a_pace(other, frame_s=20)], frames=10, instances=1)
    assert found.frame_s == Range(low=5.0, high=20.0)
    assert basis_in_words(found) == "roughly, from 20 frames of other jobs with this engine"


def test_each_kind_of_instance_is_estimated_by_its_own_frames_where_it_has_some() -> None:
    paces = [a_pace(WORK, frame_s=10), a_pace(WORK, frame_s=30, instance_type="small")]
    found = estimate(WORK, [LARGE, SMALL, Offer(instance_type="new", usd_per_h=None, boot_s=60)], paces, frames=10, instances=1)
    assert [each.frame_s for each in found.types] == [Range(low=10, high=10), Range(low=30, high=30), Range(low=10, high=30)]
    assert found.types[2].usd is None
    assert found.usd == Range(low=Decimal("0.19"), high=Decimal("0.195"))


def test_a_failed_start_without_a_frame_says_nothing() -> None:
    assert estimate(WORK, [LARGE], [replace(a_pace(WORK), frames=0, render_s=0.0)], frames=1, instances=1).basis is None


def test_ranges_are_written_for_people() -> None:
    assert time_in_words(Range(low=1200.0, high=1210.0)) == "about 20 min"
    assert time_in_words(Range(low=1200.0, high=7200.0)) == "about 20 min to 2 h"
    assert price_in_words(Range(low=Decimal("2.60"), high=Decimal("3.40"))) == "$2.60 to $3.40"
    assert price_in_words(Range(low=Decimal("2.601"), high=Decimal("2.602"))) == "about $2.60"
    assert price_in_words(Range(low=Decimal(0), high=Decimal(0))) == ""


@pytest.mark.parametrize(
    ("numbers", "scouts"),
    [
        (range(1, 251), (1, 126, 250)),
        (range(-5, 100, 7), (-5, 44, 93)),
        ((1, 2, 3, 4), (1, 3, 4)),
        ((1, 2, 3), ()),
        ((7,), ()),
    ],
)
def test_the_first_the_middle_and_the_last_frame_scout(numbers: range | tuple[int, ...], scouts: tuple[int, ...]) -> None:
    assert scout_frames(list(numbers)) == scouts


def test_of_an_order_dependent_scene_the_first_frame_alone_scouts() -> None:
    assert wanted_now((1, 126, 250), ordered=True) == (1,)
    assert wanted_now((1, 126, 250), ordered=False) == (1, 126, 250)
    assert wanted_now((), ordered=True) == ()
