"""How large the shared pool should be for what waits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.pool import Waiting, instances_wanted, lives_for


def _waits(frames: int, frame_s: float | None = 60.0, *, is_ordered: bool = False) -> Waiting:
    return Waiting(frames=frames, frame_s=frame_s, is_ordered=is_ordered)


queues = st.lists(
    st.builds(Waiting, frames=st.integers(0, 5000), frame_s=st.none() | st.floats(0.1, 7200), is_ordered=st.booleans()), max_size=5
)


@pytest.mark.parametrize(
    ("waiting", "wanted"),
    [
        ([], 0),
        ([_waits(0)], 0),
        ([_waits(1)], 1),
        ([_waits(10)], 1),
        ([_waits(11)], 2),
        ([_waits(100)], 10),
        ([_waits(100, None)], 10),
        ([_waits(3, 3600.0)], 3),
        ([_waits(50), _waits(50)], 10),
        ([_waits(100, is_ordered=True)], 1),
        ([_waits(100, is_ordered=True), _waits(20)], 3),
        ([_waits(5000, 600.0)], 12),
    ],
    ids=[
        "nothing",
        "a job without frames",
        "one frame",
        "ten minutes' work",
        "a little more",
        "a hundred minutes' work",
        "frames of unknown length",
        "long frames: no more than there are",
        "two jobs",
        "an ordered job: one instance",
        "an ordered job and another",
        "more than the pool may have",
    ],
)
def test_the_pool_is_as_large_as_what_waits_needs_for_ten_minutes(waiting: list[Waiting], wanted: int) -> None:
    assert instances_wanted(waiting, least=0, most=12) == wanted


@given(queues, st.integers(0, 5), st.integers(5, 50))
def test_the_pool_is_never_larger_or_smaller_than_it_may_be_and_never_larger_than_the_frames(
    waiting: list[Waiting], least: int, most: int
) -> None:
    wanted = instances_wanted(waiting, least=least, most=most)

    assert least <= wanted <= most
    assert wanted <= max(least, sum(one.frames for one in waiting))
    assert wanted >= (1 if any(one.frames for one in waiting) else 0)


@given(queues, st.integers(0, 50))
def test_the_pool_outlives_its_work_by_an_hour_and_never_lives_longer_than_a_day(waiting: list[Waiting], instances: int) -> None:
    assert timedelta(hours=1) <= lives_for(waiting, instances=instances) <= timedelta(hours=24)


def test_the_pool_has_time_for_what_waits_without_a_word_from_the_farm() -> None:
    night = [_waits(960, 60.0)]  # sixteen hours' work

    assert lives_for(night, instances=4) == timedelta(hours=7)
    assert lives_for([_waits(300, 60.0, is_ordered=True)], instances=4) == timedelta(hours=8.5)
