"""The farm's timers: a wake-up call is answered at once, none is lost, and one failure stops nothing."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nodeimage.protocol import Output, output_key
from supervisor import queries
from supervisor.commands import downloads
from supervisor.commands import jobs as commands
from supervisor.config import Config, SupervisorConfig
from supervisor.domain.download import DownloadStatus
from supervisor.domain.job import JobStatus
from supervisor.farm import utc_now
from supervisor.store import frames
from supervisor.timers import Timer, Timers
from tests.fakes.farm import FakeFarm
from tests.waiting import wait_until


@dataclass
class Running:
    bench: FakeFarm
    timers: Timers
    failures: list[threading.Event]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    bench = FakeFarm.open(tmp_path, config=Config(supervisor=SupervisorConfig(tick_s=600)))
    woken: list[Timers] = []
    bench.farm = replace(bench.farm, now=utc_now, wake=lambda: woken[0].wake())
    runs = [threading.Event(), threading.Event()]

    def fail() -> None:
        (runs[1] if runs[0].is_set() else runs[0]).set()
        raise RuntimeError("the store's process is gone")

    timers = Timers(bench.farm, upkeep=[Timer(name="watchdog", every_s=0.05, call=fail)])
    woken.append(timers)
    timers.start()
    yield Running(bench=bench, timers=timers, failures=runs)
    timers.stop()


def test_a_command_is_acted_on_at_once_though_ticks_are_rare(running: Running) -> None:
    wait_until(lambda: queries.health(running.bench.farm).is_alive)

    job = running.bench.a_submitted_job(frames="1-2")
    wait_until(lambda: running.bench.status(job) is not JobStatus.SUBMITTED)  # a tick by the clock would come after ten minutes


def test_no_wake_up_call_is_lost_that_falls_into_a_tick(running: Running) -> None:
    jobs = [running.bench.a_submitted_job(frames="1") for _ in range(10)]
    for job in jobs:
        commands.cancel_job(running.bench.farm, job)

    wait_until(lambda: all(running.bench.status(job) is JobStatus.CANCELLED for job in jobs))


def test_a_download_is_packed_at_once_though_looks_for_some_are_rare(running: Running) -> None:
    bench = running.bench
    job = bench.a_submitted_job(frames="1")
    bench.cloud.objects.place(output_key(job, 1, "1.png"), b"picture", etag="x")
    outputs = (Output(name="1.png", bytes=7, crc32=zlib.crc32(b"picture")),)
    delivery = frames.Delivery(node="n", attempt=1, render_s=1.0, peak_memory_bytes=1, outputs=outputs, has_preview=False)
    with bench.farm.db.write() as connection:
        frames.receive(connection, job, 1, delivery, at=utc_now())

    for _ in range(3):
        download = downloads.begin_download(bench.farm, job)
        # sooner than the next look, ten seconds after the one before
        wait_until(lambda id=download: downloads.download(bench.farm, id).status is DownloadStatus.READY, timeout_s=8)  # type: ignore[misc]
        with bench.farm.db.write() as connection:
            connection.exec_driver_sql("DELETE FROM downloads")


def test_a_timer_that_fails_runs_again(running: Running) -> None:
    assert all(run.wait(10) for run in running.failures)


def test_stopped_timers_leave_no_thread_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    bench = FakeFarm.open(tmp_path)
    timers = Timers(replace(bench.farm, now=utc_now))
    timers.start()

    timers.stop()

    wait_until(lambda: set(threading.enumerate()) <= before)
