"""The image as a machine: started by its own systemd in a container, or one command run in it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ami.check.commands import Failed, run, running, wait_until

#: Where the machine finds what is shared with it.
SHARED = Path("/srv/kiln-check")
UNIT = "kiln-image-check.service"
#: A program started by systemd, whose end ends the machine: as user data is run on a builder.
UNIT_TEXT = """[Unit]
Description=image-check
After=multi-user.target

[Service]
Type=oneshot
TimeoutStartSec=infinity
EnvironmentFile=-{shared}/environment
ExecStart=/bin/bash {shared}/start
StandardOutput=append:{shared}/log
StandardError=append:{shared}/log
ExecStopPost=/bin/sh -c 'echo "$$EXIT_STATUS" >{shared}/status; systemctl --no-block poweroff'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A root folder, run as a machine. What is in `shared` lies in /srv/kiln-check there."""

    root: Path
    shared: Path
    network: str = ""  #: of `network.py`; empty: this machine's own, which the rules of its firewall can't touch then
    binds: Sequence[str] = ()  #: more of this machine's files, `source:target`

    def _nspawn(self) -> list[str]:
        words = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--machine=kiln-check", f"--directory={self.root}"]
        words += [f"--bind={self.shared}:{SHARED}", *(f"--bind={each}" for each in self.binds)]
        words += ["--link-journal=no", "--resolv-conf=copy-host", "--timezone=off"]
        if self.network:
            words += [f"--network-namespace-path=/run/netns/{self.network}", "--capability=CAP_NET_ADMIN"]
        return words

    def call(self, *command: str, status: int | None = 0, limit_s: float = 900.0) -> str:
        """Run one command in it, without starting it. Returns: what it printed. Errors: Failed"""
        printed = run(*self._nspawn(), "--as-pid2", "--pipe", "--", *command, status=status, limit_s=limit_s)
        # systemd-nspawn's own word on a folder that it can't clear away in a namespace
        return "".join(line for line in printed.splitlines(keepends=True) if "/run/systemd/nspawn/propagate" not in line)

    def start(self, *masked: str, limit_s: float) -> str:
        """Start it and wait until it has switched itself off. Returns: its console. Errors: Failed - it did not within `limit_s`

        Shape:   `masked`: units that are not to start
        """
        console = self.shared / "console"
        with ExitStack() as ending:
            words = [*self._nspawn(), "--boot", "--console=pipe", *(f"systemd.mask={unit}" for unit in masked)]
            group = ending.enter_context(running(*words, log=console))
            try:
                wait_until(lambda: group.status() is not None, "the machine has switched itself off", limit_s=limit_s)
            except Failed as error:
                raise Failed(f"{error}; its console ends:\n{_tail(console)}") from error
        return console.read_text(errors="replace")

    def start_with(self, script: str, environment: dict[str, str], *masked: str, limit_s: float) -> tuple[int, str]:
        """Start it, have systemd run a script, and wait for the machine's end. Returns: the script's exit status, and what it printed"""
        (self.shared / "start").write_text(script)
        (self.shared / "environment").write_text("".join(f'{name}="{value}"\n' for name, value in environment.items()))
        for name in ("status", "log"):
            (self.shared / name).unlink(missing_ok=True)
        unit = self.root / "etc/systemd/system" / UNIT
        wish = unit.parent / "multi-user.target.wants" / UNIT
        unit.write_text(UNIT_TEXT.format(shared=SHARED))
        wish.parent.mkdir(exist_ok=True)
        wish.symlink_to(f"/{unit.relative_to(self.root)}")
        try:
            self.start(*masked, limit_s=limit_s)
        finally:
            wish.unlink(missing_ok=True)
            unit.unlink(missing_ok=True)
        try:
            return int((self.shared / "status").read_text()), (self.shared / "log").read_text(errors="replace")
        except (OSError, ValueError) as error:
            raise Failed(f"the script in the machine came to no end; its console ends:\n{_tail(self.shared / 'console')}") from error


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-3000:]
