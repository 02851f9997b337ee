"""The instance that fills a job's volume: DONE is said of a whole, unmounted volume only."""

from __future__ import annotations

import shlex
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from nodeimage.agent.ending import Ending, EndKind
from nodeimage.agent.ports import Silent
from nodeimage.instance import staging as stagings
from nodeimage.instance import workspace as workspaces
from nodeimage.instance.instance import Instance
from nodeimage.instance.staging import Staging
from nodeimage.launch import Role, StagingReport, StagingState, WorkspaceKind
from nodeimage.protocol import project_key, staging_key

from .agent_fakes import JOB
from .instance_fakes import Bench, a_launch

BODIES = {"a.blend": b"blend" * 100, "tex/wood.png": b"wood"}
KEY = staging_key(JOB)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspaces, "LIST_PATIENCE_S", 0.05)


def stage(bench: Bench, instance: Instance | None = None) -> Ending:
    return Staging(instance or an_instance(bench), pause=lambda seconds: None).run()


def an_instance(bench: Bench, **machine: Any) -> Instance:
    return bench.instance(a_launch(Role.STAGE, workspace=WorkspaceKind.BLANK, unreachable_s=5.0), **machine)


def report(bench: Bench) -> StagingReport:
    return StagingReport.from_bytes(bench.store.body(KEY))


def script(tmp_path: Path, code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_filled_volume_is_unmounted_and_then_told(bench: Bench, tmp_path: Path) -> None:
    files = bench.store.put_job_files(BODIES)
    seen = tmp_path / "seen"
    # stands in for umount: what is in the folder when it is called
    unmount = script(tmp_path, f"import os, sys; open({str(seen)!r}, 'w').write(' '.join(sorted(os.listdir(sys.argv[1]))))")
    ending = stage(bench, an_instance(bench, unmount=unmount))
    assert ending.kind is EndKind.NO_WORK
    assert seen.read_text() == ".kiln-fetch a.blend tex"
    told = report(bench)
    assert (told.state, told.instance, told.content) == (StagingState.DONE, "i-0abc", files.content)
    assert told.done_bytes == told.total_bytes == 504
    assert (bench.workspace / "tex/wood.png").read_bytes() == b"wood"
    assert bench.signs_of_life > 0


def test_farm_hears_of_the_program_before_anything_is_fetched(bench: Bench) -> None:
    bench.store.put_job_files(BODIES)
    bench.store.fail(Silent("no answer"), keys="files.json")
    thread = threading.Thread(target=stage, args=(bench,))
    thread.start()
    bench.store.wait_until(lambda: bench.store.has(KEY), "a report")
    assert report(bench).state is StagingState.RUNNING
    bench.store.recover()
    thread.join(10.0)
    assert report(bench).state is StagingState.DONE


def test_progress_is_reported_while_files_are_fetched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stagings, "REPORT_S", 0.0)
    files = bench.store.put_job_files(BODIES)
    go_on = threading.Event()
    bench.store.on_block = lambda: go_on.wait(10.0)
    thread = threading.Thread(target=stage, args=(bench,))
    thread.start()
    bench.store.wait_until(lambda: bench.store.has(KEY) and report(bench).total_bytes == 504, "a report of the fetching")
    told = report(bench)
    assert (told.state, told.content) == (StagingState.RUNNING, files.content)
    first_ms = told.at_ms
    bench.store.wait_until(lambda: report(bench).at_ms > first_ms, "another report")
    go_on.set()
    thread.join(10.0)
    assert report(bench).state is StagingState.DONE


def test_file_that_can_not_be_had_is_told_with_what_to_do(bench: Bench) -> None:
    bench.store.put_job_files(BODIES)
    bench.store.delete(project_key(JOB, "tex/wood.png"))
    assert stage(bench).kind is EndKind.UNFIT
    told = report(bench)
    assert told.state is StagingState.FAILED
    assert "“tex/wood.png” is no longer in the object store; upload it again" in told.message


def test_volume_that_is_not_mounted_fails_before_anything_is_fetched(bench: Bench) -> None:
    bench.store.put_job_files(BODIES)
    stage(bench, an_instance(bench, mounted="false"))
    assert report(bench).state is StagingState.FAILED
    assert "not mounted" in report(bench).message
    assert bench.store.parts == []


def test_volume_that_stays_busy_is_never_called_done(bench: Bench) -> None:
    bench.store.put_job_files(BODIES)
    stage(bench, an_instance(bench, unmount="false"))
    assert report(bench).state is StagingState.FAILED
    assert "can't be unmounted" in report(bench).message


def test_volume_that_is_busy_for_a_moment_is_unmounted_all_the_same(bench: Bench, tmp_path: Path) -> None:
    bench.store.put_job_files(BODIES)
    mark = tmp_path / "tried"
    busy_once = script(tmp_path, f"import os, sys; p = {str(mark)!r}; there = os.path.exists(p); open(p, 'w'); sys.exit(not there)")
    stage(bench, an_instance(bench, unmount=busy_once))
    assert report(bench).state is StagingState.DONE


def test_program_started_again_fetches_only_what_is_missing(bench: Bench) -> None:
    bench.store.put_job_files(BODIES)
    stage(bench, an_instance(bench, unmount="false"))
    bench.store.parts.clear()
    stage(bench)
    assert bench.store.parts == []
    assert report(bench).state is StagingState.DONE


def test_program_that_ended_between_unmounting_and_telling_only_tells(bench: Bench) -> None:
    bench.store.put_job_files(BODIES)
    stage(bench)
    bench.store.delete(KEY)
    ending = stage(bench, an_instance(bench, mounted="false", unmount="false"))
    assert ending.kind is EndKind.NO_WORK
    assert report(bench).state is StagingState.DONE


def test_list_that_changed_since_is_staged_anew(bench: Bench) -> None:
    bench.store.put_job_files(BODIES)
    stage(bench)
    files = bench.store.put_job_files({**BODIES, "b.png": b"new"})
    stage(bench)
    assert report(bench).content == files.content
    assert (bench.workspace / "b.png").exists()


def test_end_is_told_for_as_long_as_the_store_may_be_silent(bench: Bench) -> None:
    bench.store.put_job_files(BODIES)
    tries = iter(range(100))
    put = bench.store.put

    def put_the_third_time(key: str, body: bytes, *, content_type: str = "application/json") -> None:
        if StagingReport.from_bytes(body).state is StagingState.DONE and next(tries) < 3:
            raise Silent("no answer")
        put(key, body, content_type=content_type)

    bench.store.put = put_the_third_time  # type: ignore[method-assign]
    stage(bench)
    assert report(bench).state is StagingState.DONE


def test_staging_that_takes_longer_than_the_instance_may_live_fails(bench: Bench) -> None:
    bench.store.put_job_files(BODIES)
    launch = a_launch(Role.STAGE, workspace=WorkspaceKind.BLANK, max_life_s=10.0)
    ending = stage(bench, bench.instance(launch, began_at_ms=0))
    assert ending.kind is EndKind.OLD
    assert report(bench).state is StagingState.FAILED
    assert "lived for 10 s" in report(bench).message


def test_program_that_is_told_to_stop_leaves_the_rest_to_its_next_life(bench: Bench) -> None:
    bench.store.put_job_files(BODIES)
    bench.stop.set()
    assert stage(bench).kind is EndKind.TOLD
    assert report(bench).state is StagingState.RUNNING
