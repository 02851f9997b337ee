"""A farm that is served by a process of its own, as a studio's is; it can be ended and started again on the same data."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from supervisor.cloud.local import processes
from tests.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
KILN = [sys.executable, "-c", "from app.cli import main; main()"]
#: Small parts, so that small files have several.
SETTINGS = {"KILN_UPLOADS__PART_MIB": "5", "KILN_STORE__MIN_FREE_GIB": "0.1"}
NAME, PASSWORD = "ada", "a long enough one"


@dataclass
class LiveFarm:
    """The server's process and address."""

    data: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)  #: beside this process's own
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self.data.with_suffix(".log").read_text()

    def start(self) -> None:
        with self.data.with_suffix(".log").open("ab") as output:
            self.process = subprocess.Popen(
                [*KILN, "serve", "--host", "127.0.0.1", "--port", str(self.port), "--data", str(self.data)],
                cwd=CHECKOUT,
                env={**os.environ, **SETTINGS, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._is_ready, timeout_s=60)

    def end(self) -> None:
        assert self.process is not None, "start() comes before"
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)

    def restart(self) -> None:
        self.end()
        self.start()

    def add_user(self, *, role: str = "artist") -> None:
        words = [*KILN, "user", "add", NAME, "--role", role, "--data", str(self.data)]
        subprocess.run(words, cwd=CHECKOUT, input=PASSWORD, text=True, check=True, capture_output=True)

    def _is_ready(self) -> bool:
        assert self.process is not None, "start() began it"
        assert self.process.poll() is None, self.output
        try:
            return urllib3.request("GET", f"{self.url}/healthz", retries=False, timeout=2).status == 200
        except urllib3.exceptions.HTTPError:
            return False


@contextmanager
def a_live_farm(folder: Path, *, environment: dict[str, str] | None = None) -> Iterator[LiveFarm]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        farm = LiveFarm(data=folder / "data", port=probe.getsockname()[1], environment=environment or {})
    try:
        farm.start()
        yield farm
    finally:
        if farm.process is not None and farm.process.poll() is None:
            farm.end()
        processes.end_all(processes.with_environment(f"HOME={farm.data}/"), grace_s=0)
