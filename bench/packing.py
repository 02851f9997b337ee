"""Packing: a zip of 2 GB of frames, beside `cp` of the same files on the same disk, in memory only and brought to the disk."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import threading
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path

from app.bootstrap import build_farm
from nodeimage.protocol import Output, output_key
from supervisor.config import Config
from supervisor.domain.download import DownloadStatus
from supervisor.farm import Farm
from supervisor.store import frames as frame_store

from .farm import MeasuredFarm, running_farm
from .report import Row

FRAMES, FRAME_BYTES = 250, 8_000_000
RUNS = 3
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def measure_packing() -> list[Row]:
    """Measure throughput and memory. Returns: a row for each"""
    kiln_s: list[float] = []
    cp_s: list[float] = []
    durable_s: list[float] = []
    grown: list[int] = []
    with running_farm({}) as measured:
        farm = build_farm(Config(), measured.data)
        source = measured.data / "bench-frames"
        for run in range(RUNS):
            job = _received_job(farm, measured, source)
            cp_s.append(_copy_s(source, measured.data / "bench-copy", is_durable=False))
            durable_s.append(_copy_s(source, measured.data / "bench-copy", is_durable=True))
            took_s, bytes_grown = _pack(measured, job)
            kiln_s.append(took_s)
            grown.append(bytes_grown)
            copies = f"cp {cp_s[-1]:.1f} s, cp and sync {durable_s[-1]:.1f} s"
            print(f"packing {run + 1}/{RUNS}: zip {took_s:.1f} s, {copies}, memory +{bytes_grown / 1e6:.0f} MB", flush=True)
            measured.client.delete_job(job)
    return [
        _throughput_row("packing a zip of 2 GB of frames, beside a copy that stays in memory", "`cp -r`", kiln_s, cp_s),
        _throughput_row(
            "packing a zip of 2 GB of frames, beside a copy that is on the disk, as the zip is", "`cp -r` and `sync`", kiln_s, durable_s
        ),
        _memory_row(grown),
    ]


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
        subprocess.run(["sync", "-f", target], check=True)
    took_s = time.monotonic() - began
    shutil.rmtree(target)
    return took_s


def _pack(measured: MeasuredFarm, job: str) -> tuple[float, int]:
    """Pack a job. Returns: seconds until the zip is ready, and by how many bytes the serving process grew meanwhile at most"""
    os.sync()
    pid = _worker(measured.pid)
    before = _resident_bytes(pid)
    done = threading.Event()
    peak = [before]

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _resident_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        began = time.monotonic()
        download = measured.client.begin_download(job)
        while download.status is DownloadStatus.PACKING:
            time.sleep(0.05)
            download = measured.client.download(download.id)
        took_s = time.monotonic() - began
    finally:
        done.set()
        watcher.join()
    if download.status is not DownloadStatus.READY or download.total_bytes < FRAMES * FRAME_BYTES:
        raise SystemExit(f"packing ended {download.status}: {download.reason}")
    return took_s, peak[0] - before


def _worker(master: int) -> int:
    """The process that serves and packs: the only child of `kiln serve` that runs it too."""
    for child in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        if b"serve" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise SystemExit("kiln serve has no worker")


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def _throughput_row(what: str, instead: str, kiln_s: list[float], other_s: list[float]) -> Row:
    size = FRAMES * FRAME_BYTES / 1e6
    ratios = [other / own for own, other in zip(kiln_s, other_s, strict=True)]
    return Row(
        what=what,
        kiln=f"{size / statistics.median(kiln_s):.0f} MB/s",
        instead=f"{instead} of the same files: {size / statistics.median(other_s):.0f} MB/s",
        figure=f"ratio {statistics.median(ratios):.2f}",
        goal="≥ 0.5",
        is_reached=statistics.median(ratios) >= 0.5,
        runs=", ".join(f"{each:.2f}" for each in ratios),
    )


def _memory_row(grown: list[int]) -> Row:
    return Row(
        what="packing a zip of 2 GB of frames: memory the farm takes for it",
        kiln=f"+{max(grown) / 1e6:.0f} MB",
        instead="—",
        figure=f"+{max(grown) / 1e6:.0f} MB at its peak",
        goal="≤ 100 MB",
        is_reached=max(grown) <= 100e6,
        runs=", ".join(f"{each / 1e6:.0f}" for each in grown),
    )
