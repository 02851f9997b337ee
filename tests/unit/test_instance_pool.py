"""An instance of the shared pool: whose work it takes, and how it goes from job to job."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nodeimage.agent.ending import Ending, EndKind
from nodeimage.agent.loop import TAKEN_LATE_S
from nodeimage.agent.ports import Silent
from nodeimage.instance import pool as pools
from nodeimage.instance.pool import Pool
from nodeimage.instance.prospects import FIRST_PAUSE_S, LONGEST_PAUSE_S, Prospects
from nodeimage.instance.shelf import Shelf
from nodeimage.launch import PoolJob, PoolOrder, Role
from nodeimage.protocol import (
    POOL_KEY,
    Action,
    Claim,
    NodeState,
    Requeued,
    Task,
    Unreadable,
    claim_key,
    project_key,
)
from tests.waiting import wait_until

from .instance_fakes import Bench, a_launch

NODE = "node_0abc"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "JOB_IDLE_S", 0.1)
    monkeypatch.setattr(pools, "LOOK_S", 0.02)
    monkeypatch.setattr(pools, "LONGEST_LOOK_S", 0.05)


def put_pool(bench: Bench, *jobs: str) -> None:
    """Write the pool's order."""
    bench.store.put(POOL_KEY, PoolOrder(jobs=tuple(PoolJob(job=job) for job in jobs)).to_bytes())


def put_job(bench: Bench, job: str, *frames: int, plan: dict[str, object] | None = None) -> None:
    """Have a job with these frames to render."""
    bench.store.put_job_files({"plan.json": json.dumps(plan or {}).encode()}, job=job)
    bench.put_order(job, *frames)


@contextmanager
def running(bench: Bench, **launch: Any) -> Iterator[list[Ending]]:
    """Run a node of the pool; at the end it is told to stop, if it has not ended. Yields: how it ended"""
    endings: list[Ending] = []
    instance = bench.instance(a_launch(Role.POOL, **launch))
    thread = threading.Thread(target=lambda: endings.append(Pool(instance).run()))
    thread.start()
    try:
        yield endings
    finally:
        bench.stop.set()
        thread.join(20.0)
        assert not thread.is_alive(), "the node does not stop"


# Which job


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def prospects(bench: Bench, now: list[float]) -> Prospects:
    return Prospects(bench.store, NODE, monotonic=lambda: now[0])


def chosen(prospects: Prospects) -> str | None:
    job = prospects.next()
    return job.job if job else None


def claim(bench: Bench, job: str, *frames: int) -> None:
    for frame in frames:
        bench.store.put(claim_key(job, frame), Claim(node="n", frame=frame, attempt=1, nonce="x", at_ms=1).to_bytes())


def test_pool_order_survives_the_bucket() -> None:
    order = PoolOrder(jobs=(PoolJob(job="job_1", blender="4.5"), PoolJob(job="job_2")))
    assert PoolOrder.from_bytes(order.to_bytes()) == order
    with pytest.raises(Unreadable):
        PoolOrder.from_bytes(b'{"version": 1, "jobs": [{}]}')


def test_without_a_pool_order_there_is_nothing_to_do(prospects: Prospects) -> None:
    assert chosen(prospects) is None


def test_first_job_with_a_free_frame_is_taken(bench: Bench, prospects: Prospects) -> None:
    put_pool(bench, "job_a", "job_b", "job_c")
    for job in ("job_a", "job_b", "job_c"):
        bench.put_order(job, 1, 2)
    claim(bench, "job_a", 1, 2)
    claim(bench, "job_b", 1)
    assert chosen(prospects) == "job_b"


@pytest.mark.parametrize("action", [Action.DRAIN, Action.STOP])
def test_job_that_wants_no_frames_is_left(bench: Bench, prospects: Prospects, action: Action) -> None:
    put_pool(bench, "job_a", "job_none", "job_b")
    bench.put_order("job_a", 1, action=action)
    bench.put_order("job_b", 1)
    assert chosen(prospects) == "job_b"


def test_frames_that_this_node_failed_are_no_work_for_it(bench: Bench, prospects: Prospects) -> None:
    put_pool(bench, "job_a")
    bench.put_order("job_a", 1, requeued={1: Requeued(attempt=2, avoid=(NODE,))})
    assert chosen(prospects) is None


def test_ordered_job_is_for_the_node_that_it_names(bench: Bench, prospects: Prospects) -> None:
    put_pool(bench, "job_a", "job_b")
    bench.put_order("job_a", 1, ordered=True, tasks=(Task(node="node_other", frames=((1, 9, 1),)),))
    assert chosen(prospects) is None
    bench.put_order("job_b", 1, ordered=True, tasks=(Task(node=NODE, frames=((1, 9, 1),)),))
    assert chosen(prospects) == "job_b"


