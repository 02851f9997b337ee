"""A node that plays the bucket's protocol in the fake store, one deed at a time, as a test tells it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Protocol

from nodeimage.launch import PoolOrder
from nodeimage.protocol import (
    POOL_KEY,
    Action,
    Claim,
    Failure,
    Finding,
    Heartbeat,
    JournalEntry,
    NodeState,
    Order,
    Outcome,
    Output,
    Requeued,
    claim_key,
    frames_in,
    journal_key,
    log_key,
    order_key,
    output_key,
    preview_key,
    status_key,
)
from supervisor import queries
from supervisor.cloud.ports import RentedInstance, StoredObject
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus

from .farm import Clock, FakeFarm


class NodeObjects(Protocol):
    """The bucket, as far as a node needs it."""

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> bool: ...

    def get(self, key: str) -> StoredObject | None: ...

    def delete(self, keys: Iterable[str]) -> None: ...


class NodeInstance(Protocol):
    """The instance that a node runs on."""

    @property
    def id(self) -> str: ...

    @property
    def node(self) -> str: ...

    @property
    def job(self) -> str: ...


@dataclass
class FakeNode:
    """The agent of one instance. `clock_off_s` is how wrong its clock is."""

    objects: NodeObjects
    clock: Clock
    instance: NodeInstance
    power_off: Callable[[], object]
    clock_off_s: float = 0.0
    claims: dict[int, Claim] = field(default_factory=dict)  #: held, without an outcome
    written: list[str] = field(default_factory=list)  #: journal entries, by key
    delivered: list[int] = field(default_factory=list)
    interruption_at_ms: int = 0  #: what its heartbeats say of it
    at_job: str = ""  #: of a node of the shared pool: the job that it is at
    _beats: Iterator[int] = field(default_factory=lambda: count(1))
    _entries: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def name(self) -> str:
        return self.instance.node

    @property
    def job(self) -> str:
        return self.instance.job or self.at_job

    @property
    def now_ms(self) -> int:
        return self.clock.ms + int(self.clock_off_s * 1000)

    def order(self) -> Order | None:
        stored = self.objects.get(order_key(self.job))
        return Order.from_bytes(stored.body) if stored else None

    def claim(self) -> int | None:
        """Claim the next frame as the order has it. Returns: None if there is none for this node"""
        order = self.order()
        if order is None or order.action is not Action.RENDER or self.interruption_at_ms:
            return None
        for frame in self._candidates(order):
            told = order.requeued.get(frame) or Requeued(attempt=1)
            nonce = f"{self.name}-{self.now_ms}-{next(self._entries)}"  # another one after its machine was stopped and started, too
            claim = Claim(node=self.name, frame=frame, attempt=told.attempt, nonce=nonce, at_ms=self.now_ms)
            if self.name not in told.avoid and self.objects.put(claim_key(self.job, frame), claim.to_bytes(), if_absent=True):
                self.claims[frame] = claim
                return frame
        return None

    def _candidates(self, order: Order) -> list[int]:
        if order.ordered:
            return frames_in(order.tasks[0].frames) if order.tasks and order.tasks[0].node == self.name else []
        own = [frame for task in order.tasks if task.node == self.name for frame in frames_in(task.frames)]
        free = [frame for task in order.tasks if task.node is None for frame in frames_in(task.frames)]
        others = [frame for task in order.tasks if task.node not in {None, self.name} for frame in reversed(frames_in(task.frames))]
        return own + free + others

    def beat(self, state: NodeState = NodeState.RENDERING, *, frame: int | None = None, problem: str = "") -> None:
        """Write a heartbeat; with `frame`, that it renders that one."""
        heartbeat = Heartbeat(
            node=self.name,
            job=self.job,
            beat=next(self._beats),
            at_ms=self.now_ms,
            state=state,
            frame=frame,
            attempt=self.claims[frame].attempt if frame in self.claims else 1,
            problem=problem,
            interruption_at_ms=self.interruption_at_ms,
            log_tail=("Fra:1 Mem:12M",),
            blender_version="4.5.15",
        )
        self.objects.put(status_key(self.name), heartbeat.to_bytes())

    def begin(self) -> int | None:
        """Claim a frame and say that it is being rendered."""
        frame = self.claim()
        self.beat(NodeState.IDLE if frame is None else NodeState.RENDERING, frame=frame)
        return frame

    def opened(self, *findings: Finding) -> None:
        self._write(JournalEntry(outcome=Outcome.OPENED, node=self.name, at_ms=self.now_ms, findings=findings, blender_version="4.5.15"))

    def deliver(self, frame: int, *, render_s: float = 2.0, body: bytes = b"") -> str:
        """Deliver a frame: outputs, preview and log, then the journal entry. Returns: the entry's key"""
        claim = self.claims.pop(frame)
        body = body or f"picture {frame}".encode()
        name = f"{frame:04d}.png"
        self.objects.put(output_key(self.job, frame, name), body)
        self.objects.put(preview_key(self.job, frame), b"RIFF")
        self.objects.put(log_key(self.job, frame, claim.attempt), f"log of attempt {claim.attempt}".encode())
        self.delivered.append(frame)
        return self._write(
            JournalEntry(
                outcome=Outcome.FINISHED,
                node=self.name,
                at_ms=self.now_ms,
                frame=frame,
                attempt=claim.attempt,
                nonce=claim.nonce,
                outputs=(Output(name=name, bytes=len(body), crc32=zlib.crc32(body)),),
                has_preview=True,
                render_s=render_s,
            )
        )

    def fail(self, frame: int, failure: Failure = Failure.ERROR, *, message: str = "it went wrong") -> str:
        """Say that an attempt failed. The claim stays: the farm frees it."""
        claim = self.claims.pop(frame)
        self.objects.put(log_key(self.job, frame, claim.attempt), f"log of attempt {claim.attempt}".encode())
        return self._write(self._outcome(Outcome.FAILED, claim, message, failure))

    def repeat(self, written: str) -> str:
        """Write an entry once more, as a node does that had no answer."""
        there = self.objects.get(written)
        assert there is not None, "it was written"
        return self._write(JournalEntry.from_bytes(there.body))

    def interrupt(self, frame: int, *, gives_back: bool = True) -> str:
        """Give a frame up through no fault of its own."""
        claim = self.claims.pop(frame)
        key = self._write(self._outcome(Outcome.INTERRUPTED, claim, "the machine is taken back", None))
        if gives_back:
            self.objects.delete([claim_key(self.job, frame)])
        return key

    def take_job(self) -> str:
        """Be at the first job of the pool's order that has a frame for this node, and say so; with none, be idle. Returns: the job"""
        stored = self.objects.get(POOL_KEY)
        jobs = [each.job for each in PoolOrder.from_bytes(stored.body).jobs] if stored else []
        for self.at_job in [*jobs, ""]:
            if self.at_job and (frame := self.claim()) is not None:
                self.beat(frame=frame)
                return self.at_job
        self.beat(NodeState.IDLE)
        return ""

    def leave_job(self) -> None:
        """Hold nothing of the job any more, and say so. Only for nodes of the shared pool"""
        self.at_job = ""
        self.beat(NodeState.IDLE)

    def hear_notice(self, *, in_s: float = 120.0) -> None:
        """Say that the cloud takes the instance back; from now on no frame is taken."""
        self.interruption_at_ms = self.clock.ms + int(in_s * 1000)
        frame = min(self.claims, default=None)
        self.beat(NodeState.IDLE if frame is None else NodeState.RENDERING, frame=frame)

    def say_goodbye(self) -> None:
        """Say the last word; the instance stays."""
        self.beat(NodeState.GONE)

    def leave(self) -> None:
        """End in good order."""
        self.say_goodbye()
        self.power_off()

    def _outcome(self, outcome: Outcome, claim: Claim, message: str, failure: Failure | None) -> JournalEntry:
        return JournalEntry(
            outcome=outcome,
            node=self.name,
            at_ms=self.now_ms,
            frame=claim.frame,
            attempt=claim.attempt,
            nonce=claim.nonce,
            message=message,
            failure=failure,
        )

    def _write(self, entry: JournalEntry) -> str:
        key = journal_key(self.job, at_ms=self.now_ms, node=self.name, n=next(self._entries))
        self.objects.put(key, entry.to_bytes())
        self.written.append(key)
        return key


