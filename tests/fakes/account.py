"""An account in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from supervisor.cloud.ports import SIGN_IN, SIGNED_OUT, Refused, Removal, RemovalState, SetupStep, SignedIn, SignedOut, StepState

from .trouble import Trouble

KEYS = ("AKIAEXAMPLE", "a secret")


class FakeAccount(Trouble):
    """`CloudAccount` in memory: knows one pair of keys, and lacks whatever is in `lacking`."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: tuple[str, str] | None = None
        self.has_role = False  #: the machine has credentials of its own
        self.lacking: list[str] = ["bucket projects", "role", "launch template"]
        self.made: list[str] = []
        self.origins: list[str] = []  #: that planning and setting up were asked for
        self.blocked = ""  #: name of a thing that can't be made
        self.goes_on = threading.Event()  #: cleared: setting up waits after its first thing
        self.goes_on.set()

    def who(self) -> SignedIn:
        self._meet_trouble("who")
        if self.keys is None and not self.has_role:
            raise SignedOut(f"{SIGNED_OUT}; {SIGN_IN}")
        source = "keys that were typed on this farm's page" if self.keys else "the role of the EC2 instance that the farm runs on"
        return SignedIn(account="123456789012", name="user/kiln", source=source, has_typed_keys=self.keys is not None)

    def change_keys(self, access_key: str, secret_key: str) -> None:
        self._meet_trouble("change_keys")
        if (access_key, secret_key) == ("", ""):
            self.keys = None
        elif (access_key, secret_key) != KEYS:
            raise Refused("can't sign in to AWS with these keys: the security token is invalid")
        else:
            self.keys = KEYS

    def policy(self, *, part: str = "") -> Mapping[str, object]:
        return {"Version": "2012-10-17", "Statement": [{"Sid": f"Look{part}", "Action": ["ec2:DescribeInstances"]}]}

    def plan(self, *, origin: str = "") -> Sequence[SetupStep]:
        self._meet_trouble("plan")
        self.who()
        self.origins.append(origin)
        made = [SetupStep(name=name, state=StepState.READY, text="there") for name in self.made]
        return [*made, *(SetupStep(name=name, state=self._state(name), text="make it") for name in self.lacking)]

    def _state(self, name: str) -> StepState:
        return StepState.BLOCKED if name == self.blocked else StepState.ABSENT

    def set_up(self, *, origin: str = "") -> Iterator[SetupStep]:
        self.who()
        self.origins.append(origin)
        for name in list(self.lacking):
            self._meet_trouble("set_up")
            step = SetupStep(name=name, state=self._state(name), text="made")
            if step.state is StepState.BLOCKED:
                yield step
                return
            self.lacking.remove(name)
            self.made.append(name)
            yield replace(step, state=StepState.READY)
            assert self.goes_on.wait(timeout=30)

    def tear_down(self, *, with_data: bool, dry_run: bool) -> Iterator[Removal]:
        self._meet_trouble("tear_down")
        for name in list(self.made):
            if name.startswith("bucket") and not with_data:
                yield Removal(name=name, state=RemovalState.STAYS, text="it holds projects")
                continue
            if not dry_run:
                self.made.remove(name)
                self.lacking.append(name)
            yield Removal(name=name, state=RemovalState.REMOVED)
