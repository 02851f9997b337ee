"""A farm to measure: `kiln serve` as a user starts it, in a folder of its own, on a free port."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.cli.client import Client, ServerUnreachable

ROOT = Path(__file__).resolve().parent.parent
KILN = [str(Path(sys.executable).with_name("kiln"))]
USER, PASSWORD = "bench", secrets.token_urlsafe(16)
_START_S, _STOP_S = 60.0, 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFarm:
    """A running farm."""

    data: Path
    url: str
    client: Client
    pid: int  #: of `kiln serve`


@contextmanager
def running_farm(settings: Mapping[str, str]) -> Iterator[MeasuredFarm]:
    """A farm that runs while the block does. `settings`: environment names such as KILN_LOCAL__SLOTS."""
    folder = Path(tempfile.mkdtemp(prefix="kiln-bench-"))
    env = {**os.environ, **settings}
    port = free_port()
    log = (folder / "serve.log").open("wb")
    data = folder / "data"
    _kiln(env, "user", "add", USER, "--role", "admin", "--data", str(data), text=PASSWORD)
    token = _kiln(env, "token", "create", USER, "--data", str(data)).strip()
    serve = [*KILN, "serve", "--config", str(ROOT / "config.toml"), "--data", str(data), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(serve, cwd=ROOT, env=env, stdout=log, stderr=log)
    client = Client(f"http://127.0.0.1:{port}", token)
    try:
        _wait_until_up(client, process, folder / "serve.log")
        yield MeasuredFarm(data=data, url=client.server, client=client, pid=process.pid)
    finally:
        client.close()
        process.send_signal(signal.SIGTERM)
        process.wait(_STOP_S)
        log.close()
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _kiln(env: Mapping[str, str], *arguments: str, text: str = "") -> str:
    done = subprocess.run([*KILN, *arguments], cwd=ROOT, env=env, input=text, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"kiln {' '.join(arguments)} failed: {done.stderr}")
    return done.stdout


def _wait_until_up(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.health().get("status") == "ok":
                return
        except ServerUnreachable:
            pass
        time.sleep(0.1)
    raise SystemExit(f"the farm did not come up:\n{log.read_text()[-2000:]}")
