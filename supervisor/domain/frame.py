"""Frames: their statuses, and the one parser of frame specs such as `1-100`, `1-100x5`, `1,5,10-20`, `-5-5`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nodeimage.protocol import runs_of

from .errors import Rejected


class FrameStatus(StrEnum):
    """Where a frame stands."""

    QUEUED = "queued"  #: claimable, or claimed by a node that has not begun it yet
    RENDERING = "rendering"  #: a node's heartbeat says that it renders or delivers it
    RECEIVED = "received"  #: all its outputs are in the bucket, checked
    FAILED = "failed"  #: it used up its attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCounts:
    """How many frames of a job stand where."""

    total: int
    received: int
    rendering: int
    failed: int

    @property
    def queued(self) -> int:
        return self.total - self.received - self.rendering - self.failed

    @property
    def unended(self) -> int:
        return self.total - self.received - self.failed


#: Blender's own limits of a frame number (MINAFRAME, MAXFRAME in DNA_scene_types.h).
FIRST_FRAME, LAST_FRAME = -1_048_574, 1_048_574

_MOST_SHOWN = 80

_PART = re.compile(r"(-?\d+)(?:\s*-\s*(-?\d+)(?:\s*x\s*(\d+))?)?", re.ASCII)
_DASHES = str.maketrans("‐‑‒–—−", "------")  # what editors and chats make of a hyphen
_EXAMPLES = "write it like 1-100, 1-100x5, 1,5,10-20 or -5-5"


class TooManyFrames(Rejected):
    """A spec names more frames than one job may have."""


def parse_frames(spec: str, *, max_frames: int) -> tuple[int, ...]:
    """List the frames that a spec names, ascending, each once.

    Errors:  Rejected - field `frames`; says which part is wrong and how to write it; TooManyFrames - nothing is expanded past max_frames
    """
    if not spec.strip():
        raise Rejected(f"no frames are named; {_EXAMPLES}", field="frames")
    frames: set[int] = set()
    for part in spec.translate(_DASHES).split(","):
        frames.update(_parse_part(part.strip(), spec=spec, max_frames=max_frames))
        if len(frames) > max_frames:
            raise _too_many(max_frames)
    return tuple(sorted(frames))


def _parse_part(part: str, *, spec: str, max_frames: int) -> range:
    if not part:
        raise Rejected(f"the frames “{_shown(spec)}” have an empty part; {_EXAMPLES}", field="frames")
    match = _PART.fullmatch(part)
    if not match:
        raise Rejected(f"“{_shown(part)}” is not a frame or a range of frames; {_EXAMPLES}", field="frames")
    first = int(match[1][:12])
    last = int(match[2][:12]) if match[2] else first
    step = int(match[3][:12]) if match[3] else 1
    if step < 1:
        raise Rejected(f"“{part}” has a step of 0; a step is at least 1", field="frames")
    if last < first:
        raise Rejected(f"“{part}” ends before it begins; write {last}-{first}", field="frames")
    if (last - first) // step + 1 > max_frames:
        raise _too_many(max_frames)
    for frame in (first, last):
        if not FIRST_FRAME <= frame <= LAST_FRAME:
            raise Rejected(f"frame {frame} is outside what Blender can render ({FIRST_FRAME} to {LAST_FRAME})", field="frames")
    return range(first, last + 1, step)


def _too_many(max_frames: int) -> TooManyFrames:
    text = f"that is more than {max_frames} frames, the most that one job may have; split it into several jobs"
    return TooManyFrames(text, field="frames")


def frames_in_words(numbers: Sequence[int]) -> str:
    """Name frames for people: “frame 7”, “frames 3-5,9”; of very scattered ones the first. Shape: at least one, ascending"""
    if len(numbers) == 1:
        return f"frame {numbers[0]}"
    spec = format_frames(list(numbers))
    return "frames " + (spec if len(spec) <= _MOST_SHOWN else f"{spec[:_MOST_SHOWN]}…")


def _shown(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"


def format_frames(frames: tuple[int, ...] | list[int]) -> str:
    """Write frames as the shortest spec that `parse_frames` reads back. Empty for no frames."""
    parts = []
    for first, last, step in runs_of(frames):
        if first == last:
            parts.append(str(first))
        elif step == 1:
            parts.append(f"{first}-{last}")
        elif last == first + step:
            parts.extend((str(first), str(last)))
        else:
            parts.append(f"{first}-{last}x{step}")
    return ",".join(parts)
