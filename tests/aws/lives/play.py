"""A life as it is played: rounds of time passing, machines working, a person looking, and the farm doing what is due."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from supervisor import queries
from supervisor.cloud.aws.own_machine import OwnInstance
from supervisor.config import AwsConfig, CloudConfig, Config, NodeSettings, PoolConfig, WorkspaceConfig
from supervisor.farm import Farm
from tests.aws import happenings, moto_here
from tests.aws.faults import Crash, Plan, nothing
from tests.aws.own_place import run_own_instance

from .account import FARM, Account
from .filled_here import PlayedHere
from .life import Life
from .machine import Surroundings
from .person import Person
from .process import Process, make_data_folder
from .verdict import Doubles, Fault, Kind, Ledger, Verdict, everything, is_pool_empty

#: Ended jobs' files are kept so long in these lives.
KEEP_HOURS = 24.0
#: After so long without work, instances of a shared pool are given back.
_POOL_IDLE_S = 20.0
#: Seconds from round to round: the farm must not take them for a gap in its watch.
ROUND_S = 6.0
#: Operations after which more may be rented than before. A group launches before anybody looks at it.
_MAKES = frozenset(
    {
        "ec2.RunInstances",
        "ec2.CreateFleet",
        "ec2.StartInstances",
        "ec2.CreateVolume",
        "ec2.CreateSnapshot",
        "auto-scaling.CreateAutoScalingGroup",
        "auto-scaling.UpdateAutoScalingGroup",
        "auto-scaling.DescribeAutoScalingGroups",
    }
)
#: What is not over after so many rounds never will be.
MOST_ROUNDS = 150
#: Time leaps after the end of the job: the first two until what nobody owns is swept, the others until nothing is kept any more.
_SWEPT, _AGAIN = timedelta(minutes=11), timedelta(seconds=61)
_KEPT = timedelta(hours=KEEP_HOURS + 1)


def config_of(life: Life, *, has_pool: bool) -> Config:
    """How the farm of a life is configured."""
    filled_by: Literal["farm", "staging_instance"] = "farm" if life.is_filled_here else "staging_instance"
    pool = {"mode": "shared", "market": life.market.value, "max_instances": life.instances} if has_pool else {}
    return Config(
        cloud=CloudConfig(provider="aws"),
        aws=AwsConfig(farm=FARM, instance_types="c7i.4xlarge, c7a.4xlarge"),
        workspace=WorkspaceConfig(keep_hours=KEEP_HOURS, filled_by=filled_by, staging_instance_type="c7i.xlarge"),
        pool=PoolConfig.model_validate(pool),
        node=NodeSettings(idle_s=_POOL_IDLE_S) if has_pool else NodeSettings(),
    )


@dataclass
class Play:
    """One life of one job, and what is wrong with it."""

    account: Account
    life: Life
    data: Path
    faults: list[Fault] = field(default_factory=list)
    is_over: bool = False
    most_rounds: int = MOST_ROUNDS
    rounds: int = 0
    _leaps: int = 0
    process: Process | None = None  #: None: the farm is dead, or was not started yet
    person: Person = field(init=False)
    own: OwnInstance | None = field(init=False)  #: the instance that the farm runs on
    config: Config = field(init=False)

    def __post_init__(self) -> None:
        account = self.account
        self.config = config_of(self.life, has_pool=self.life.is_shared)
        account.begin_anew(self.life.market, self.config)
        self.own = run_own_instance(account.moto) if self.life.is_filled_here else None
        self.known = everything()
        make_data_folder(self.data)
        self.person = Person(self.life, account.bucket, account.put)
        self.doubles = Doubles(self.life, self.known)
        self.ledger = Ledger(self.known)
        self.verdict = Verdict(account, self.life, self.known, self.ledger)
        account.moto.after = self._look

    def _look(self, operation: str) -> None:
        if operation in _MAKES:
            self.doubles.look()
            self.ledger.look()

    def round(self) -> None:
        """Let time pass, and everybody do what is to be done. Errors: Crash - the farm has died"""
        self.rounds += 1
        if self._is_quiet():
            self._leap()
        elif self.rounds > self.most_rounds:
            self._end([Fault(kind=Kind.ENDED_WRONG, text=self._where_it_hangs())])
        else:
            self._pass(ROUND_S)
            self._farm_works()

    def _is_quiet(self) -> bool:
        """Whether nothing more comes: the job has ended, and a shared pool has given back what nobody has work for."""
        return self.person.sees_end and (not self.life.is_shared or self._leaps > 0 or is_pool_empty())

    def _where_it_hangs(self) -> str:
        if self.process is None or not self.person.job:
            return "the farm does not start"
        seen = queries.job_summary(self.process.farm, self.person.job)
        return f"the job does not end: {seen.status}, {seen.reason}"

    def _farm_works(self) -> Farm:
        """Let the person look and the farm do what is due; start it, if it does not run. Errors: Crash"""
        if self.process is None:
            here = PlayedHere(own=self.own, around=Surroundings(bucket=self.account.bucket, clock=self.account.clock)) if self.own else None
            self.process = Process(self.account.session, self.account.clock, self.config, self.data, here=here)
        self.person.act(self.process.farm)
        self.process.work()
        return self.process.farm

    def _leap(self) -> None:
        """One of the rounds after the job's end, with a verdict between them."""
        kept_for = _SWEPT if self.life.is_deleted else _KEPT
        span = (_SWEPT, _AGAIN, kept_for, _AGAIN)[self._leaps]
        if self._leaps == 2 and self.life.is_shared and self.config.pool.mode == "shared":
            self._restart_without_pool()
        self._pass(span.total_seconds())
        farm = self._farm_works()
        self._leaps += 1
        if self._leaps == 2:
            self._judge_the_end(farm)
        elif self._leaps == 4:
            self._end(self.verdict.of_what_is_left(self.person.job))

    def _restart_without_pool(self) -> None:
        """Let somebody change his mind about the shared pool."""
        self.let_go()
        self.process, self.config = None, config_of(self.life, has_pool=False)

    def _judge_the_end(self, farm: Farm) -> None:
        self.faults += self.verdict.of_the_end(farm, self.person.job)
        if self.life.is_deleted:
            self.person.delete(farm)

    def _end(self, faults: Iterable[Fault]) -> None:
        self.faults += [Fault(kind=Kind.ENDED_WRONG, text=text) for text in self.person.complaints]
        self.faults += [*faults, *self.doubles.found.values(), *self.verdict.of_rights()]
        self.is_over = True
        self.account.moto.after = moto_here.nothing

    def _pass(self, seconds: float) -> None:
        """Let time pass for everybody but the farm."""
        self.account.clock.pass_s(seconds)
        if seconds >= 3600:
            happenings.age_out()
        self.account.machines.step()
        if self.process and self.process.here:
            self.process.here.step()
        self.account.moto.note_change()

    def die(self, *, outage_s: float, plan: Plan = nothing) -> None:
        """Let the farm be dead for a while; what it asks when it lives again goes by the plan."""
        self.account.way.take(plan)
        self.let_go()
        self.process = None
        until = self.account.clock() + timedelta(seconds=outage_s)
        while self.account.clock() < until:
            self._pass(min(10.0, (until - self.account.clock()).total_seconds()))

    def let_go(self) -> None:
        """Close the farm's files; they are opened again when they are needed."""
        if self.process is not None:
            self.process.let_go()

    def live(self) -> None:
        """Play until it is over."""
        while not self.is_over:
            self.round()

    def die_and_live(self, *, outage_s: float, plan: Plan = nothing) -> bool:
        """Play a round in which the farm dies by the way's plan, then the rest by `plan`. Returns: False if it did not die"""
        try:
            self.round()
        except Crash:
            self.die(outage_s=outage_s, plan=plan)
            self.live()
            return True
        return False
