"""A life in a storm: whatever can go wrong between the farm and AWS, and on AWS, at random from a seed.

When it calms, the life must end as it should.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from moto.moto_api._internal import mock_random

from nodeimage.protocol import Failure
from supervisor.domain.instance import Market
from supervisor.domain.workspace import WorkspaceMode
from supervisor.farm import Farm
from tests.aws import happenings
from tests.aws.faults import Call, Crash, Fault, Plan, nothing, storm

from .account import Account
from .life import Life, Wish
from .machine import running_instances
from .machines import PlayedNode, PlayedStaging
from .play import Play

#: What may befall a call. A refusal for want of rights is none of it: it ends a job, rightly.
CALL_FAULTS = (
    Fault.THROTTLED,
    Fault.THROTTLED_FOR_GOOD,
    Fault.BROKEN,
    Fault.UNREACHABLE,
    Fault.DIED_BEFORE,
    Fault.DIED_AFTER,
    Fault.REPLY_LOST,
    Fault.RESET,
    Fault.REPLY_LOST_FOR_GOOD,
)
_LOST = frozenset({Fault.REPLY_LOST, Fault.RESET, Fault.REPLY_LOST_FOR_GOOD})
#: Why a pool may have no room, by market.
_NO_ROOM = {
    Market.SPOT: ("InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow"),
    Market.ON_DEMAND: ("InsufficientInstanceCapacity", "VcpuLimitExceeded", "InstanceLimitExceeded"),
}
_TYPES = ("c7i.4xlarge", "c7a.4xlarge")
_ZONES = "abcdef"
#: The storm lasts so many rounds.
STORMY_ROUNDS = 40
_NOTICE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How bad it is: chances, of a call or in a round."""

    seed: int
    calls: float  #: that a call meets a fault
    interruption: float = 0.04  #: that a spot node is given notice
    loss: float = 0.02  #: that a machine dies, or a spot instance is taken back without a word
    silence: float = 0.03  #: that a node's heartbeats are lost for a while
    failure: float = 0.05  #: that a node fails the frame that it renders
    change_of_room: float = 0.15  #: that there is room elsewhere, or nowhere
    hiding: float = 0.1  #: that what is new is not to be seen for a while
    between: float = 0.02  #: that the machines go on between two calls of the farm

    @property
    def life(self) -> Life:
        """The job that is rendered in it."""
        dice = random.Random(self.seed)
        wish = dice.choice([Wish.STRAIGHT, Wish.STRAIGHT, Wish.PAUSE, Wish.CANCEL])
        mode = dice.choice([WorkspaceMode.S3, WorkspaceMode.SNAPSHOT])
        return Life(
            market=dice.choice(list(Market)),
            mode=mode,
            wish=wish,
            instances=dice.randint(1, 4),
            is_deleted=dice.random() < 0.5,
            frame_count=dice.randint(1, 8),
        )


def weather_of(seed: int) -> Weather:
    return Weather(seed=seed, calls=random.Random(-seed).choice([0.0, 0.02, 0.05, 0.1]))


