"""The instance as a machine: where things are on it, and the few commands that need its root."""

from __future__ import annotations

import logging
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

#: A command that has not ended by then hangs.
_COMMAND_S = 300.0
#: The image runs Blender as a user of its own.
_AS_BLENDER = "/usr/lib/kiln/as-blender"


class CommandFailed(Exception):
    """A command of the machine's did not do it; the message has its last words."""


class NoBlender(Exception):
    """The image does not have the Blender that the job needs; the message says which it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Places and commands. The environment names others than the image's in tests."""

    launch: Path = Path("/run/kiln/launch.json")  #: what the instance was launched with; `instance-id` lies beside it
    home: Path = Path("/var/lib/kiln/node")  #: the agent's own folder, kept over restarts and stops
    workspace: Path = Path("/var/lib/kiln/workspace")
    blenders: Path = Path("/opt/blender")  #: folder with a Blender for each series
    blender: str = ""  #: command line of the one Blender, instead
    blender_kind: str = "blender"  #: as in NodeConfig
    poweroff: str = "systemctl poweroff"
    unmount: str = "umount"  #: the workspace's folder is added to it
    mounted: str = "mountpoint -q"  #: ends with 0 if the folder added to it is a mount

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Machine:
        """Read `KILN_LAUNCH`, `KILN_HOME`, … Unset: as on the image."""
        given = {name: env[f"KILN_{name.upper()}"] for name in cls.__dataclass_fields__ if env.get(f"KILN_{name.upper()}")}
        paths = {"launch", "home", "workspace", "blenders"}
        return cls(**{name: Path(text) if name in paths else text for name, text in given.items()})  # type: ignore[arg-type]

    def blender_command(self, series: str) -> str:
        """The command line of a series of Blender; empty: the newest there is. Errors: NoBlender"""
        if self.blender:
            return self.blender
        there = self.series()
        chosen = series or (there[-1] if there else "")
        if chosen not in there:
            has = f"has {', '.join(there)}" if there else "has none"
            raise NoBlender(f"The instance's image has no Blender {chosen or 'at all'}; it {has}. Build one that has it: kiln ami build.")
        return shlex.join([_AS_BLENDER, str(self.blenders / chosen / "blender")])

    def series(self) -> list[str]:
        """The series of Blender that the image has, newest last."""
        if not self.blenders.is_dir():
            return []
        names = [path.name for path in self.blenders.iterdir() if (path / "blender").exists()]
        return sorted((name for name in names if name.count(".") == 1 and name.replace(".", "").isdigit()), key=_number)

    def is_workspace_mounted(self) -> bool:
        return _status([*shlex.split(self.mounted), str(self.workspace)]) == 0

    def unmount_workspace(self) -> None:
        """Take the volume from its folder; everything written is on it then. Errors: CommandFailed"""
        run_command([*shlex.split(self.unmount), str(self.workspace)])

    def power_off(self) -> None:
        """Give the instance back: it was launched so that its own shutdown terminates it. Errors: CommandFailed"""
        run_command(shlex.split(self.poweroff))


def _number(series: str) -> tuple[int, ...]:
    return tuple(int(part) for part in series.split("."))


def _status(words: list[str]) -> int:
    try:
        return subprocess.run(words, capture_output=True, check=False, timeout=_COMMAND_S).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("command does not run", extra={"command": words[0], "why": str(error)})
        return -1


def run_command(words: list[str]) -> None:
    """Errors: CommandFailed - with its last words"""
    try:
        ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_COMMAND_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f"{shlex.join(words)}: {error}") from error
    if ran.returncode:
        raise CommandFailed(f"{shlex.join(words)} ended with {ran.returncode}: {(ran.stderr or ran.stdout).strip()[-300:]}")
