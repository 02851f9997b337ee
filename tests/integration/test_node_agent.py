"""The agent as a process of its own, with a real store and a real Blender."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nodeimage import protocol
from nodeimage.protocol import Action, Claim, Heartbeat, JournalEntry, NodeConfig, NodeState, Order, Outcome, RenderSettings, Task
from supervisor.cloud.local import processes
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.s3 import S3ObjectStore
from tests.waiting import AT_ONCE_S, wait_until

from .blender_here import PATIENCE_S, blender_command

LONG = 1_000_000  #: samples: a frame that nobody waits for


class NodeProcess:
    """A running agent, and what the bucket says of it."""

    def __init__(self, process: subprocess.Popen[bytes], config: NodeConfig, store: S3ObjectStore) -> None:
        self.process = process
        self.config = config
        self.store = store

    def heartbeat(self) -> Heartbeat | None:
        stored = self.store.get(protocol.status_key(self.config.node))
        return Heartbeat.from_bytes(stored.body) if stored else None

    def wait_until_rendering(self) -> Heartbeat:
        wait_until(
            lambda: (beat := self.heartbeat()) is not None and beat.state is NodeState.RENDERING and bool(beat.phase),
            timeout_s=PATIENCE_S,
            what="a frame being rendered",
        )
        beat = self.heartbeat()
        assert beat is not None
        return beat

    def blenders(self) -> list[int]:
        """The Blender processes of this node: they are known by their home."""
        return [process.pid for process in processes.with_environment(f"HOME={self.config.home}/blender\0")]


def _has_no_blender(node: NodeProcess) -> bool:
    return not node.blenders()


Start = Callable[..., NodeProcess]


@pytest.fixture
def start(weed: SeaweedFS, object_store: S3ObjectStore, workspace: Path, tmp_path: Path) -> Iterator[Start]:
    """Start an agent on a job; at the end it is killed."""
    started: list[NodeProcess] = []
    command, kind = blender_command()

    def start(job: str, node: str = "node_a", **changes: Any) -> NodeProcess:
        endpoint = changes.pop("endpoint", weed.endpoint)
        config = NodeConfig(
            node=f"{node}-{job}",
            job=job,
            bucket="kiln",
            endpoint=endpoint,
            workspace=str(workspace),
            home=str(tmp_path / node),
            blender=command,
            blender_kind=kind,
            threads=1,
            **{"heartbeat_s": 0.1, "poll_s": 0.05, "idle_s": 0.2, **changes},
        )
        keys = {"AWS_ACCESS_KEY_ID": weed.keys.node_access, "AWS_SECRET_ACCESS_KEY": weed.keys.node_secret}
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **keys, **config.to_env()}
        with (tmp_path / f"{node}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "nodeimage.agent"], env=env, cwd=tmp_path, stderr=log)
        started.append(NodeProcess(process, config, object_store))
        return started[-1]

    yield start
    for node in started:
        node.process.kill()
        node.process.wait()
        wait_until(partial(_has_no_blender, node), timeout_s=PATIENCE_S)


def put_order(store: S3ObjectStore, job: str, *tasks: tuple[str, range], action: Action = Action.RENDER, **settings: Any) -> None:
    order = Order(
        job=job,
        revision=1,
        action=action,
        settings=RenderSettings(**{"main_file": "plain.blend", "preview_width_px": 32, **settings}),
        tasks=tuple(Task(node=f"{node}-{job}", frames=protocol.runs_of(frames)) for node, frames in tasks),
    )
    store.put(protocol.order_key(job), order.to_bytes())


def journal(store: S3ObjectStore, job: str, outcome: Outcome) -> list[JournalEntry]:
    stored = [store.get(listed.key) for listed in store.list(protocol.journal_prefix(job))]
    entries = [JournalEntry.from_bytes(found.body) for found in stored if found]
    return [entry for entry in entries if entry.outcome is outcome]


def test_two_agents_deliver_every_frame_of_a_job_once(start: Start, object_store: S3ObjectStore) -> None:
    put_order(object_store, "job_two", ("node_a", range(1, 10)), ("node_b", range(10, 13)), samples=8)
    nodes = [start("job_two", name) for name in ("node_a", "node_b")]
    assert [node.process.wait(PATIENCE_S) for node in nodes] == [0, 0]
    finished = journal(object_store, "job_two", Outcome.FINISHED)
    assert sorted(entry.frame for entry in finished if entry.frame) == list(range(1, 13))
    for entry in finished:
        assert entry.frame is not None
        [output] = entry.outputs
        stored = object_store.get(protocol.output_key("job_two", entry.frame, output.name))
        assert stored is not None
        assert len(stored.body) == output.bytes
        assert stored.body.startswith(b"\x89PNG")
        preview = object_store.get(protocol.preview_key("job_two", entry.frame))
        assert preview is not None
        assert preview.body[8:12] == b"WEBP"


def test_told_to_end_an_agent_gives_its_claims_back_at_once(start: Start, object_store: S3ObjectStore) -> None:
    put_order(object_store, "job_term", ("node_a", range(1, 4)), samples=LONG)
    node = start("job_term")
    node.wait_until_rendering()
    told_at = time.monotonic()
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(PATIENCE_S) == 0
    assert time.monotonic() - told_at < AT_ONCE_S
    assert [entry.frame for entry in journal(object_store, "job_term", Outcome.INTERRUPTED)] == [1]
    assert list(object_store.list(protocol.claims_prefix("job_term"))) == []
    beat = node.heartbeat()
    assert beat is not None
    assert beat.state is NodeState.GONE
    assert node.blenders() == []


def test_blender_dies_with_an_agent_that_is_killed(start: Start, object_store: S3ObjectStore) -> None:
    put_order(object_store, "job_kill", ("node_a", range(1, 4)), samples=LONG)
    node = start("job_kill")
    node.wait_until_rendering()
    assert len(node.blenders()) == 1
    node.process.kill()
    wait_until(partial(_has_no_blender, node), timeout_s=PATIENCE_S)


def test_killed_agents_claim_is_given_back_by_the_next_one_in_its_home(start: Start, object_store: S3ObjectStore) -> None:
    put_order(object_store, "job_again", ("node_a", range(1, 3)), samples=LONG)
    node = start("job_again")
    node.wait_until_rendering()
    node.process.kill()
    node.process.wait()
    put_order(object_store, "job_again", ("node_a", range(1, 3)), samples=1)
    assert start("job_again").process.wait(PATIENCE_S) == 0
    assert [entry.frame for entry in journal(object_store, "job_again", Outcome.INTERRUPTED)] == [1]
    assert [entry.frame for entry in journal(object_store, "job_again", Outcome.FINISHED)] == [1, 2]


def test_stop_in_the_order_ends_a_frame_that_takes_long(start: Start, object_store: S3ObjectStore) -> None:
    put_order(object_store, "job_stop", ("node_a", range(1, 3)), samples=LONG)
    node = start("job_stop")
    node.wait_until_rendering()
    put_order(object_store, "job_stop", action=Action.STOP)
    assert node.process.wait(PATIENCE_S) == 0
    assert [entry.frame for entry in journal(object_store, "job_stop", Outcome.INTERRUPTED)] == [1]


def test_blender_that_crashes_costs_one_attempt_of_one_frame(start: Start, object_store: S3ObjectStore) -> None:
    put_order(object_store, "job_crash", ("node_a", range(1, 3)), samples=LONG)
    node = start("job_crash", idle_s=60.0)
    node.wait_until_rendering()
    [blender] = node.blenders()
    put_order(object_store, "job_crash", ("node_a", range(1, 3)), samples=1)
    os.kill(blender, signal.SIGSEGV)
    wait_until(lambda: len(journal(object_store, "job_crash", Outcome.FINISHED)) == 1, timeout_s=PATIENCE_S)
    [failed] = journal(object_store, "job_crash", Outcome.FAILED)
    assert (failed.frame, failed.failure) == (1, protocol.Failure.CRASH)
    log = object_store.get(protocol.log_key("job_crash", 1, 1))
    assert log is not None
    assert log.body


def test_agent_ends_quickly_when_told_although_no_store_answers(start: Start) -> None:
    node = start("job_silent", endpoint="http://127.0.0.1:9")
    wait_until(node.blenders, timeout_s=PATIENCE_S)
    told_at = time.monotonic()
    node.process.terminate()
    assert node.process.wait(PATIENCE_S) == 0
    assert time.monotonic() - told_at < AT_ONCE_S


def test_agent_with_a_wrong_environment_says_what_is_wrong(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "KILN_NODE_NODE": "n", "KILN_NODE_BUCKET": "b"}
    answer = subprocess.run([sys.executable, "-m", "nodeimage.agent"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "job" in answer.stderr


def test_claim_in_the_bucket_names_its_node(start: Start, object_store: S3ObjectStore) -> None:
    put_order(object_store, "job_claim", ("node_a", range(-3, -2)))
    node = start("job_claim")
    assert node.process.wait(PATIENCE_S) == 0
    stored = object_store.get(protocol.claim_key("job_claim", -3))
    assert stored is not None
    assert Claim.from_bytes(stored.body).node == node.config.node
