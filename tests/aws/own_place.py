"""The farm's own instance on the tests' AWS, and the processes that fill volumes on it, played."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodeimage.launch import LaunchData, StagingState
from supervisor.cloud.aws.inventory import FarmVolume
from supervisor.cloud.aws.own_machine import NotHere, OwnInstance
from supervisor.cloud.aws.staging_terms import Filling

from .happenings import IMAGE
from .moto_server import Moto
from .staging_player import StagingPlayer

ZONE = "us-east-1b"


def run_own_instance(moto: Moto) -> OwnInstance:
    """Let there be an instance that the farm runs on: a person launched it, so it bears no tag of the farm's."""
    asked = {"ImageId": IMAGE, "InstanceType": "t3.small", "Placement": {"AvailabilityZone": ZONE}, "MinCount": 1, "MaxCount": 1}
    one = moto.client("ec2").run_instances(**asked)["Instances"][0]
    moto.tell("settle")
    moto.tell("forget_calls")
    return OwnInstance(id=one["InstanceId"], zone=ZONE)


@dataclass
class FakeMachine:
    """The machine that the farm runs on, as a test says."""

    here: OwnInstance | None
    why: str = "the farm does not run on an EC2 instance"

    def instance(self) -> OwnInstance:
        if self.here is None:
            raise NotHere(self.why)
        return self.here


@dataclass
class PlayedFillings:
    """Fills nothing, and says what a real process says. It is one process of the farm: another one has others."""

    player: StagingPlayer
    running: dict[str, FarmVolume] = field(default_factory=dict)
    ended: dict[str, Filling] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)  #: volumes that something still uses
    told: list[LaunchData] = field(default_factory=list)

    # What a test makes happen

    def work(self) -> None:
        """Let every process do all that it has to do."""
        for volume in list(self.running.values()):
            self.player.verify_as(volume.id, volume.job)
            self.finish(volume.id, Filling(status=0))

    def report(self, *, done: int) -> None:
        """Let the one process say how far it is."""
        [volume] = self.running.values()
        self.player.report_as(volume.id, volume.job, StagingState.RUNNING, done=done)

    def finish(self, volume: str, how: Filling) -> None:
        """Let a process end."""
        del self.running[volume]
        self.ended[volume] = how

    # `Processes`

    def start(self, volume: FarmVolume, told: LaunchData) -> None:
        self.told.append(told)
        self.running[volume.id] = volume

    def look(self, volume: str) -> Filling | None:
        return Filling() if volume in self.running else self.ended.get(volume)

    def note_failure(self, volume: str, why: str) -> None:
        self.ended[volume] = Filling(status=1, last_words=why)

    def end(self, volume: str) -> None:
        self.running.pop(volume, None)
        self.ended.pop(volume, None)

    def is_in_use(self, volume: FarmVolume) -> bool:
        return volume.id in self.running or volume.id in self.busy