def test_job_without_free_frames_is_looked_at_more_and_more_rarely(bench: Bench, prospects: Prospects, now: list[float]) -> None:
    put_pool(bench, "job_a")
    bench.put_order("job_a", 1)
    claim(bench, "job_a", 1)
    looked_at = []
    while now[0] < 600.0:
        bench.store.calls.clear()
        assert chosen(prospects) is None
        if any(name == "names" for name, _ in bench.store.calls):
            looked_at.append(now[0])
        now[0] += 1.0
    pauses = [after - before for before, after in pairwise(looked_at)]
    assert pauses[0] == FIRST_PAUSE_S
    assert pauses[-1] == LONGEST_PAUSE_S
    bench.store.delete(claim_key("job_a", 1))
    now[0] += LONGEST_PAUSE_S
    assert chosen(prospects) == "job_a"


def test_job_that_was_put_aside_comes_back_in_time_or_when_its_order_changes(bench: Bench, prospects: Prospects, now: list[float]) -> None:
    put_pool(bench, "job_a")
    bench.put_order("job_a", 1)
    assert chosen(prospects) == "job_a"
    prospects.put_aside("job_a", for_s=60.0)
    assert chosen(prospects) is None
    bench.put_order("job_a", 1, 2, revision=2)
    assert chosen(prospects) == "job_a"
    prospects.put_aside("job_a", for_s=60.0)
    now[0] += 60.0
    assert chosen(prospects) == "job_a"


@pytest.mark.parametrize("job", ["../job_a", "a/b", "", ".", "x" * 65])
def test_id_that_is_no_name_of_a_folder_is_ignored(bench: Bench, prospects: Prospects, job: str) -> None:
    put_pool(bench, job)
    bench.put_order(job, 1)
    assert chosen(prospects) is None


def test_order_that_can_not_be_read_leaves_the_other_jobs(bench: Bench, prospects: Prospects) -> None:
    put_pool(bench, "job_a", "job_b")
    bench.store.put("received/job_a/order.json", b'{"version": 99}')
    bench.put_order("job_b", 1)
    assert chosen(prospects) == "job_b"


# Whose folders are kept


def test_workspaces_used_longest_ago_make_room_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "w", tmp_path / "h", free_bytes=lambda folder: 100 - 30 * len(list((tmp_path / "w").iterdir())))
    for age, job in enumerate(("job_c", "job_a", "job_b")):
        shelf.take(job)
        os.utime(shelf.home(job) / "taken", (age, age))
    shelf.make_room(35, keep="job_c")
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["job_b", "job_c"]
    assert sorted(path.name for path in (tmp_path / "h").iterdir()) == ["job_b", "job_c"]


def test_frames_that_wait_for_delivery_are_never_removed_to_make_room(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "w", tmp_path / "h", free_bytes=lambda folder: 0)
    shelf.take("job_a")
    (shelf.home("job_a") / "outbox" / "00000001").mkdir(parents=True)
    shelf.make_room(100, keep="job_b")
    assert shelf.workspace("job_a").exists()
    assert shelf.left_behind() == ["job_a"]


# The node at work


def test_node_renders_one_job_after_the_other_by_their_order(bench: Bench) -> None:
    put_job(bench, "job_a", 1, 2)
    put_job(bench, "job_b", 3)
    put_pool(bench, "job_b", "job_a")
    with running(bench, idle_s=0.5) as endings:
        bench.store.wait_until(lambda: bench.finished("job_a") == [1, 2], "the second job's frames")
        assert bench.finished("job_b") == [3]
        bench.wait_for_beat(lambda beat: beat.state is NodeState.GONE, "the node's end")
    assert endings[0].kind is EndKind.NO_WORK


def test_heartbeat_says_for_which_job_it_works_and_never_gone_in_between(bench: Bench) -> None:
    put_job(bench, "job_a", 1, plan={"frames": {"1": "wait"}})
    put_pool(bench, "job_a")
    seen: list[tuple[NodeState, str]] = []
    put = bench.store.put

    def watch(key: str, body: bytes, *, content_type: str = "application/json") -> None:
        put(key, body, content_type=content_type)
        if key.endswith("status.json"):
            beat = bench.beat()
            seen.append((beat.state, beat.job))

    bench.store.put = watch  # type: ignore[method-assign]
    with running(bench, idle_s=30.0):
        bench.wait_for_beat(lambda beat: beat.state is NodeState.RENDERING and beat.job == "job_a", "the job's frame")
        (bench.workspace / "job_a" / "go").touch()
        bench.store.wait_until(lambda: bench.finished("job_a") == [1], "the frame")
        bench.wait_for_beat(lambda beat: beat.state is NodeState.IDLE and beat.job == "", "a node without a job")
        assert NodeState.GONE not in {state for state, _ in seen}
    assert bench.beat().state is NodeState.GONE


