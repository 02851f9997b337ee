"""One Blender process: started in a session of its own without our keys, spoken to in JSON lines, killed as a group."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nodeimage.group import Group
from nodeimage.protocol import Failure, NodeConfig, RenderSettings

from .log import BlenderLog

DRIVER = Path(__file__).resolve().parent.parent / "driver" / "driver.py"
GRACE_S = 3.0

#: What Blender's environment keeps of ours. It never sees the store's keys or the farm's settings.
_KEPT = frozenset({"PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "OCIO"})
_KEPT_PREFIXES = ("CUDA_", "NVIDIA_", "LIBGL_", "MESA_", "GALLIUM_", "VK_", "__EGL_", "__GLX_")
_OUT_OF_MEMORY = (
    "out of memory",
    "out of gpu",  # Cycles: System is out of GPU memory, … out of GPU and shared host memory
    "memoryerror",
    "bad_alloc",
    "cannot allocate memory",
    "malloc returns null",
    "calloc returns null",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What the driver says, or (`exit`) that the process ended."""

    name: str
    fields: Mapping[str, Any]


def scrubbed_environment(env: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of a Blender whose home and temporary files are inside the node's home."""
    kept = {name: value for name, value in env.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    return {"PATH": os.defpath, **kept, "HOME": str(home / "blender"), "TMPDIR": str(home / "tmp"), "PYTHONUTF8": "1"}


def command_line(config: NodeConfig, driver: Path = DRIVER) -> list[str]:
    """The command that runs the driver, in Blender or in a Python that has bpy."""
    words = shlex.split(config.blender)
    if config.blender_kind == "bpy":
        return [*words, "-I", str(driver)]
    threads = ["--threads", str(config.threads)] if config.threads else []
    return [*words, "-b", "--factory-startup", "--disable-autoexec", "--python-exit-code", "1", *threads, "--python", str(driver)]


class Blender:
    """A running driver. Not for more than one thread at once, `kill` excepted."""

    def __init__(
        self, config: NodeConfig, *, number: int, environment: Mapping[str, str], driver: Path = DRIVER, grace_s: float = GRACE_S
    ) -> None:
        self.started_at = time.monotonic()
        self.version = ""
        self.device = ""
        self.settings: RenderSettings | None = None  #: those of the open file
        self.peak_memory_bytes = 0
        self._grace_s = grace_s
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        home = Path(config.home)
        shutil.rmtree(home / "tmp", ignore_errors=True)  # what a Blender left there that crashed
        for folder in ("blender", "tmp"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        self.log = BlenderLog(home / f"blender-{number % 2}.log")
        self._machine = {"threads": config.threads, "device": config.device}
        self._workspace = Path(config.workspace)
        log_fd = self.log.open()
        try:
            self._process = subprocess.Popen(
                command_line(config, driver),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_fd,
                cwd=self._workspace if self._workspace.is_dir() else home,
                env=scrubbed_environment(environment, home),
                start_new_session=True,
            )
        finally:
            os.close(log_fd)
        self._group = Group(self._process)
        threading.Thread(target=self._read, name="blender", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def open(self, settings: RenderSettings) -> None:
        """Ask for the job's file to be opened."""
        self.settings = settings
        wanted = {**asdict(settings), **self._machine}
        self._send({"cmd": "open", "file": str(self._workspace / settings.main_file), "settings": wanted})

    def render(self, frame: int, folder: Path, *, in_order: bool) -> None:
        """Ask for a frame. It may be asked for as soon as the one before is `saved`."""
        self._send({"cmd": "render", "frame": frame, "folder": str(folder), "in_order": in_order})

    def next_event(self, timeout_s: float) -> Event | None:
        """Wait for what the driver says next. Returns: None if it said nothing for so long"""
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self.version = event.fields.get("version", self.version)
        self.device = event.fields.get("device", self.device)
        self.peak_memory_bytes = max(self.peak_memory_bytes, event.fields.get("peak_memory_bytes", 0))
        return event

    def is_running(self) -> bool:
        return self._group.status() is None

    def end(self) -> None:
        """Ask the process to end, and make it end."""
        self._send({"cmd": "quit"})
        self.kill(ask_first=True)

    def kill(self, *, ask_first: bool) -> None:
        """Make the process and all it started be gone: TERM and a grace time if `ask_first`, then KILL."""
        if ask_first and self.is_running():
            self._group.signal(signal.SIGTERM)
            self._group.wait(self._grace_s)
        self._group.kill(self._grace_s)
        self.hang_up()

    def hang_up(self) -> None:
        """Close the line to the driver: it ends itself then, as it does when the agent is killed."""
        assert self._process.stdin is not None, "Popen was asked for a pipe"
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def why_ended(self, code: int) -> tuple[Failure, str]:
        """Classify the end of a process that we did not kill, by its exit code and last words."""
        last = self.log.telling_lines()
        lines = "\n".join(self.log.tail()).lower()
        if any(words in lines for words in _OUT_OF_MEMORY):
            return Failure.OUT_OF_MEMORY, _sentence("Blender ran out of memory", last)
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return Failure.OUT_OF_MEMORY, _sentence("Blender was killed, most likely by the system for lack of memory", last)
        return Failure.CRASH, _sentence(f"Blender crashed ({_exit_name(code)})", last)

    def _send(self, command: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None, "Popen was asked for a pipe"
        with contextlib.suppress(OSError):  # ended: its `exit` event tells
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None, "Popen was asked for a pipe"
        said_hello = False
        with self._process.stdout as source:
            for line in source:
                try:
                    fields = json.loads(line)
                    name = fields.pop("ev")
                except (ValueError, KeyError, AttributeError, TypeError):
                    continue  # Blender's banner, before the driver took its standard output
                said_hello = said_hello or name == "hello"
                if said_hello:
                    self._events.put(Event(name=name, fields=fields))
        self._events.put(Event(name="exit", fields={"code": self._group.wait_for_end()}))


def _sentence(what: str, last: str) -> str:
    return f"{what}; its last words: {last}" if last else what


def _exit_name(code: int) -> str:
    number = -code if code < 0 else code - 128 if code > 128 else 0
    try:
        return f"{signal.Signals(number).name}, exit code {code}"
    except ValueError:
        return f"exit code {code}"
