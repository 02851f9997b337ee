"""Render the shipped sample through a farm of its own on this machine, and leave the frames as a zip: `make demo`."""

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
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TypeVar

from app.api import models
from app.cli.client import ApiError, Client, ServerUnreachable
from app.cli.patience import patiently
from app.cli.watch import duration_text
from app.demo_frames import BadFrames, check_frames
from supervisor.domain.download import DownloadStatus
from supervisor.domain.frame import FrameStatus
from supervisor.domain.job import ENDED, JobStatus

CHECKOUT = Path(__file__).resolve().parent.parent
SAMPLE = CHECKOUT / "samples" / "kiln.blend"
OUTPUT = CHECKOUT / "demo-output"
KILN = Path(sys.executable).with_name("kiln")

INSTANCES = 2
USER = "demo"
PASSWORD = secrets.token_hex(6)
START_S, RENDER_S, PACK_S, STOP_S = 60.0, 1800.0, 120.0, 15.0
LOG_LINES = 30
_T = TypeVar("_T")

_LOOK_EVERY_S = 0.5


class DemoFailed(Exception):
    """The demo did not do what it shows; the message says what went wrong."""


def main() -> int:
    """Run the demo; say on standard output how it goes. Returns: the exit status"""
    signal.signal(signal.SIGTERM, _stop_on_signal)
    began = time.monotonic()
    folder = _new_folder()
    try:
        zip_path, frames = _run(folder)
    except (DemoFailed, BadFrames, ApiError, ServerUnreachable, OSError) as error:
        _explain(error, folder)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    shutil.rmtree(folder, ignore_errors=True)
    _tell_where(zip_path, frames, time.monotonic() - began)
    return 0


def _stop_on_signal(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _new_folder() -> Path:
    """A fresh data folder in the checkout: on the disk that a real farm here would use, and never a farm that is in use."""
    parent = CHECKOUT / ".kiln"
    parent.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="demo-", dir=parent))


def _run(folder: Path) -> tuple[Path, list[int]]:
    """Returns: the checked zip, and the numbers of the frames in it"""
    print("Starting a farm on this machine.")
    data = folder / "data"
    with _farm(data, folder / "farm.log") as address:
        token = _new_token(data)
        client = Client(address, token)
        try:
            job = _submit(address, token)
            _follow(client, job)
            numbers = sorted(frame.number for frame in client.frames(job) if frame.status is FrameStatus.RECEIVED)
            zip_path = _fetch(client, job)
        finally:
            client.close()
        check_frames(zip_path, numbers)
        _unpack(zip_path)
    return zip_path, numbers


# The farm.


@contextmanager
def _farm(data: Path, log: Path) -> Iterator[str]:
    """Keep a farm running; yield its address. Errors: DemoFailed - it ended, or does not answer"""
    address = f"http://127.0.0.1:{_free_port()}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                KILN,
                "serve",
                "--config",
                CHECKOUT / "config.toml",
                "--data",
                data,
                "--host",
                "127.0.0.1",
                "--port",
                address.rpartition(":")[2],
            ],
            cwd=CHECKOUT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us: we stop it in order
        )
    try:
        _wait_until_healthy(process, address)
        yield address
        if process.poll() is not None:
            raise DemoFailed(f"the farm ended by itself, with status {process.returncode}")
    finally:
        _stop(process)


def _environment() -> dict[str, str]:
    """This process's own, but local: a demo never rents anything."""
    return {**os.environ, "KILN_CLOUD__PROVIDER": "local", "KILN_STORE__ENDPOINT": "", "KILN_LOCAL__SLOTS": str(INSTANCES)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str) -> None:
    client = Client(address, "")

    def is_healthy() -> bool | None:
        if process.poll() is not None:
            raise DemoFailed(f"the farm could not start; it ended with status {process.returncode}")
        try:
            return client.health().get("status") == "ok" or None
        except ServerUnreachable:
            return None

    try:
        _wait_for(is_healthy, limit_s=START_S, what="the farm to answer")
    finally:
        client.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        print(f"The farm did not stop within {STOP_S:.0f} s and was killed.", file=sys.stderr)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _new_token(data: Path) -> str:
    _kiln("user", "add", USER, "--role", "admin", "--data", data, stdin=PASSWORD + "\n")
    return _kiln("token", "create", USER, "--data", data).strip()


