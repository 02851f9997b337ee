"""Scout frames: a few that are rendered first, so that a person sees them, and what all would take, before saying yes to the rest."""

from __future__ import annotations

from collections.abc import Sequence


def scout_frames(numbers: Sequence[int]) -> tuple[int, ...]:
    """Choose the first, the middle and the last.

    Shape:   numbers: ascending, at least one
    Returns: empty where these are all there are: then there is no rest to ask about
    """
    chosen = sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]})
    return tuple(chosen) if len(chosen) < len(numbers) else ()


def wanted_now(scouted: Sequence[int], *, ordered: bool) -> tuple[int, ...]:
    """The frames that nodes are to render while a job is scouted. Empty: all.

    Where each frame depends on those before, the first one alone: the others would need all that precedes them.
    """
    return tuple(scouted[:1] if ordered else scouted)
