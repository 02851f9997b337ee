"""The instance as a machine, how long it lives, and how it gives itself back."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeimage.agent.ending import Ending, EndKind
from nodeimage.agent.loop import TAKEN_LATE_S
from nodeimage.instance.deadman import DRAINED_S, Switch
from nodeimage.instance.instance import Pulse
from nodeimage.instance.life import Life, note_start
from nodeimage.instance.machine import CommandFailed, Machine, NoBlender
from nodeimage.systemd import Systemd


def python(code: str) -> str:
    """A command line that runs this."""
    return shlex.join([sys.executable, "-c", code])


def image(folder: Path, *series: str) -> Machine:
    for name in series:
        (folder / name).mkdir()
        (folder / name / "blender").touch()
    return Machine(blenders=folder)


def test_places_are_the_images_unless_the_environment_says_otherwise() -> None:
    assert Machine.from_env({}) == Machine()
    told = Machine.from_env({"KILN_LAUNCH": "/a/launch.json", "KILN_POWEROFF": "true", "KILN_BLENDER": "b -x"})
    assert (told.launch, told.poweroff, told.blender, told.home) == (Path("/a/launch.json"), "true", "b -x", Machine().home)


def test_blender_of_the_series_runs_as_its_own_user(tmp_path: Path) -> None:
    command = image(tmp_path, "4.2", "4.5").blender_command("4.2")
    assert shlex.split(command) == ["/usr/lib/kiln/as-blender", str(tmp_path / "4.2" / "blender")]


def test_without_a_series_the_newest_blender_is_taken(tmp_path: Path) -> None:
    machine = image(tmp_path, "4.5", "4.10", "4.2", "4.10.3", "extras")
    assert machine.series() == ["4.2", "4.5", "4.10"]
    assert "/4.10/" in machine.blender_command("")


def test_blender_that_the_image_lacks_is_told_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(NoBlender, match=r"no Blender 5.0; it has 4.5.*kiln ami build"):
        image(tmp_path, "4.5").blender_command("5.0")
    with pytest.raises(NoBlender, match="has none"):
        Machine(blenders=tmp_path / "nowhere").blender_command("")


def test_command_that_fails_says_so_with_its_last_words(tmp_path: Path) -> None:
    failing = python("import sys; sys.exit('target is busy')")
    with pytest.raises(CommandFailed, match="target is busy"):
        Machine(unmount=failing, workspace=tmp_path).unmount_workspace()
    with pytest.raises(CommandFailed, match="nowhere"):
        Machine(poweroff="/nowhere/poweroff").power_off()


def test_workspace_is_mounted_if_the_command_says_so(tmp_path: Path) -> None:
    check = python(f"import sys; sys.exit(sys.argv[1] != {str(tmp_path)!r})")
    assert Machine(mounted=check, workspace=tmp_path).is_workspace_mounted()
    assert not Machine(mounted=check, workspace=tmp_path / "other").is_workspace_mounted()
    assert not Machine(mounted="/nowhere/mountpoint", workspace=tmp_path).is_workspace_mounted()


# How long it lives


def test_life_goes_on_over_restarts_of_the_program(tmp_path: Path) -> None:
    note_start(tmp_path, boot="b1", now_ms=1_000)
    life = note_start(tmp_path, boot="b1", now_ms=61_000)
    assert life == Life(boot="b1", began_at_ms=1_000, starts=2)
    assert life.left_s(100.0, now_ms=61_000) == 40.0


def test_instance_that_was_stopped_and_started_begins_a_new_life(tmp_path: Path) -> None:
    note_start(tmp_path, boot="b1", now_ms=1_000)
    assert note_start(tmp_path, boot="b2", now_ms=9_000) == Life(boot="b2", began_at_ms=9_000, starts=1)


@pytest.mark.parametrize("left", ["", "{", "[]", '{"boot": "b1"}', '{"boot": "b1", "began_at_ms": 1, "new": 2}'])
def test_note_of_a_life_that_can_not_be_read_begins_a_new_one(tmp_path: Path, left: str) -> None:
    (tmp_path / "life.json").write_text(left)
    assert note_start(tmp_path, boot="b1", now_ms=7).starts == 1


# Giving itself back


class Clock:
    """Time that passes in pauses only."""

    def __init__(self) -> None:
        self.ms = 1_000_000
        self.pauses = 0

    def pause(self, seconds: float) -> None:
        self.pauses += 1
        self.ms += max(1, int(seconds * 1000))


@pytest.fixture
def off(tmp_path: Path) -> Path:
    """A file that is there once the machine is powered off."""
    return tmp_path / "off"


Make = Callable[..., tuple[Switch, Clock]]


@pytest.fixture
def make(off: Path) -> Make:
    def make(*, life_cycle: str = "on-demand", interruption_in_s: float = 0.0, poweroff: str = "") -> tuple[Switch, Clock]:
        clock = Clock()
        at_ms = clock.ms + int(interruption_in_s * 1000) if interruption_in_s else 0
        machine = Machine(poweroff=poweroff or python(f"open({str(off)!r}, 'w').close()"))
        switch = Switch(
            machine,
            life_cycle=life_cycle,
            interruption_at_ms=lambda: at_ms,
            pulse=lambda: None,
            pause=clock.pause,
            now_ms=lambda: clock.ms,
        )
        return switch, clock

    return make


def ending(kind: EndKind) -> Ending:
    return Ending(kind=kind, reason="for a reason")


def waited_s(clock: Clock) -> float:
    return (clock.ms - 1_000_000) / 1000


@pytest.mark.parametrize("kind", [EndKind.NO_WORK, EndKind.STOPPED, EndKind.UNREACHABLE, EndKind.OLD, EndKind.UNFIT])
def test_instance_whose_work_has_ended_powers_itself_off(make: Make, off: Path, kind: EndKind) -> None:
    switch, clock = make()
    assert switch.end(ending(kind)) == 0
    assert off.exists()
    assert waited_s(clock) == 0


def test_program_that_is_told_to_stop_leaves_the_machine_on(make: Make, off: Path) -> None:
    switch, _ = make()
    assert switch.end(ending(EndKind.TOLD)) == 0
    assert not off.exists()


def test_drained_on_demand_instance_gives_the_farm_time_to_stop_it(make: Make, off: Path) -> None:
    switch, clock = make()
    assert switch.end(ending(EndKind.DRAINED)) == 0
    assert waited_s(clock) == DRAINED_S
    assert off.exists()


def test_drained_spot_instance_powers_off_at_once(make: Make, off: Path) -> None:
    switch, clock = make(life_cycle="spot")
    switch.end(ending(EndKind.DRAINED))
    assert waited_s(clock) == 0
    assert off.exists()


@pytest.mark.parametrize("kind", [EndKind.INTERRUPTED, EndKind.STOPPED, EndKind.NO_WORK])
def test_interrupted_instance_leaves_its_end_to_the_cloud_until_long_after_the_deadline(make: Make, off: Path, kind: EndKind) -> None:
    switch, clock = make(life_cycle="spot", interruption_in_s=100.0)
    switch.end(ending(kind))
    assert waited_s(clock) == 100.0 + TAKEN_LATE_S
    assert off.exists()


def test_machine_that_does_not_power_off_is_asked_again_and_then_left_to_systemd(make: Make) -> None:
    switch, clock = make(poweroff="/nowhere/poweroff")
    assert switch.end(ending(EndKind.NO_WORK)) == 1
    assert clock.pauses > 2


# systemd


def test_systemd_is_told_of_work_that_goes_on_but_not_at_every_call(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5.0)
        systemd = Systemd.from_env({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        pulse = Pulse(systemd)
        for _ in range(100):
            pulse()
        systemd.ready()
        assert [listening.recv(100), listening.recv(100)] == [b"WATCHDOG=1", b"READY=1"]
