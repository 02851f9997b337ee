"""When a job is not worth going on with: every frame fails, and none was received."""

from __future__ import annotations

#: Frames that must have failed, none received, before the rest is spared the same end.
HOPELESS_FRAMES = 10


def is_hopeless(*, has_received: bool, failing: int, open_failures: int, max_attempts: int) -> bool:
    """Say whether to end a job before its last frame was tried.

    Shape:   since the job was last submitted: whether a frame was received; frames with a failed attempt; attempts at which the
             .blend did not open
    """
    return not has_received and (failing >= HOPELESS_FRAMES or open_failures >= max_attempts)
