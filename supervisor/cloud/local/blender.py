"""The Blenders of this machine: found, asked for their version once, and remembered."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import structlog

from supervisor.config import BlenderConfig

from .disk import write_private

log = structlog.get_logger(__name__)

#: Before that, Blender lacks the progress handler that the driver listens to (`render_stats`).
OLDEST = (4, 2)
_PROBE_TIMEOUT_S = 120.0
_VERSION = re.compile(r"^Blender (\d+\.\d+\.\d+)", re.MULTILINE)
#: A quoted part may have commas in it.
_BETWEEN_COMMAS = re.compile(r"""(?:'[^']*'|"[^"]*"|[^,])+""")
_BPY_PROBE = "import bpy; print('Blender', bpy.app.version_string)"
#: Shared libraries that Blender needs -> Debian's package of them.
PACKAGES = {
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBlender:
    """A Blender that answered."""

    command: str  #: words as a shell splits them
    kind: Literal["blender", "bpy"]  #: the program, or a Python that has the bpy wheel
    version: str  #: such as 4.5.15

    @property
    def series(self) -> tuple[int, int]:
        major, minor, *_ = self.version.split(".")
        return int(major), int(minor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a search for Blenders came to."""

    found: tuple[LocalBlender, ...]  #: newest last
    problems: tuple[str, ...]  #: a sentence for each candidate that can't be used


def find_blenders(config: BlenderConfig, *, root: Path, cache: Path) -> Search:
    """Search for Blenders: the configured commands alone; else `blender` on the PATH, and the bpy wheel.

    Units:   root: the folder that a relative `bpy_python` starts from; cache: file that remembers versions from one start to the next
    """
    known = _read_cache(cache)
    found, problems = {}, []
    for command, kind in _candidates(config, root):
        stamp = f"{command}|{_stamp(command)}"
        blender = known.get(stamp)
        if blender is None:
            try:
                blender = _probe(command, kind)
            except BlenderUnusable as error:
                problems.append(str(error))
                continue
        found[stamp] = blender
    if found and found != known:
        write_private(cache, json.dumps({stamp: asdict(blender) for stamp, blender in found.items()}))
    return Search(found=tuple(sorted(found.values(), key=_by_version)), problems=tuple(problems))


def choose_blender(blenders: Sequence[LocalBlender], wanted: tuple[int, ...]) -> LocalBlender | None:
    """Choose the version that a job is rendered with, else the newest of its series. Returns: None if there is none."""
    series = [blender for blender in sorted(blenders, key=_by_version) if blender.series == wanted[:2]]
    exact = [blender for blender in series if _by_version(blender) == wanted]
    return next(iter(exact or series[-1:]), None)


class BlenderUnusable(Exception):
    """A candidate does not run, or is too old; the message says what to do."""


def missing_libraries() -> list[str]:
    """Name Blender's shared libraries that this machine lacks. Asked in a process of its own: loading graphics libraries may go wrong."""
    script = "import ctypes, sys\nfor name in sys.argv[1:]:\n  try: ctypes.CDLL(name)\n  except OSError: print(name)"
    answer = subprocess.run(
        [sys.executable, "-I", "-c", script, *PACKAGES], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
    )
    return answer.stdout.split()


def apt_line(libraries: Sequence[str]) -> str:
    """Write the command that installs shared libraries on Debian."""
    return f"apt-get install --no-install-recommends {' '.join(PACKAGES.get(name, name) for name in libraries)}"


def _by_version(blender: LocalBlender) -> tuple[int, ...]:
    return tuple(int(part) for part in blender.version.split("."))


def _candidates(config: BlenderConfig, root: Path) -> list[tuple[str, Literal["blender", "bpy"] | None]]:
    if config.command.strip():
        return [(command.strip(), None) for command in _BETWEEN_COMMAS.findall(config.command) if command.strip()]
    candidates: list[tuple[str, Literal["blender", "bpy"] | None]] = []
    on_path = shutil.which("blender")
    if on_path:
        candidates.append((shlex.quote(on_path), "blender"))
    bpy_python = root / config.bpy_python
    if config.bpy_python and bpy_python.exists():
        candidates.append((shlex.quote(str(bpy_python)), "bpy"))
    return candidates


def _probe(command: str, kind: Literal["blender", "bpy"] | None) -> LocalBlender:
    """Ask a candidate for its version; without `kind`, whether it is Blender or a Python is found out too."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BlenderUnusable(f"the command `{command}` can't be read: {error}") from error
    if kind == "bpy":
        return _checked(command, "bpy", _run([*words, "-I", "-c", _BPY_PROBE]))
    answer = _run([*words, "--version"])
    if kind is None and answer.startswith("Python "):
        return _checked(command, "bpy", _run([*words, "-I", "-c", _BPY_PROBE]))
    return _checked(command, "blender", answer)


def _checked(command: str, kind: Literal["blender", "bpy"], answer: str) -> LocalBlender:
    match = _VERSION.search(answer)
    if not match:
        raise BlenderUnusable(f"`{command}` does not answer as a Blender does; it said: {answer.strip()[:300] or 'nothing'}")
    blender = LocalBlender(command=command, kind=kind, version=match[1])
    if blender.series < OLDEST:
        raise BlenderUnusable(f"`{command}` is Blender {match[1]}; Kiln needs {OLDEST[0]}.{OLDEST[1]} or newer")
    return blender


def _run(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BlenderUnusable(f"`{shlex.join(words)}` does not run: {error}") from error
    lost = re.search(r"(\S+\.so[.\d]*): cannot open shared object file", done.stderr)
    if lost:
        raise BlenderUnusable(f"`{words[0]}` can't run: the system library {lost[1]} is missing. Run: {apt_line([lost[1]])}")
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise BlenderUnusable(f"`{words[0]}` can't run Blender (exit code {done.returncode}): {' '.join(last)}")
    return done.stdout


def _stamp(command: str) -> str:
    """Say when a candidate was last changed: its program, and the packages of its environment where it is a Python of one."""
    try:
        program = Path(shutil.which(shlex.split(command)[0]) or "")
        packages = sorted(program.parent.parent.glob("lib/python3*/site-packages"))
        return ",".join(str(os.stat(path).st_mtime_ns) for path in (program, *packages))
    except (OSError, ValueError, IndexError):
        return ""


def _read_cache(cache: Path) -> dict[str, LocalBlender]:
    try:
        return {stamp: LocalBlender(**entry) for stamp, entry in json.loads(cache.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