def test_node_comes_back_to_a_job_whose_files_it_has_without_fetching_them_again(bench: Bench) -> None:
    put_job(bench, "job_a", 1)
    put_pool(bench, "job_a")
    with running(bench, idle_s=30.0):
        bench.store.wait_until(lambda: bench.finished("job_a") == [1], "the first frame")
        bench.wait_for_beat(lambda beat: beat.job == "", "a node without a job")
        bench.store.parts.clear()
        bench.put_order("job_a", 1, 2, revision=2)
        bench.store.wait_until(lambda: bench.finished("job_a") == [1, 2], "the second frame")
    assert bench.store.parts == []


def test_job_whose_files_can_not_be_had_is_told_and_left_for_the_next(bench: Bench) -> None:
    put_job(bench, "job_a", 1)
    bench.store.delete(project_key("job_a", "plan.json"))
    put_job(bench, "job_b", 1)
    put_pool(bench, "job_a", "job_b")
    with running(bench, idle_s=30.0):
        bench.wait_for_beat(lambda beat: "upload it again" in beat.problem, "word of the missing file")
        bench.store.wait_until(lambda: bench.finished("job_b") == [1], "the other job's frame")
        bench.wait_for_beat(lambda beat: beat.job == "" and beat.problem == "", "no problem any more")


def test_job_that_gives_nothing_to_render_does_not_keep_the_node_alive(bench: Bench) -> None:
    put_job(bench, "job_a", 1, plan={"findings": [{"code": "unbaked", "text": "“Flag” has cloth that is not baked."}]})
    put_pool(bench, "job_a")
    with running(bench, idle_s=0.5) as endings:
        bench.wait_for_beat(lambda beat: beat.state is NodeState.GONE, "the node's end")
    assert endings[0].kind is EndKind.NO_WORK
    assert bench.finished("job_a") == []


def test_folders_of_a_job_that_has_ended_are_removed(bench: Bench) -> None:
    put_job(bench, "job_a", 1, 2, plan={"frames": {"2": "hang"}})
    put_pool(bench, "job_a")
    with running(bench, idle_s=30.0):
        bench.wait_for_beat(lambda beat: beat.frame == 2, "the second frame rendering")
        assert (bench.workspace / "job_a").exists()
        bench.put_order("job_a", action=Action.STOP, revision=2)
        bench.wait_for_beat(lambda beat: beat.state is NodeState.IDLE and beat.job == "", "a node without a job")
        assert not (bench.workspace / "job_a").exists()


def test_node_that_was_killed_delivers_what_it_left_before_it_takes_a_job(bench: Bench) -> None:
    held = bench.home / "jobs" / "job_old" / "claims"
    held.mkdir(parents=True)
    left = Claim(node=NODE, frame=7, attempt=1, nonce="n7", at_ms=1)
    (held / "7").write_bytes(left.to_bytes())
    bench.store.put(claim_key("job_old", 7), left.to_bytes())
    put_pool(bench)
    with running(bench, idle_s=30.0):
        bench.store.wait_until(lambda: not bench.store.has(claim_key("job_old", 7)), "the claim given back")
    assert bench.finished("job_old") == []


def test_store_that_is_silent_is_told_and_ends_the_node_after_long(bench: Bench) -> None:
    put_pool(bench)
    bench.store.fail(Silent("no answer"), keys="pool.json")
    with running(bench, idle_s=30.0):
        bench.wait_for_beat(lambda beat: "can't read what the pool is to do: no answer" in beat.problem, "word of the silence")
        bench.store.recover()
        bench.wait_for_beat(lambda beat: beat.problem == "", "no problem any more")
    bench.stop.clear()
    bench.store.fail(Silent("no answer"))
    with running(bench, idle_s=30.0, unreachable_s=0.2) as endings:
        wait_until(lambda: endings, what="the node's end")
    assert endings[0].kind is EndKind.UNREACHABLE


def test_interrupted_node_without_a_job_takes_none_and_waits(bench: Bench) -> None:
    put_job(bench, "job_a", 1)
    bench.interruption_at_ms = time.time_ns() // 1_000_000 + 60_000
    put_pool(bench, "job_a")
    with running(bench, idle_s=0.1) as endings:
        bench.wait_for_beat(lambda beat: beat.interruption_at_ms > 0 and beat.beat > 5, "a node that waits")
        assert bench.finished("job_a") == []
        assert endings == []


def test_interrupted_node_that_is_not_taken_in_time_ends(bench: Bench) -> None:
    bench.interruption_at_ms = time.time_ns() // 1_000_000 - int(TAKEN_LATE_S * 1000)
    put_pool(bench)
    with running(bench, idle_s=30.0) as endings:
        bench.wait_for_beat(lambda beat: beat.state is NodeState.GONE, "the node's end")
    assert endings[0].kind is EndKind.INTERRUPTED
    assert bench.beat().interruption_at_ms == bench.interruption_at_ms
