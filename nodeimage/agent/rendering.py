"""Attempts at frames: the Blender process that suits them, watched until the frame is there or the attempt failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nodeimage.protocol import Claim, Failure, Finding, Output, RenderSettings

from .blender import Blender, Event

#: How often a wait for Blender looks at other things: reasons to stop, the log's size, the time without progress.
LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A claimed frame, and how to render it."""

    claim: Claim
    settings: RenderSettings  #: persistent data as this attempt wants it
    needs_fresh_process: bool
    in_order: bool
    folder: Path  #: where Blender puts the frame: `outputs/` and `preview.webp`


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How an attempt ended."""

    failure: Failure | None = None
    message: str = ""
    render_s: float = 0.0
    outputs: tuple[Output, ...] = ()  #: checksums not computed yet
    has_preview: bool = False
    peak_memory_bytes: int = 0
    log_text: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What Blender said when the file was open."""

    findings: tuple[Finding, ...]
    open_s: float
    version: str
    device: str
    is_unbaked: bool


@dataclass(slots=True, kw_only=True)
class _Course:
    """How far the attempt under way is."""

    attempt: Attempt
    is_saved: bool = False
    result: Result | None = None
    moved_at: float = field(default_factory=time.monotonic)  #: last progress
    log_size: int = 0


