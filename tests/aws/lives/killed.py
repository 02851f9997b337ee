"""A life whose farm is a process of its own, over a wire from its cloud, and is really killed: no `except`, no `finally`, no last word.

The matrix plays a death as an exception that nothing stops, in one process with the cloud. Here `os._exit` ends the farm's process at the
call, whatever its threads do, and another process goes on with what is on the disk. The cloud is moto's server in this process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from supervisor.cloud.aws.session import AwsSession
from supervisor.config import Config
from supervisor.farm import Farm
from tests.aws.faults import Call, Fault, Way, breakable, nothing
from tests.aws.moto_server import Moto, serve
from tests.aws.world import REGION
from tests.fakes.farm import Clock

from .account import KEYS, Account
from .life import Life
from .play import Play
from .process import Process, opened_farm

#: What a process is that ended by `Way.is_hard`.
_KILLED = 137
#: No round takes so long, not even the first, on a busy machine.
_ROUND_WITHIN_S = 120.0
# a process that has done nothing but import: what is forked from it has no threads, sockets or clients of ours
_CLEAN = get_context("forkserver")
_CLEAN.set_forkserver_preload([__name__])


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Where the farm is to be killed: at the nth call of an operation since its start."""

    operation: str
    fault: Fault  #: DIED_BEFORE | DIED_AFTER
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.fault.removeprefix('died_')} {self.operation} {self.nth}"

    def plan(self) -> Callable[[Call], Fault | None]:
        seen: set[int] = set()

        def at_call(call: Call) -> Fault | None:
            if call.operation == self.operation:
                seen.add(call.number)
                return self.fault if len(seen) == self.nth else None
            return None

        return at_call


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a farm's process is told at its start."""

    url: str  #: of its cloud
    data: Path
    config: Config
    death: Death | None


def be_the_farm(told: _Told, pipe: Connection) -> None:
    """Be the farm's process: at each time that comes in, do what is due, and say so when it is done."""
    os.environ.update(Moto(told.url).environment)
    clock = Clock(at=pipe.recv())
    with breakable(Way(is_hard=True)) as way:
        way.take(told.death.plan() if told.death else nothing)
        process = Process(AwsSession(region=REGION, keys=KEYS), clock, told.config, told.data)
        while True:
            process.work()
            pipe.send(None)
            clock.at = pipe.recv()


@dataclass
class _Child:
    """A process of the farm, from here."""

    process: BaseProcess
    pipe: Connection

    def work(self, now: datetime) -> bool:
        """Let it do what is due. Returns: False: it was killed"""
        self.pipe.send(now)
        assert self.pipe.poll(_ROUND_WITHIN_S), "the farm's process hangs"
        try:
            self.pipe.recv()
        except EOFError:
            self.process.join()
            assert self.process.exitcode == _KILLED, f"the farm's process ended with {self.process.exitcode}; what it printed says more"
            return False
        return True

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


@dataclass
class KilledPlay(Play):
    """A life in which the farm is killed once, or never. Persons act beside it, as commands do."""

    url: str = field(kw_only=True)  #: of the cloud, for the farm's process
    death: Death | None = field(kw_only=True)
    was_killed: bool = False
    _child: _Child | None = None
    _beside: Farm | None = None

    def _farm_works(self) -> Farm:
        """The farm as the person sees it, after its process has worked; it is started, if there is none."""
        account, seen = self.account, self._seen()
        self.person.act(seen)
        seen.db.close()  # it is opened again when it is needed; the process has it meanwhile
        if self._child is None:
            self._child = self._started()
        is_alive = self._child.work(account.clock())
        account.moto.note_change()
        self._look("ec2.RunInstances")
        if not is_alive:
            self.was_killed = True
            self.stop()
        return seen

    def _seen(self) -> Farm:
        """The farm from beside its process."""
        if self._beside is None:
            self._beside = opened_farm(self.account.session, self.account.clock, self.config, self.data, serves=False).farm
        return self._beside

    def _started(self) -> _Child:
        ours, its = _CLEAN.Pipe()
        told = _Told(url=self.url, data=self.data, config=self.config, death=None if self.was_killed else self.death)
        process = _CLEAN.Process(target=be_the_farm, args=(told, its), daemon=True)
        process.start()
        its.close()
        return _Child(process, ours)

    def stop(self) -> None:
        """End the farm's process, if there is one."""
        if self._child is not None:
            self._child.end()
            self._child = None
        if self._beside is not None:
            self._beside.db.close()


@contextmanager
def on_a_wire() -> Iterator[str]:
    """Let the cloud of this process be reached by others. Gives: its address"""
    with serve() as served:
        yield served.url


def play_killed(account: Account, url: str, life: Life, data: Path, *, death: Death | None) -> KilledPlay:
    """Play a life to its end."""
    play = KilledPlay(account, life, data, url=url, death=death)
    try:
        play.live()
    finally:
        play.stop()
    return play