class FakeNodes:
    """The nodes of whatever a fake farm rents."""

    def __init__(self, bench: FakeFarm) -> None:
        self._bench = bench
        self._nodes: dict[str, FakeNode] = {}

    def alive(self) -> Sequence[FakeNode]:
        """The nodes of the instances that run, by launch."""
        asleep = {InstanceStatus.STOPPING, InstanceStatus.STOPPED}
        running = [instance for instance in self._bench.cloud.compute.alive() if instance.status not in asleep]
        for instance in running:
            self._nodes.setdefault(instance.id, self._node_on(instance))
        return [self._nodes[instance.id] for instance in running]

    def _node_on(self, instance: RentedInstance) -> FakeNode:
        cloud = self._bench.cloud
        power_off = partial(cloud.compute.end_instance, instance.id, note="there was nothing to do")
        return FakeNode(objects=cloud.objects, clock=self._bench.clock, instance=instance, power_off=power_off)

    def only(self) -> FakeNode:
        """The node, where there is one."""
        (node,) = self.alive()
        return node

    def finish(self, job: str, *, ticks: int = 60) -> JobStatus:
        """Let nodes and supervisor work until the job has ended. Returns: where it stands then"""
        for _ in range(ticks):
            self._bench.tick()
            self.work()
            if queries.job_summary(self._bench.farm, job).ended_at:
                break
        return self._bench.status(job)

    def work(self) -> None:
        """Let each node deliver what it holds and begin its next frame; those that are told to end do. Those of a shared pool look for a
        job.
        """
        for node in self.alive():
            order = node.order()
            for frame in list(node.claims):
                node.deliver(frame)
            if not node.instance.job:
                node.take_job()
            elif order and order.action is not Action.RENDER:
                node.leave()
            else:
                node.begin()
