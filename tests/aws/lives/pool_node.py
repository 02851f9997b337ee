"""A node of the shared pool as it is played: it renders for whichever job comes first and has a frame for it, one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodeimage.protocol import Action, NodeState
from tests.fakes.node import FakeNode

from .machine import RENDER_S, Machine, Surroundings, problem_of_agent, problem_of_files


@dataclass
class PlayedPoolNode:
    """Takes a frame, renders it for a while, delivers it, and looks for the next; without any for long, it ends its machine."""

    machine: Machine
    around: Surroundings
    _node: FakeNode = field(init=False)
    _is_prepared: bool = False
    _since: float = 0.0  #: when it began the frame, or had its last work

    def __post_init__(self) -> None:
        self._since = self._now_s
        self._node = FakeNode(objects=self.around.bucket, clock=self.around.clock, instance=self.machine, power_off=self.machine.power_off)

    @property
    def _now_s(self) -> float:
        return self.around.clock().timestamp()

    def step(self) -> None:
        if not self._is_prepared and (problem := problem_of_agent(self.machine.told, self.around.bucket)):
            self._node.beat(NodeState.STARTING, problem=problem)
            self.machine.power_off()
            return
        self._is_prepared = True
        self._hear_of_the_end()
        self._deliver_what_is_rendered()
        if self._node.claims:
            self._node.beat(frame=min(self._node.claims))
        else:
            self._look_for_work()

    def _hear_of_the_end(self) -> None:
        """Leave a job that is over."""
        order = self._node.order() if self._node.at_job else None
        if order is not None and order.action is Action.STOP:
            for frame in list(self._node.claims):
                self._node.interrupt(frame)
            self._node.leave_job()

    def _deliver_what_is_rendered(self) -> None:
        if self._now_s - self._since >= RENDER_S:
            for frame in list(self._node.claims):
                self._node.deliver(frame, render_s=RENDER_S)
                self._since = self._now_s

    def _look_for_work(self) -> None:
        if job := self._node.take_job():
            self._since = self._now_s
            assert not problem_of_files(job, self.around.bucket), "a job's files are there before nodes are told of it"
        elif self._now_s - self._since > self.machine.told.idle_s:
            self._node.leave()
