"""Packing: a zip of 2 GB of frames, until it is ready and until it lies on the user's disk, beside what one would do by hand."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.api import models
from app.bootstrap import build_farm
from nodeimage.protocol import Output, output_key
from supervisor.config import Config
from supervisor.domain.download import DownloadStatus
from supervisor.farm import Farm
from supervisor.store import frames as frame_store

from .farm import MeasuredFarm, free_port, running_farm
from .report import Row

FRAMES, FRAME_BYTES = 250, 8_000_000
RUNS = 3
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SERVER_STARTS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Seconds of one run; the growth of the serving process in bytes."""

    packed_s: float  #: POST until the download is ready
    fetched_s: float  #: POST until `curl` has written the whole zip, and it is on the disk
    grown_bytes: int
    copied_s: float  #: `cp -r`
    copied_durably_s: float  #: `cp -r`, and it is on the disk
    by_hand_s: float  #: `zip -0 -r` and `curl` of that from a file server, and it is on the disk


def measure_packing() -> list[Row]:
    """Measure times and memory. Returns: a row for each"""
    runs: list[_Run] = []
    with running_farm({}) as measured, _file_server(measured.data) as files_url:
        farm = build_farm(Config(), measured.data)
        source = measured.data / "bench-frames"
        for number in range(1, RUNS + 1):
            job = _received_job(farm, measured, source)
            run = _run(measured, job, source, files_url)
            measured.client.delete_job(job)
            runs.append(run)
            by_hand = f"cp {run.copied_s:.1f} s, cp and sync {run.copied_durably_s:.1f} s, zip and curl {run.by_hand_s:.1f} s"
            own = f"ready {run.packed_s:.2f} s, fetched {run.fetched_s:.1f} s, memory +{run.grown_bytes / 1e6:.0f} MB"
            print(f"packing {number}/{RUNS}: {own}; {by_hand}", flush=True)
        farm.db.close()
    packed, fetched = [run.packed_s for run in runs], [run.fetched_s for run in runs]
    return [
        _row("packing a zip of 2 GB of frames: asked for until ready", "`cp -r`", packed, [run.copied_s for run in runs], goal=0.5),
        _row(
            "the whole zip on the user's disk: asked for until `curl` has it",
            "`zip -0 -r`, then `curl` from a file server,",
            fetched,
            [run.by_hand_s for run in runs],
            goal=1.0,
        ),
        _row("the same, beside a mere copy", "`cp -r` and `sync`", fetched, [run.copied_durably_s for run in runs], goal=0.5),
        _memory_row([run.grown_bytes for run in runs]),
    ]


def _run(measured: MeasuredFarm, job: str, source: Path, files_url: str) -> _Run:
    copied_s = _copy_s(source, measured.data / "bench-copy", is_durable=False)
    copied_durably_s = _copy_s(source, measured.data / "bench-copy", is_durable=True)
    by_hand_s = _by_hand_s(source, measured.data, files_url)
    packed_s, fetched_s, grown = _fetch(measured, job, measured.data / "bench-fetched.zip")
    return _Run(
        packed_s=packed_s,
        fetched_s=fetched_s,
        grown_bytes=grown,
        copied_s=copied_s,
        copied_durably_s=copied_durably_s,
        by_hand_s=by_hand_s,
    )


def _received_job(farm: Farm, measured: MeasuredFarm, folder: Path) -> str:
    """A job with frames as nodes would have delivered them, and the same files in a folder."""
    job = measured.client.create_job("packing").id
    folder.mkdir(exist_ok=True)
    with farm.db.write() as connection:
        frame_store.add_frames(connection, job, range(1, FRAMES + 1))
    for number in range(1, FRAMES + 1):
        body = os.urandom(FRAME_BYTES)
        name = f"frame{number:04d}.exr"
        (folder / name).write_bytes(body)
        farm.cloud.objects.put(output_key(job, number, name), body)
        delivery = frame_store.Delivery(
            node="bench",
            attempt=1,
            render_s=1.0,
            peak_memory_bytes=0,
            outputs=(Output(name=name, bytes=len(body), crc32=zlib.crc32(body)),),
            has_preview=False,
        )
        with farm.db.write() as connection:
            frame_store.receive(connection, job, number, delivery, at=datetime.now(UTC))
    return job