def _kiln(*arguments: str | Path, stdin: str = "", env: Mapping[str, str] = MappingProxyType({})) -> str:
    """Run a command of ours. Returns: what it prints. Errors: DemoFailed, with what it says"""
    done = subprocess.run(
        [KILN, *arguments], cwd=CHECKOUT, env={**_environment(), **env}, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoFailed(f"`kiln {' '.join(map(str, arguments[:2]))}` failed: {done.stderr.strip()}")
    return done.stdout


# The job.


def _submit(address: str, token: str) -> str:
    """Upload the sample and ask for all its frames. Returns: the job's id"""
    said = _kiln(
        *("submit", SAMPLE, "--name", "Demo", "--instances", str(INSTANCES), "--json"),
        env={"KILN_SERVER": address, "KILN_TOKEN": token},
    )
    job = models.Job.model_validate_json(said)
    size = f"{job.scene.width_px} × {job.scene.height_px}, {job.scene.engine.capitalize()}" if job.scene else "no scene"
    print(f"Submitted {SAMPLE.name} ({size}): frames {job.frames_spec} on {INSTANCES} instances.")
    print(f"Its page meanwhile: {job.url} (sign in as {USER}, password {PASSWORD})", flush=True)
    return job.id


def _follow(client: Client, job: str) -> None:
    """Show how the job goes until it is completed. Errors: DemoFailed - it ended otherwise"""
    view = _View()

    def ended() -> models.Job | None:
        seen = patiently(lambda: client.job(job))
        view.show(seen)
        return seen if seen.status in ENDED else None

    seen = _wait_for(ended, limit_s=RENDER_S, what="the job to end")
    view.close()
    if seen.status is not JobStatus.COMPLETED:
        problems = "".join(f"\n  {problem.text} {problem.remedy}" for problem in seen.problems)
        raise DemoFailed(f"the job is {seen.status.value}: {seen.reason}{problems}")


class _View:
    """A job's progress: one line drawn over and over on a terminal, a line for each change elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._said: tuple[object, ...] = ()
        self._began = time.monotonic()

    def show(self, job: models.Job) -> None:
        line = f"{time.monotonic() - self._began:5.1f} s  {job.status.value}: {_progress_text(job)}"
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)
            return
        news = (job.status, job.frames.received, job.frames.failed)
        if news != self._said:
            self._said = news
            print(line, flush=True)

    def close(self) -> None:
        if self._is_terminal:
            print()


def _progress_text(job: models.Job) -> str:
    counts = job.frames
    if job.status not in {JobStatus.LAUNCHING, JobStatus.RENDERING}:
        return f"{counts.received} of {counts.total} frames; {job.reason}" if counts.received else job.reason
    parts = [f"{counts.received} of {counts.total} frames"]
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    if job.eta_s is not None:
        parts.append(f"{duration_text(job.eta_s)} left")
    running = [instance for instance in job.instances if instance.ended_at is None]
    parts += [f"node {number} {instance.doing}" for number, instance in enumerate(running, 1) if instance.doing]
    return ", ".join(parts)


def _fetch(client: Client, job: str) -> Path:
    """Have the frames packed, and bring the zip here."""
    download = client.begin_download(job).id

    def ready() -> models.Download | None:
        seen = patiently(lambda: client.download(download))
        if seen.status is DownloadStatus.FAILED:
            raise DemoFailed(f"the frames could not be packed: {seen.reason}")
        return seen if seen.status is DownloadStatus.READY else None

    packed = _wait_for(ready, limit_s=PACK_S, what="the zip")
    OUTPUT.mkdir(exist_ok=True)
    target = OUTPUT / f"{SAMPLE.stem}.zip"
    target.unlink(missing_ok=True)
    client.fetch_zip(packed, target)
    return target


# What came of it.


def _unpack(zip_path: Path) -> None:
    """Lay the frames beside the zip, to be looked at; older ones are removed."""
    folder = OUTPUT / "frames"
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(zip_path) as archive:
        archive.extractall(folder)


def _tell_where(zip_path: Path, numbers: list[int], took_s: float) -> None:
    print(f"\n{len(numbers)} frames rendered, packed and checked in {duration_text(took_s)}.")
    print(f"  the zip:     {zip_path}")
    print(f"  the frames:  {OUTPUT / 'frames'} (open one, or step through them in an image viewer)")
    print("Now with a scene of your own: `make serve`, then http://127.0.0.1:8000 in a browser.")


def _explain(error: Exception, folder: Path) -> None:
    log = folder / "farm.log"
    print(f"\nThe demo failed: {error}", file=sys.stderr)
    if log.exists():
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        print(f"The last lines of {log}:", *lines, sep="\n  ", file=sys.stderr)


def _wait_for(look: Callable[[], _T | None], *, limit_s: float, what: str) -> _T:
    """Look again and again until there is something. Errors: DemoFailed - not within `limit_s`"""
    deadline = time.monotonic() + limit_s
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise DemoFailed(f"waited {limit_s:.0f} s for {what}, in vain")
        time.sleep(_LOOK_EVERY_S)
    return found


if __name__ == "__main__":
    sys.exit(main())