@dataclass
class StormyPlay(Play):
    """A life in a storm."""

    weather: Weather = field(kw_only=True)
    dice: random.Random = field(init=False)
    mute_until: dict[str, float] = field(default_factory=dict)
    taken_at: dict[str, float] = field(default_factory=dict)  #: instance -> when the cloud takes it back
    hidden_rounds: int = 0
    #: What may still befall this job: as much as the farm must bear without giving it up.
    losses: int = 3
    staging_losses: int = 2
    snapshot_failures: int = 1
    frame_failures: int = 1
    deaths: int = 0

    def __post_init__(self) -> None:
        mock_random.seed(self.weather.seed)  # of it are the ids of things, and by these they are sorted
        super().__post_init__()
        self.most_rounds = 600
        self.verdict.is_calm = False
        self.dice = random.Random(self.weather.seed * 7 + 1)
        self.account.way.take(self._plan())
        self.account.moto.before = self._between

    @property
    def is_stormy(self) -> bool:
        return self.rounds < STORMY_ROUNDS and not self.person.sees_end

    def _plan(self) -> Plan:
        if not self.weather.calls:
            return nothing
        of_calls = storm(self.dice.getrandbits(32), rate=self.weather.calls, faults=CALL_FAULTS)

        def plan(call: Call) -> Fault | None:
            fault = of_calls(call) if self.is_stormy else None
            if fault in _LOST and call.operation == "CreateSnapshot":
                self.doubles.twins += 1
            return fault

        return plan

    def _between(self, operation: str) -> None:
        """Let the machines go on while the farm is at work."""
        if self.is_stormy and self.dice.random() < self.weather.between:
            self.account.machines.step()
            self.account.moto.note_change()

    def _farm_works(self) -> Farm:
        try:
            return super()._farm_works()
        except Crash:
            self.deaths += 1
            self.die(outage_s=self.dice.choice([0, 0, 5, 20, 90]), plan=self._plan())
            return self._farm_works()

    def _pass(self, seconds: float) -> None:
        if self.is_stormy:
            self._let_things_happen()
        else:
            self._calm()
        self._take_back()
        super()._pass(seconds)

    def _has(self, chance: float) -> bool:
        return self.dice.random() < chance

    def _let_things_happen(self) -> None:
        for node in self.account.machines.programs():
            if isinstance(node, PlayedStaging):
                self._befall_staging(node)
            elif isinstance(node, PlayedNode):
                self._befall(node)
        if self._has(self.weather.change_of_room):
            happenings.change(pool_errors=self._room())
        self._hide()
        if self.snapshot_failures and self._has(self.weather.loss):
            self.snapshot_failures -= happenings.fail_snapshots()

    def _befall_staging(self, program: PlayedStaging) -> None:
        if self.staging_losses and self._has(self.weather.loss * 2):
            self.staging_losses -= 1
            happenings.lose(instance=program.machine.id)

    def _befall(self, node: PlayedNode) -> None:
        id, now = node.machine.id, self.account.clock().timestamp()
        if node.machine.is_spot and not node.interruption_at_ms and self._has(self.weather.interruption):
            node.hear_notice(in_s=_NOTICE_S)
            self.taken_at[id] = now + _NOTICE_S + self.dice.uniform(0, 30)
            self.doubles.doomed.add(id)
        elif self.losses and self._has(self.weather.loss):
            self.losses -= 1
            (happenings.interrupt if node.machine.is_spot and self._has(0.5) else happenings.lose)(instance=id)
        elif self.losses and not node.is_mute and self._has(self.weather.silence):
            self.losses -= 1
            node.is_mute = True
            self.mute_until[id] = now + self.dice.uniform(5, 150)
            self.doubles.doomed.add(id)
        elif self.frame_failures and self._has(self.weather.failure):
            self.frame_failures -= node.fail(Failure.CRASH)
        if now >= self.mute_until.get(id, 0):
            node.is_mute = False

    def _take_back(self) -> None:
        now = self.account.clock().timestamp()
        alive = {one.id for one in running_instances()}
        for id in [id for id, at in self.taken_at.items() if now >= at]:
            del self.taken_at[id]
            if id in alive:
                happenings.interrupt(instance=id)

    def _room(self) -> dict[str, str]:
        """Where there is none at present: nowhere at all, in some pools, or everywhere."""
        codes = _NO_ROOM[self.life.market]
        if self._has(0.4):
            return {}
        if self._has(0.3):
            return dict.fromkeys(_TYPES, self.dice.choice(codes))
        return {f"{name}/us-east-1{zone}": self.dice.choice(codes) for name in _TYPES for zone in _ZONES if self._has(0.6)}

    def _hide(self) -> None:
        """Let what is new not be seen for some rounds, less than a minute."""
        if self.hidden_rounds:
            self.hidden_rounds -= 1
            if not self.hidden_rounds:
                happenings.show_all()
        elif self._has(self.weather.hiding):
            self.hidden_rounds = self.dice.randint(1, 6)
            happenings.change(hides_new=True)

    def _calm(self) -> None:
        if self.hidden_rounds:
            self.hidden_rounds = 0
            happenings.show_all()
        happenings.change(pool_errors={})
        for node in self.account.machines.nodes():
            node.is_mute = False


def play_in_storm(account: Account, seed: int, folder: Path) -> StormyPlay:
    """Play the life of a seed to its end."""
    weather = weather_of(seed)
    play = StormyPlay(account, weather.life, folder, weather=weather)
    try:
        play.live()
    finally:
        account.way.take(nothing)
        account.moto.before = account.moto.after = lambda operation: None
    return play
