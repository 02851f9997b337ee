"""Tell the agent how far a frame is: Blender's own words, shortened, and the samples where it names them."""

from __future__ import annotations

import re
from typing import Any

import bpy

from .channel import Channel

_SAMPLE = re.compile(r"Sample (\d+)/(\d+)")
MOST_CHARACTERS = 120


class Progress:
    """Handlers of the open file that send `progress`. Made after the file was opened: opening clears handlers."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._frame: int | None = None
        self.is_cancelled = False
        bpy.app.handlers.render_stats.append(self._stats)
        bpy.app.handlers.render_cancel.append(self._cancelled)

    def begin(self, frame: int) -> None:
        """From now on, what Blender says is about this frame."""
        self._frame, self.is_cancelled = frame, False
        self.say("Preparing")

    def end(self) -> None:
        self._frame = None
        self._channel.tell_latest(None)

    def say(self, phase: str) -> None:
        """Send a phase of our own."""
        self._channel.emit("progress", frame=self._frame, phase=phase)

    def _stats(self, *values: Any) -> None:
        # 4.2 and on pass the text as an argument; before, there is none
        if self._frame is None:
            return
        text = next((value for value in values if isinstance(value, str)), "")
        sample = _SAMPLE.search(text)
        counts = {"sample": int(sample[1]), "samples": int(sample[2])} if sample else {}
        phase = text.rpartition("|")[2].strip()[:MOST_CHARACTERS]
        self._channel.tell_latest({"frame": self._frame, "phase": phase or "Rendering", **counts})

    def _cancelled(self, *_: Any) -> None:
        self.is_cancelled = True
