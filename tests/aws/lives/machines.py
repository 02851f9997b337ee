"""What runs on the instances that are rented: nodes that render, and programs that fill volumes; played, one step at a time.

Each reads what a real one reads (its user data, the list of files, the order) and writes what a real one writes. It lives as long as its
instance runs, whatever becomes of the farm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any  # Any: moto's models are made at run time

from nodeimage.launch import FileList, LaunchData, Role, StagingReport, StagingState, WorkspaceKind
from nodeimage.protocol import Action, Failure, NodeState, staging_key
from tests.aws import happenings
from tests.aws.world import backend_of
from tests.fakes.node import FakeNode

from .machine import RENDER_S, Machine, Program, Surroundings, files_of, problem_of_agent, problem_of_files, running_instances
from .pool_node import PlayedPoolNode

#: A drained machine on demand waits so long for the farm to stop it.
_STOPPED_WITHIN_S = 300.0
#: A machine that was to be taken back and still runs is off so long after.
_TAKEN_LATE_S = 300.0


@dataclass
class PlayedStaging:
    """Fills the volume of its instance: says that it began, then that it is done, and shuts down."""

    machine: Machine
    around: Surroundings
    has_begun: bool = False

    def step(self) -> None:
        files = files_of(self.machine.job, self.around.bucket)
        if not self.has_begun:
            self.has_begun = True
            self._report(files, StagingState.RUNNING)
            return
        problem = problem_of_files(self.machine.job, self.around.bucket)
        volume = self.machine.volume
        if volume is None or volume.snapshot_id or self.machine.told.workspace is not WorkspaceKind.BLANK:
            problem = problem or "there is no empty volume"
        if problem:
            self._report(files, StagingState.FAILED, problem)
        else:
            volume.kiln_content = files.content
            self._report(files, StagingState.DONE)
        self.machine.power_off()

    def _report(self, files: FileList, state: StagingState, message: str = "") -> None:
        total = sum(entry.bytes for entry in files.files)
        report = StagingReport(
            state=state,
            instance=self.machine.id,
            content=files.content,
            at_ms=self.around.clock.ms,
            done_bytes=total if state is StagingState.DONE else 0,
            total_bytes=total,
            message=message,
        )
        self.around.bucket.put(staging_key(self.machine.job), report.to_bytes())


@dataclass
class PlayedNode:
    """Renders frames: one at a time, each for a while."""

    machine: Machine
    around: Surroundings
    is_mute: bool = False  #: its heartbeats are lost
    _node: FakeNode = field(init=False)
    _is_prepared: bool = False
    _since: float = 0.0  #: when it began the frame, or had its last work
    _gone_at: float | None = None

    def __post_init__(self) -> None:
        self._since = self._now_s
        self._node = FakeNode(objects=self.around.bucket, clock=self.around.clock, instance=self.machine, power_off=self.machine.power_off)

    @property
    def _now_s(self) -> float:
        return self.around.clock().timestamp()

    @property
    def interruption_at_ms(self) -> int:
        return self._node.interruption_at_ms

    def hear_notice(self, *, in_s: float) -> None:
        """Let the metadata service say that the instance is taken back then."""
        self._node.interruption_at_ms = self.around.clock.ms + int(in_s * 1000)

    def fail(self, failure: Failure) -> bool:
        """Let the frame fail that it renders. Returns: False if it renders none"""
        frame = min(self._node.claims, default=None)
        if frame is not None:
            self._node.fail(frame, failure)
        return frame is not None

    def step(self) -> None:
        if self._gone_at is not None:
            self._wait_to_be_stopped(self._gone_at)
        elif not self._is_prepared and (problem := self._what_is_wrong()):
            self._node.beat(NodeState.STARTING, problem=problem)
            self.machine.power_off()
        else:
            self._is_prepared = True
            self._work()

    def _work(self) -> None:
        order = self._node.order()
        if self._node.interruption_at_ms:
            self._wait_to_be_taken()
            return
        if order is not None and order.action is Action.STOP:
            self._give_back_all()
            self._leave()
            self.machine.power_off()
            return
        self._deliver_what_is_rendered()
        if order is not None and order.action is Action.DRAIN and not self._node.claims:
            self._leave()
            if self.machine.is_spot:
                self.machine.power_off()
        else:
            self._go_on()

    def _deliver_what_is_rendered(self) -> None:
        if self._node.claims and self._now_s - self._since >= RENDER_S:
            for frame in list(self._node.claims):
                self._node.deliver(frame, render_s=RENDER_S)
            self._since = self._now_s

    def _go_on(self) -> None:
        if not self._node.claims and self._node.claim() is not None:
            self._since = self._now_s
        frame = min(self._node.claims, default=None)
        if frame is None and self._now_s - self._since > self.machine.told.idle_s:
            self._leave()
            self.machine.power_off()
        elif not self.is_mute:
            self._node.beat(NodeState.IDLE if frame is None else NodeState.RENDERING, frame=frame)

    def _wait_to_be_taken(self) -> None:
        """Finish the frame if there is time for it; never shut down before the cloud takes the machine, unless it forgets to."""
        left_s = (self._node.interruption_at_ms - self.around.clock.ms) / 1000
        self._deliver_what_is_rendered()
        if left_s < RENDER_S:
            self._give_back_all()
        if left_s < -_TAKEN_LATE_S:
            self._leave()
            self.machine.power_off()
        elif not self.is_mute:
            frame = min(self._node.claims, default=None)
            self._node.beat(NodeState.IDLE if frame is None else NodeState.RENDERING, frame=frame)

    def _give_back_all(self) -> None:
        for frame in list(self._node.claims):
            self._node.interrupt(frame)

    def _leave(self) -> None:
        self._gone_at = self._now_s
        self._node.say_goodbye()

    def _wait_to_be_stopped(self, since: float) -> None:
        if self._now_s - since > _STOPPED_WITHIN_S:
            self.machine.power_off()

    def _what_is_wrong(self) -> str:
        """Prepare: the agent, the job's files. Returns: why it can't be; empty: all is there"""
        told, bucket = self.machine.told, self.around.bucket
        if problem := problem_of_agent(told, bucket):
            return problem
        if told.workspace is WorkspaceKind.S3:
            return problem_of_files(told.job, bucket)
        return self._what_is_wrong_with_the_volume(files_of(told.job, bucket))

    def _what_is_wrong_with_the_volume(self, files: FileList) -> str:
        volume = self.machine.volume
        if volume is None or not volume.snapshot_id:
            return "there is no volume with the job's files"
        made_of = backend_of().get_snapshot(volume.snapshot_id).volume
        return "" if getattr(made_of, "kiln_content", "") == files.content else "the volume has other files than the job"


class Machines:
    """The programs of all instances that run."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._programs: dict[str, Program] = {}

    def step(self) -> None:
        """Let whatever is on its way arrive, and let every machine do what it has to do now."""
        happenings.settle()
        running = {one.id: one for one in running_instances()}
        self._programs = {id: program for id, program in self._programs.items() if id in running}
        for id, one in running.items():
            if id not in self._programs:
                self._programs[id] = self._program(one)
        for id, program in list(self._programs.items()):
            if backend_of().get_instance(id).state == "running":
                program.step()
        happenings.settle()

    def programs(self) -> list[Program]:
        return list(self._programs.values())

    def nodes(self) -> list[PlayedNode]:
        return [program for program in self._programs.values() if isinstance(program, PlayedNode)]

    def _program(self, one: Any) -> Program:
        told = LaunchData.from_bytes(one.user_data.decode().encode())
        machine = Machine(id=one.id, told=told, is_spot=one.lifecycle == "spot")
        if told.role is Role.STAGE:
            return PlayedStaging(machine, self._around)
        if told.role is Role.POOL:
            return PlayedPoolNode(machine, self._around)
        assert told.role is Role.RENDER, told.role
        return PlayedNode(machine, self._around)
