"""What people may write for the frames of a job, and what they are told where it can't be."""

from __future__ import annotations

import pytest

from supervisor.domain.errors import Rejected
from supervisor.domain.frame import TooManyFrames, format_frames, parse_frames


@pytest.mark.parametrize(
    ("spec", "frames"),
    [
        ("7", (7,)),
        ("1-3", (1, 2, 3)),
        (" 1 - 3 , 2 ", (1, 2, 3)),
        ("1-10x4", (1, 5, 9)),
        ("-5--3", (-5, -4, -3)),
        ("-1-1", (-1, 0, 1)),
        ("10,1-2", (1, 2, 10)),
        ("1–3", (1, 2, 3)),  # as a chat program writes it
        ("−2", (-2,)),
    ],
)
def test_spec_names_its_frames_ascending_and_once(spec: str, frames: tuple[int, ...]) -> None:
    assert parse_frames(spec, max_frames=100) == frames
    assert parse_frames(format_frames(frames), max_frames=100) == frames


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "no frames are named; write it like 1-100"),
        ("  ", "no frames are named"),
        ("1,,2", "“1,,2” have an empty part"),
        ("10-1", "“10-1” ends before it begins; write 1-10"),
        ("1--5", "“1--5” ends before it begins; write -5-1"),
        ("a-b", "“a-b” is not a frame or a range of frames; write it like"),
        ("1-10x0", "a step is at least 1"),
        ("1048575", "outside what Blender can render (-1048574 to 1048574)"),
        ("x" * 5000, "x…” is not a frame"),
    ],
)
def test_spec_that_can_not_be_is_rejected_with_how_to_write_it(spec: str, said: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_frames(spec, max_frames=100)
    assert refused.value.field == "frames"
    assert said in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("spec", ["1-1000000000", "1-101", "1-60,61-101", "1-" + "9" * 4000])
def test_spec_of_more_frames_than_a_job_may_have_names_the_cap(spec: str) -> None:
    with pytest.raises(TooManyFrames, match="more than 100 frames, the most that one job may have"):
        parse_frames(spec, max_frames=100)
