"""Inspect a .blend in a process of its own, with limits of memory and time."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from supervisor.config import InspectionConfig
from supervisor.domain.scene import Inspection
from supervisor.domain.scene_json import inspection_from_json

from .plain import DAMAGED, NotUsable, TooLarge

log = structlog.get_logger(__name__)

_LOOK_S = 0.5


class NoRoom(Exception):
    """The disk has no room to unpack the file for reading: try again when there is."""


class Interrupted(Exception):
    """Nobody waits for the answer any more."""


def inspect_blend(
    path: Path, *, stem: str, scratch: Path, limits: InspectionConfig, max_bytes: int, go_on: Callable[[], bool] = lambda: True
) -> Inspection:
    """Read what a .blend says of itself.

    Shape:   stem: the name it was uploaded with, without `.blend`; scratch: a folder of its own
    Errors:  NotUsable - why it is unusable and what to do; TooLarge - unpacked it is larger than max_bytes; NoRoom; Interrupted
    """
    path, scratch = path.resolve(), scratch.resolve()  # what a name leads to may hang on the process that follows it
    # --stem with its value in one word: a name may begin with a dash
    command = [sys.executable, "-I", "-m", "supervisor.inspection.reader", str(path), f"--stem={stem}"]
    command += ["--scratch", str(scratch / "plain.blend"), "--max-bytes", str(max_bytes)]
    command += ["--memory-bytes", str(limits.memory_mib << 20), "--cpu-s", str(math.ceil(limits.timeout_s))]
    # an empty environment: nothing of the farm's (keys, addresses) is in reach of what the file may do
    reading = subprocess.Popen(
        command,
        cwd=scratch,
        env={"LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        answer, complaints = _answer(reading, limits, go_on=go_on)
    finally:
        _end(reading)
    if reading.returncode in {-signal.SIGXCPU, -signal.SIGKILL}:
        raise _too_slow(limits)
    if reading.returncode != 0:
        log.warning("a .blend could not be read", path=str(path), complaints=complaints[-2000:].decode(errors="replace"))
        raise NotUsable(DAMAGED)
    return _inspection(answer)


def _answer(reading: subprocess.Popen[bytes], limits: InspectionConfig, *, go_on: Callable[[], bool]) -> tuple[bytes, bytes]:
    deadline = time.monotonic() + limits.timeout_s
    while True:
        try:
            return reading.communicate(timeout=max(0.0, min(_LOOK_S, deadline - time.monotonic())))
        except subprocess.TimeoutExpired as error:
            if not go_on():
                raise Interrupted from error
            if time.monotonic() >= deadline:
                raise _too_slow(limits) from error


def _inspection(answer: bytes) -> Inspection:
    raw = json.loads(answer)
    if "bad" in raw:
        raise NotUsable(raw["bad"])
    if "too_large" in raw:
        raise TooLarge
    if "no_room" in raw:
        raise NoRoom
    return inspection_from_json(raw["inspection"])


def _too_slow(limits: InspectionConfig) -> NotUsable:
    return NotUsable(
        f"reading it took longer than {limits.timeout_s:g} s; if it is sound, raise [inspection] timeout_s and upload it again"
    )


def _end(reading: subprocess.Popen[bytes]) -> None:
    if reading.poll() is None:
        os.killpg(reading.pid, signal.SIGKILL)
        reading.communicate()
