"""Divide frames into tasks: which node is handed which frames to begin with."""

from __future__ import annotations

from collections.abc import Sequence


def divide(frames: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """Cut frames into `parts` contiguous ranges whose lengths differ by at most one, longest first. Empty parts are left out.

    Contiguous, because neighbours share the most of what persistent data keeps; the tail is levelled by stealing, not by size.
    """
    base, extra = divmod(len(frames), parts)
    ranges = []
    start = 0
    for part in range(parts):
        end = start + base + (part < extra)
        if end > start:
            ranges.append(tuple(frames[start:end]))
        start = end
    return ranges
