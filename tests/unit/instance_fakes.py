"""What tests of an instance's program share: a bucket with files in it, whose answers can go wrong, and who watches a fetch."""

from __future__ import annotations

import shlex
import sys
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nodeimage.agent.ports import Absent, Part, Silent
from nodeimage.instance.instance import Instance
from nodeimage.instance.life import Life
from nodeimage.instance.machine import Machine
from nodeimage.instance.notices import now_ms
from nodeimage.launch import FileEntry, FileList, LaunchData, Role
from nodeimage.protocol import (
    Action,
    Heartbeat,
    JournalEntry,
    Order,
    Outcome,
    RenderSettings,
    Task,
    files_key,
    journal_prefix,
    order_key,
    project_key,
    runs_of,
    status_key,
)

from .agent_fakes import FAKE_DRIVER, JOB, MemoryStore

BLOCK_BYTES = 64


def crc(body: bytes) -> str:
    return f"crc32:{zlib.crc32(body):08x}"


class FileStore(MemoryStore):
    """The bucket, with its large files. `spoil` makes the next reads of a file go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._spoilt: dict[str, list[Callable[[bytes], bytes] | Exception]] = defaultdict(list)
        self.parts: list[tuple[str, int, int]] = []  #: (key, first, count) that were read
        self.on_block: Callable[[], object] = lambda: None

    def put_job_files(self, bodies: Mapping[str, bytes], *, job: str = JOB) -> FileList:
        """Store a job's files with the list of them. Returns: the list"""
        for path, body in bodies.items():
            self.put(project_key(job, path), body)
        files = FileList(
            files=tuple(
                FileEntry(path=path, key=project_key(job, path), bytes=len(body), checksum=crc(body)) for path, body in bodies.items()
            )
        )
        self.put(files_key(job), files.to_bytes())
        return files

    def spoil(self, key: str, *how: Callable[[bytes], bytes] | Exception) -> None:
        """Make the next reads of an object fail so, or give what is made of it."""
        self._spoilt[key].extend(how)

    def open_part(self, key: str, *, first: int, count: int) -> Part:
        self._call("open_part", key)
        with self._lock:
            self.parts.append((key, first, count))
            how = self._spoilt[key].pop(0) if self._spoilt[key] else None
        if isinstance(how, Exception):
            raise how
        if not self.has(key):
            raise Absent(f"could not read {key}: 404 NoSuchKey")
        body = self.body(key)
        part = body[first : first + count]
        return Part(object_bytes=len(body), blocks=self._blocks(how(part) if how else part))

    def _blocks(self, part: bytes) -> Iterator[bytes]:
        for start in range(0, len(part), BLOCK_BYTES):
            self.on_block()
            yield part[start : start + BLOCK_BYTES]


def cut_short(part: bytes) -> bytes:
    """What arrives when the connection breaks in the middle."""
    return part[: len(part) // 2]


def damaged(part: bytes) -> bytes:
    return bytes([part[0] ^ 1]) + part[1:]


class Ended(Exception):
    """The watcher wants no more."""


class Onlooker:
    """A `Watcher` that remembers, and ends the work when told to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.ends = False
        self.has_ended = threading.Event()

    def look(self) -> None:
        if self.ends:
            self.has_ended.set()
            raise Ended

    def tell(self, phase: str, problem: str = "") -> None:
        self.told.append((phase, problem))

    def problems(self) -> list[str]:
        return [problem for _, problem in self.told if problem]


def silence() -> Silent:
    return Silent("could not read projects/job_1/a: 503 SlowDown")


def a_launch(role: Role = Role.RENDER, **changes: Any) -> LaunchData:
    """What an instance is launched with, impatient as tests are."""
    base = LaunchData(
        role=role,
        farm="f",
        job="" if role is Role.POOL else JOB,
        region="us-east-1",
        projects_bucket="p",
        received_bucket="r",
        agent="agent/1.pyz",
        agent_sha256="0" * 64,
        blender="4.5",
        heartbeat_s=0.05,
        poll_s=0.01,
        idle_s=0.3,
    )
    return replace(base, **changes)


@dataclass
class Bench:
    """A folder for an instance, its store, and what its surroundings say."""

    folder: Path
    store: FileStore = field(default_factory=FileStore)
    interruption_at_ms: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    signs_of_life: int = 0
    boot: str = "b1"

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def instance(self, launch: LaunchData, *, began_at_ms: int | None = None, **machine: Any) -> Instance:
        """An instance whose Blender is `fake_driver`, and whose commands do nothing unless said otherwise."""
        for folder in (self.workspace, self.home):
            folder.mkdir(exist_ok=True)
        defaults = {
            "home": self.home,
            "workspace": self.workspace,
            "blender": shlex.join([sys.executable, str(FAKE_DRIVER)]),
            "unmount": "true",
            "mounted": "true",
            "poweroff": "true",
        }
        return Instance(
            id="i-0abc",
            launch=launch,
            life=Life(boot=self.boot, began_at_ms=began_at_ms if began_at_ms is not None else now_ms()),
            machine=Machine(**{**defaults, **machine}),
            store=self.store,
            interruption_at_ms=lambda: self.interruption_at_ms,
            stop=self.stop,
            pulse=self._pulse,
            environment={},
        )

    def _pulse(self) -> None:
        self.signs_of_life += 1

    def put_order(self, job: str, *frames: int, action: Action = Action.RENDER, revision: int = 1, **changes: Any) -> Order:
        """Write a job's order, frames nobody's."""
        settings = RenderSettings(main_file="plan.json", frame_timeout_s=20.0)
        tasks = (Task(node=None, frames=runs_of(frames)),)
        order = Order(job=job, revision=revision, action=action, settings=settings, tasks=tasks)
        order = replace(order, **changes)
        self.store.put(order_key(job), order.to_bytes())
        return order

    def finished(self, job: str = JOB) -> list[int | None]:
        """The frames that were journaled as finished, in order."""
        entries = [JournalEntry.from_bytes(self.store.body(key)) for key in self.store.below(journal_prefix(job))]
        return [entry.frame for entry in entries if entry.outcome is Outcome.FINISHED]

    def beat(self) -> Heartbeat:
        """The node's last heartbeat."""
        return Heartbeat.from_bytes(self.store.body(status_key("node_0abc")))

    def wait_for_beat(self, is_so: Callable[[Heartbeat], bool], what: str) -> None:
        self.store.wait_until(lambda: self.store.has(status_key("node_0abc")) and is_so(self.beat()), what)