def _copy_s(source: Path, target: Path, *, is_durable: bool) -> float:
    os.sync()  # what was written before is not the copy's to wait for
    began = time.monotonic()
    subprocess.run(["cp", "-r", source, target], check=True)
    if is_durable:
        subprocess.run(["sync", *target.iterdir()], check=True)
    took_s = time.monotonic() - began
    shutil.rmtree(target)
    return took_s


def _by_hand_s(source: Path, folder: Path, files_url: str) -> float:
    """Zip the frames, and fetch the zip. Returns: seconds"""
    made, fetched = folder / "bench-by-hand.zip", folder / "bench-by-hand-fetched.zip"
    os.sync()
    began = time.monotonic()
    subprocess.run(["zip", "-0", "-q", "-r", made, source.name], cwd=source.parent, check=True)
    _curl(f"{files_url}/{made.name}", fetched)
    took_s = time.monotonic() - began
    made.unlink()
    fetched.unlink()
    return took_s


def _curl(url: str, target: Path) -> None:
    """Fetch a file and have it on the disk."""
    subprocess.run(["curl", "--fail", "--silent", "--show-error", "--output", target, url], check=True)
    subprocess.run(["sync", target], check=True)


@contextmanager
def _file_server(folder: Path) -> Iterator[str]:
    """A server of plain files, Python's own. Gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _SERVER_STARTS_S
        while subprocess.run(["curl", "--silent", "--head", "--output", "/dev/null", f"http://127.0.0.1:{port}/"]).returncode:
            if time.monotonic() > deadline:
                raise SystemExit("the file server did not come up")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _fetch(measured: MeasuredFarm, job: str, target: Path) -> tuple[float, float, int]:
    """Have a job packed, and fetch the zip. Returns: seconds until it is ready, until it is here, and bytes that the server grew by"""
    os.sync()
    with _watched_memory(_worker(measured.pid)) as grown:
        began = time.monotonic()
        download = measured.client.begin_download(job)
        while download.status is DownloadStatus.PACKING:
            time.sleep(0.01)
            download = measured.client.download(download.id)
        packed_s = time.monotonic() - began
        if download.url is None:
            raise SystemExit(f"packing ended {download.status}: {download.reason}")
        _curl(download.url, target)
        fetched_s = time.monotonic() - began
    _check(target, download)
    target.unlink()
    return packed_s, fetched_s, grown[0]


def _check(target: Path, download: models.Download) -> None:
    with zipfile.ZipFile(target) as archive:
        if target.stat().st_size != download.total_bytes or len(archive.namelist()) != FRAMES or archive.testzip():
            raise SystemExit("the zip that was fetched is not whole")


@contextmanager
def _watched_memory(pid: int) -> Iterator[list[int]]:
    """Watch a process while the block runs. Gives a list of one: by how many bytes it grew at most"""
    before = _resident_bytes(pid)
    grown = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            grown[0] = max(grown[0], _resident_bytes(pid) - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        done.set()
        watcher.join()


def _worker(master: int) -> int:
    """The process that serves and packs: the only child of `kiln serve` that runs it too."""
    for child in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        if b"serve" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise SystemExit("kiln serve has no worker")


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def _row(what: str, instead: str, kiln_s: list[float], other_s: list[float], *, goal: float) -> Row:
    size = FRAMES * FRAME_BYTES / 1e6
    ratios = [other / own for own, other in zip(kiln_s, other_s, strict=True)]
    own_s, by_hand_s = statistics.median(kiln_s), statistics.median(other_s)
    return Row(
        what=what,
        kiln=f"{own_s:.2f} s ({size / own_s:.0f} MB/s)",
        instead=f"{instead} of the same files: {by_hand_s:.2f} s ({size / by_hand_s:.0f} MB/s)",
        figure=f"ratio {statistics.median(ratios):.2f}",
        goal=f"≥ {goal:g}",
        is_reached=statistics.median(ratios) >= goal,
        runs=", ".join(f"{each:.2f}" for each in ratios),
    )


def _memory_row(grown: list[int]) -> Row:
    return Row(
        what="the same: memory that the serving process takes for it",
        kiln=f"+{max(grown) / 1e6:.0f} MB",
        instead="—",
        figure=f"+{max(grown) / 1e6:.0f} MB at its peak",
        goal="≤ 100 MB",
        is_reached=max(grown) <= 100e6,
        runs=", ".join(f"{each / 1e6:.0f}" for each in grown),
    )
