"""How long a job will take: from the frames measured so far and what renders at once."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

#: The newest frames say most about those to come; older ones may be of another part of the scene.
MEASURED_FRAMES = 101


def seconds_per_frame(render_times: Sequence[float]) -> float | None:
    """The median. Returns: None while nothing is measured"""
    return median(render_times) if render_times else None


def remaining_s(*, frame_s: float | None, unended: int, instances: int, elapsed: Sequence[float]) -> float | None:
    """Estimate the seconds until the last frame is received.

    Shape:   elapsed: seconds that the frames being rendered have taken so far
    Returns: None while nothing is measured or nothing renders
    """
    if frame_s is None or not instances or not unended:
        return None
    done = sum(min(spent, frame_s) for spent in elapsed)
    at_once = min(instances, unended)
    return max((unended * frame_s - done) / at_once, 0.0)
