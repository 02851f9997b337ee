"""Every point of a life at which the farm can die at a call to AWS: found by playing the life, tried by playing it on from there.

The life is played in one process, round by round. At the beginning of a round a fork plays the round once to see its calls, and then, for
each call, forks play it up to the call, die there, start the farm anew on the same data and the same cloud, and play the life to its end.
A fork has the whole world to itself: database, cloud, machines, time. A death there is an exception that no `except Exception` stops, after
which nothing reaches AWS; deaths by `os._exit`, of a process that is on a wire from its cloud, are `killed.py`'s.

What a dead process leaves is its data folder and the cloud. Where two points leave the very same (byte for byte in the data folder, and no
change in the cloud between them), such as just before and just after a call that only reads, one of them is played for both, unless all
are wished for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Generic, TypeVar

from tests.aws.faults import Call, Fault, at

from .account import Account
from .life import Life
from .play import Play

#: Where a play has its data: another place in each fork, under one name.
HERE = Path("/proc/self/cwd/data")
#: For how long the farm is dead: in turn. Within a frame; for some frames; until every node has given up and is gone.
OUTAGES_S = (0.0, 20.0, 90.0, 1500.0)
_DEATHS = (Fault.DIED_BEFORE, Fault.DIED_AFTER)
_FORKS = get_context("fork")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A moment at which the farm dies."""

    life: str
    round: int
    call: int  #: of the round
    operation: str
    death: Fault
    state: str  #: what is left of the farm then; points of one state differ in nothing
    number: int  #: in its life

    def __str__(self) -> str:
        return f"{self.life}: died {self.death.removeprefix('died_')} {self.operation} (round {self.round}, call {self.call})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a life went on from a point."""

    point: Point
    faults: tuple[tuple[str, str], ...]  #: kind, text
    operations: frozenset[str] = frozenset()  #: that the farm called until the end

    @property
    def has_ended_right(self) -> bool:
        return not self.faults


