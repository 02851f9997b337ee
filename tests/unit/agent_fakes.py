"""What the agent's tests share: a store in memory, and an agent whose Blender is `fake_driver.py`."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodeimage.agent.blender import Blender
from nodeimage.agent.loop import Agent
from nodeimage.agent.ports import Fetched, StoreError
from nodeimage.agent.surroundings import Surroundings, Watcher
from nodeimage.protocol import (
    Action,
    Claim,
    Heartbeat,
    JournalEntry,
    NodeConfig,
    NodeState,
    Order,
    Outcome,
    RenderSettings,
    Requeued,
    Task,
    claim_key,
    journal_prefix,
    order_key,
    output_key,
    runs_of,
    status_key,
)

FAKE_DRIVER = Path(__file__).with_name("fake_driver.py")
JOB = "job_1"
PATIENCE_S = 20.0


class MemoryStore:
    """`ports.Store` in memory. `fail(error, keys)` makes calls about some keys fail until `recover`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[str, tuple[str, bytes]] = {}
        self._version = 0
        self._trouble: tuple[StoreError, str] | None = None
        self._answered_at = time.monotonic()
        self.calls: list[tuple[str, str]] = []

    def get(self, key: str, *, etag: str = "") -> Fetched | None:
        self._call("get", key)
        with self._changed:
            found = self._objects.get(key)
        if found is None:
            return None
        return Fetched(etag=found[0], body=None if found[0] == etag else found[1])

    def put(self, key: str, body: bytes, *, content_type: str = "application/json") -> None:
        self._call("put", key)
        self._write(key, body)

    def put_new(self, key: str, body: bytes) -> bool:
        self._call("put_new", key)
        with self._changed:
            if key in self._objects:
                return self._objects[key][1] == body
            self._write(key, body)
            return True

    def put_file(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> None:
        self._call("put_file", key)
        self._write(key, path.read_bytes())

    def names(self, prefix: str) -> list[str]:
        self._call("names", prefix)
        with self._changed:
            return sorted(key.removeprefix(prefix) for key in self._objects if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self._call("delete", key)
        with self._changed:
            self._objects.pop(key, None)
            self._changed.notify_all()

    def silent_s(self) -> float:
        return time.monotonic() - self._answered_at

    def fail(self, error: StoreError, *, keys: str = "") -> None:
        """Make every call about a key that contains `keys` fail, until `recover`."""
        self._trouble = (error, keys)

    def recover(self) -> None:
        self._trouble = None

    def has(self, key: str) -> bool:
        return key in self._objects

    def below(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`."""
        with self._changed:
            return sorted(key for key in self._objects if key.startswith(prefix))

    def body(self, key: str) -> bytes:
        with self._changed:
            return self._objects[key][1]

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until something is so, looking at each change."""
        with self._changed:
            assert self._changed.wait_for(is_so, PATIENCE_S), f"never came: {what}; there is {list(self._objects)}"

    def _call(self, name: str, key: str) -> None:
        self.calls.append((name, key))
        if self._trouble is not None and self._trouble[1] in key:
            raise self._trouble[0]
        self._answered_at = time.monotonic()

    def _write(self, key: str, body: bytes) -> None:
        with self._changed:
            self._version += 1
            self._objects[key] = (f'"{self._version}"', body)
            self._changed.notify_all()


class Rig:
    """A store with an order in it, and agents to run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.free_bytes = 2**40
        self.prepare: Callable[[Watcher], None] | None = None
        self.interruption_at_ms = 0
        self.is_rented = False
        self.is_of_pool = False
        self.last_state = NodeState.GONE
        self.signs_of_life = 0
        self.workspace = folder / "workspace"
        self.workspace.mkdir()
        self.plan()
        self.order: Order | None = None

    def plan(self, **plan: Any) -> None:
        """Say how Blender behaves: see `fake_driver`."""
        (self.workspace / "plan.json").write_text(json.dumps(plan))

    def go_on(self) -> None:
        """Let a Blender go on that waits by plan."""
        (self.workspace / "go").touch()

    def put_order(
        self, *frames: int, action: Action = Action.RENDER, ordered: bool = False, node: str | None = "node_a", **others: list[int]
    ) -> None:
        """Write an order: `frames` are `node`'s, `others` are tasks by node."""
        tasks = [Task(node=node, frames=runs_of(frames))] + [Task(node=name, frames=runs_of(theirs)) for name, theirs in others.items()]
        settings = RenderSettings(main_file="plan.json", frame_timeout_s=PATIENCE_S)
        self._put(Order(job=JOB, revision=1, action=action, settings=settings, tasks=tuple(tasks), ordered=ordered))

    def change_order(self, **changes: Any) -> None:
        """Write the next order."""
        assert self.order is not None, "put_order comes first"
        self._put(replace(self.order, revision=self.order.revision + 1, **changes))

    def requeue(self, requeued: Mapping[int, Requeued]) -> None:
        """Let frames be tried again, as the farm does: the order first, then the claims."""
        self.change_order(requeued=dict(requeued))
        for frame in requeued:
            self.store.delete(claim_key(JOB, frame))

    def _put(self, order: Order) -> None:
        self.order = order
        self.store.put(order_key(JOB), order.to_bytes())

    def config(self, node: str = "node_a", **changes: Any) -> NodeConfig:
        base = NodeConfig(
            node=node,
            job=JOB,
            bucket="b",
            workspace=str(self.workspace),
            home=str(self.folder / node),
            blender=sys.executable,
            blender_kind="bpy",
            heartbeat_s=0.05,
            poll_s=0.01,
            idle_s=0.05,
        )
        return replace(base, **changes)

    def agent(self, node: str = "node_a", *, stop: threading.Event | None = None, **changes: Any) -> Agent:
        config = self.config(node, **changes)
        Path(config.home).mkdir(exist_ok=True)

        def start_blender(number: int) -> Blender:
            return Blender(config, number=number, environment={}, driver=FAKE_DRIVER, grace_s=0.2)

        around = Surroundings(
            start_blender=start_blender,
            first_blender=None,
            stop=stop or threading.Event(),
            now_ms=lambda: time.time_ns() // 1_000_000,
            free_bytes=lambda folder: self.free_bytes,
            prepare=self.prepare,
            interruption_at_ms=lambda: self.interruption_at_ms,
            alive=self._alive,
            is_rented=self.is_rented,
            is_of_pool=self.is_of_pool,
            last_state=self.last_state,
        )
        return Agent(config, self.store, around)

    def _alive(self) -> None:
        self.signs_of_life += 1

    def announce_interruption(self, *, in_s: float) -> None:
        """Let the cloud say that it takes the machine back."""
        self.interruption_at_ms = time.time_ns() // 1_000_000 + int(in_s * 1000)

    @contextmanager
    def running(self, node: str = "node_a", **changes: Any) -> Iterator[threading.Event]:
        """Run an agent in a thread; at the end it is told to stop, if it has not ended. Yields: its stop"""
        stop = threading.Event()
        agent = self.agent(node, stop=stop, **changes)
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "the agent does not stop"

    def journal(self, outcome: Outcome | None = None) -> list[JournalEntry]:
        """What was journaled, in order."""
        entries = [JournalEntry.from_bytes(self.store.body(key)) for key in self.store.below(journal_prefix(JOB))]
        return [entry for entry in entries if outcome is None or entry.outcome is outcome]

    def frames(self, outcome: Outcome) -> list[int | None]:
        return [entry.frame for entry in self.journal(outcome)]

    def wait_for(self, outcome: Outcome, count: int = 1) -> JournalEntry:
        """Wait for the `count`-th entry of an outcome. Returns: it"""
        self.store.wait_until(lambda: len(self.journal(outcome)) >= count, f"{count} × {outcome}")
        return self.journal(outcome)[count - 1]

    def beat(self, node: str = "node_a") -> Heartbeat:
        """The node's last heartbeat."""
        return Heartbeat.from_bytes(self.store.body(status_key(node)))

    def wait_for_beat(self, is_so: Callable[[Heartbeat], bool], what: str, node: str = "node_a") -> Heartbeat:
        """Wait until a heartbeat says so. Returns: it"""
        self.store.wait_until(lambda: self.store.has(status_key(node)) and is_so(self.beat(node)), what)
        return self.beat(node)

    def claim_of(self, frame: int) -> Claim | None:
        """The claim on a frame, if there is one."""
        key = claim_key(JOB, frame)
        return Claim.from_bytes(self.store.body(key)) if self.store.has(key) else None


def rendered(rig: Rig, frame: int) -> dict[str, object]:
    """What the stand-in for Blender wrote as the frame."""
    told: dict[str, object] = json.loads(rig.store.body(output_key(JOB, frame, f"shot_{frame:04d}.png")))
    return told