class Renderer:
    """Keeps one Blender with the job's file open. For one thread."""

    def __init__(
        self,
        start: Callable[[int], Blender],
        *,
        look: Callable[[], None],
        progress: Callable[[Mapping[str, Any]], None],
        first: Blender | None = None,
    ) -> None:
        """Shape:   `start` is given a number that grows; `look` is called while waiting and may raise to end the wait;
        `first` is a process already on its way, so that it imports while the agent does
        """
        self._start = start
        self._look = look
        self._progress = progress
        self._number = 1
        self._course: _Course | None = None
        self._asked: tuple[Blender, Attempt] | None = None
        self.blender = first
        self.opened: Opened | None = None
        self.asked_at = 0.0  #: when Blender was last asked for a frame; monotonic

    def has_open(self, settings: RenderSettings) -> bool:
        """Say whether a Blender runs that has the file open with these settings, persistent data or not."""
        blender = self.blender
        if blender is None or self.opened is None or blender.settings is None or not blender.is_running():
            return False
        return replace(blender.settings, persistent_data=settings.persistent_data) == settings

    def suits(self, attempt: Attempt) -> bool:
        """Say whether Blender can render the attempt as it is."""
        if self.is_asked(attempt):
            return True
        if self.blender is None or self.blender.settings != attempt.settings or not self.has_open(attempt.settings):
            return False
        return not (attempt.needs_fresh_process and self._asked)

    def open(self, settings: RenderSettings) -> Result | None:
        """Have a new Blender with the file open. Returns: None; or how opening failed, then there is no Blender"""
        if self.blender is not None and self.blender.settings is not None:
            self.end()
        try:
            if self.blender is None:
                self._number += 1
                self.blender = self._start(self._number)
        except OSError as error:
            return Result(failure=Failure.OPEN, message=f"Blender can't be started: {error}")
        self.blender.open(settings)
        return self._wait_until_open(self.blender, settings)

    def _wait_until_open(self, blender: Blender, settings: RenderSettings) -> Result | None:
        waited_from, size = time.monotonic(), 0
        while True:
            event = blender.next_event(LOOK_S)
            if event is None:
                self._look()
                if (now_size := blender.log.size()) != size:
                    waited_from, size = time.monotonic(), now_size
                if time.monotonic() - waited_from > settings.frame_timeout_s:
                    return self._not_opened(Failure.OPEN, f"Blender was still opening the file after {settings.frame_timeout_s:.0f} s")
            elif event.name == "opened":
                self.opened = _opened(event, blender)
                return None
            elif event.name == "cannot_open":
                return self._not_opened(Failure(event.fields["kind"]), event.fields["message"])
            elif event.name == "exit":
                failure, message = blender.why_ended(event.fields["code"])
                # What kills Blender while it opens the file is the file's doing, unless it is memory.
                return self._not_opened(failure if failure is Failure.OUT_OF_MEMORY else Failure.OPEN, message)

    def _not_opened(self, failure: Failure, message: str) -> Result:
        assert self.blender is not None, "open made one"
        log_text = self.blender.log.cut()
        self.kill()
        return Result(failure=failure, message=message, log_text=log_text)

    def ask(self, attempt: Attempt) -> None:
        """Ask the open Blender for the frame, unless it was asked already. The frame before may still be checked."""
        assert self.blender is not None, "callers have opened one"
        if self.is_asked(attempt):
            return
        self._asked = (self.blender, attempt)
        self.asked_at = time.monotonic()
        self.blender.render(attempt.claim.frame, attempt.folder, in_order=attempt.in_order)

    def wait_until_saved(self, attempt: Attempt) -> bool:
        """Wait until the frame is written, but not checked yet. Returns: False if the attempt has failed"""
        self._course = _Course(attempt=attempt)
        while not self._course.is_saved and self._course.result is None:
            self._step(self._course)
        return self._course.is_saved

    def wait_for_result(self) -> Result:
        """Wait for how the attempt ends that `wait_until_saved` waited for. After a failure that spoils it, Blender is gone."""
        assert self._course is not None, "wait_until_saved comes first"
        while self._course.result is None:
            self._step(self._course)
        course, self._course = self._course, None
        assert course.result is not None, "the loop has seen to it"
        return course.result

    def is_asked(self, attempt: Attempt) -> bool:
        """Say whether the Blender that runs was asked for the attempt."""
        return self.blender is not None and self._asked == (self.blender, attempt)

    def is_saved(self) -> bool:
        """Say whether the frame waited for is written, and only checked."""
        return self._course is not None and self._course.is_saved

    def _step(self, course: _Course) -> None:
        assert self.blender is not None, "an attempt under way has a Blender"
        event = self.blender.next_event(LOOK_S)
        if event is None:
            self._look()
            self._check_hang(course, self.blender)
        elif event.name == "exit":
            failure, message = self.blender.why_ended(event.fields["code"])
            course.result = self._failed(failure, message)
        elif event.name == "progress":
            course.moved_at = time.monotonic()
            self._progress(event.fields)
            self._look()  # Blender may tell of progress so often that it is never silent
        elif event.name == "saved":
            course.is_saved, course.moved_at = True, time.monotonic()
        elif event.name == "rendered":
            course.result = self._rendered(event)
        elif event.name == "failed":
            course.result = self._failed(Failure(event.fields["kind"]), event.fields["message"], event.fields["log_bytes"])

    def _check_hang(self, course: _Course, blender: Blender) -> None:
        if (size := blender.log.size()) != course.log_size:
            course.log_size, course.moved_at = size, time.monotonic()
        silent_s = time.monotonic() - course.moved_at
        if silent_s > course.attempt.settings.frame_timeout_s:
            last = blender.log.telling_lines()
            words = f"; its last words: {last}" if last else ""
            message = f"Blender made no progress for {silent_s:.0f} s (a slow scene may need more: [render] frame_timeout_s){words}"
            course.result = self._failed(Failure.HANG, message)

    def _rendered(self, event: Event) -> Result:
        assert self.blender is not None, "it has just said something"
        return Result(
            render_s=event.fields["render_s"],
            outputs=tuple(Output(name=output["name"], bytes=output["bytes"], crc32=0) for output in event.fields["outputs"]),
            has_preview=event.fields["has_preview"],
            peak_memory_bytes=self.blender.peak_memory_bytes,
            log_text=self.blender.log.cut(event.fields["log_bytes"]),
        )

    def _failed(self, failure: Failure, message: str, log_bytes: int | None = None) -> Result:
        """The result of a failed attempt; a process that crashed, hung or ran out of memory is made to be gone."""
        assert self.blender is not None, "an attempt under way has a Blender"
        if failure is Failure.ERROR and (last := self.blender.log.telling_lines(2)) and last not in message:
            message = f"{message} | {last}"
        blender = self.blender
        if failure in (Failure.CRASH, Failure.HANG, Failure.OUT_OF_MEMORY):
            self.end()
            log_bytes = None
        return Result(
            failure=failure, message=message[:1000], peak_memory_bytes=blender.peak_memory_bytes, log_text=blender.log.cut(log_bytes)
        )

    def end(self) -> None:
        """Make Blender be gone, asking first."""
        self._gone(ask_first=True)

    def kill(self) -> None:
        """Make Blender be gone at once."""
        self._gone(ask_first=False)

    def _gone(self, *, ask_first: bool) -> None:
        blender, self.blender = self.blender, None
        self.opened, self._asked = None, None
        if blender is not None and ask_first:
            blender.end()
        elif blender is not None:
            blender.kill(ask_first=False)


def _opened(event: Event, blender: Blender) -> Opened:
    findings = tuple(Finding(code=entry["code"], text=entry["text"]) for entry in event.fields["findings"])
    return Opened(
        findings=findings,
        open_s=round(time.monotonic() - blender.started_at, 3),
        version=event.fields["version"],
        device=event.fields["device"],
        is_unbaked=any(finding.code == "unbaked" for finding in findings),
    )