class Forks(Generic[_T]):
    """Runs work in forks, so many at once; results come in any order."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[Connection, Any] = {}
        self._results: list[_T] = []

    def begin(self, work: Callable[[], _T]) -> None:
        """Fork as soon as there is room."""
        while len(self._running) >= self._most:
            self._collect()
        ours, its = _FORKS.Pipe(duplex=False)
        sys.stdout.flush()
        child = _FORKS.Process(target=_run, args=(work, its))
        child.start()
        its.close()
        self._running[ours] = child

    def _collect(self) -> None:
        for ready in wait(list(self._running)):
            assert isinstance(ready, Connection)
            child = self._running.pop(ready)
            try:
                self._results.append(ready.recv())
            except EOFError as error:
                child.join()
                raise RuntimeError(f"a fork ended with {child.exitcode} and told nothing; what it printed says more") from error
            ready.close()
            child.join()

    def take(self) -> list[_T]:
        """What has come in so far."""
        taken, self._results = self._results, []
        return taken

    def finish(self) -> list[_T]:
        """Wait for all. Returns: what has come in since the last taking"""
        while self._running:
            self._collect()
        return self.take()


def _run(work: Callable[[], Any], pipe: Connection) -> None:
    pipe.send(work())
    pipe.close()
    os._exit(0)


def in_a_copy(work: Callable[[], _T]) -> Callable[[], _T]:
    """Copy the data folder at once; the work, whenever it is done, finds itself in the copy, which is gone afterwards."""
    copy = Path(mkdtemp(prefix="life-"))
    shutil.copytree(HERE, copy / HERE.name)

    def there() -> _T:
        os.chdir(copy)
        try:
            return work()
        finally:
            os.chdir("/")
            shutil.rmtree(copy)

    return there


def alone(work: Callable[[], _T]) -> _T:
    """Run work in a fork, and wait for what it returns."""
    forks: Forks[_T] = Forks(1)
    forks.begin(work)
    (result,) = forks.finish()
    return result


@dataclass
class Matrix:
    """The points of one life."""

    account: Account
    life: Life
    folder: Path
    workers: int = 2
    literally: bool = False  #: play every point, those of the same state too
    chosen: Callable[[Point], bool] = lambda point: True
    points: list[Point] = field(default_factory=list)  #: that were chosen
    seen: int = 0  #: points so far, chosen or not
    outcomes: dict[str, Outcome] = field(default_factory=dict)  #: by what was played
    baseline: tuple[str, ...] = ()  #: what was wrong with the life without any death
    operations: set[str] = field(default_factory=set)  #: that were called in any of its plays

    def run(self) -> Iterator[Outcome]:
        """Play the life and all its points; give what comes of each point."""
        forks: Forks[Outcome] = Forks(self.workers)
        self.folder.mkdir()
        os.chdir(self.folder)
        play = Play(self.account, self.life, HERE)
        played: dict[str, list[Point]] = {}
        while not play.is_over:
            play.let_go()
            for point in self._points_of(play):
                name = f"{point.number}" if self.literally else point.state
                if name not in played:
                    self._begin(forks, play, point)
                played.setdefault(name, []).append(point)
            yield from self._told(forks.take(), played)
            play.round()
        self.baseline = (*map(str, play.faults), *filter(None, [play.person.unfulfilled]))
        self.operations |= play.account.asked.operations
        yield from self._told(forks.finish(), played)

    def _points_of(self, play: Play) -> Iterator[Point]:
        """The points of the next round."""
        for seen in alone(in_a_copy(partial(_scout, play))):
            for death, state in zip(_DEATHS, (seen.before, seen.after), strict=True):
                self.seen += 1
                point = Point(
                    life=self.life.name,
                    round=play.rounds + 1,
                    call=seen.number,
                    operation=seen.operation,
                    death=death,
                    state=f"{play.rounds + 1} {state}",
                    number=self.seen,
                )
                if self.chosen(point):
                    self.points.append(point)
                    yield point

    def _begin(self, forks: Forks[Outcome], play: Play, point: Point) -> None:
        forks.begin(in_a_copy(partial(_play_on, play, point)))

    def _told(self, outcomes: Sequence[Outcome], played: dict[str, list[Point]]) -> Iterator[Outcome]:
        for outcome in outcomes:
            self.operations |= outcome.operations
            name = f"{outcome.point.number}" if self.literally else outcome.point.state
            for point in played[name]:
                yield Outcome(point=point, faults=outcome.faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A call, with what a death just before and just after it would leave."""

    number: int
    operation: str
    before: str
    after: str


def _scout(play: Play) -> list[_Seen]:
    """Play a round, and see its calls."""
    moto, found, states = play.account.moto, list[tuple[str, str]](), list[str]()

    def plan(call: Call) -> None:
        found.append((f"{call.service}:{call.operation}", _state(moto.changes)))

    play.account.way.told = lambda call: states.append(_state(moto.changes))
    play.account.way.take(plan)
    play.round()
    return [
        _Seen(number=number, operation=operation, before=before, after=after)
        for number, ((operation, before), after) in enumerate(zip(found, states, strict=True), start=1)
    ]


def _state(changes: int) -> str:
    """A name for what a process would leave that died now: the data folder, and the cloud as it is after so many changes."""
    digest = hashlib.sha256()
    for path in sorted(path for path in HERE.rglob("*") if path.is_file()):
        if path.suffix != ".db-shm":  # the index of the log next to it
            digest.update(f"{path} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return f"{changes} {digest.hexdigest()[:16]}"


def _play_on(play: Play, point: Point) -> Outcome:
    """Play the round up to the point, die there, start anew, and live to the end."""
    try:
        play.account.way.take(at(point.call, point.death))
        has_died = play.die_and_live(outage_s=OUTAGES_S[point.number % len(OUTAGES_S)])
        faults = [(fault.kind.value, fault.text) for fault in play.faults]
    except BaseException:  # noqa: BLE001  whatever it is, it is what came of the point
        faults = [("ended wrong", f"the farm broke: {traceback.format_exc(limit=-12)}")]
        has_died = True
    if not has_died:
        faults.append(("ended wrong", "the farm did not come to this call again: the life is not the same each time"))
    return Outcome(point=point, faults=tuple(faults), operations=play.account.asked.operations)
