"""A rented instance's program as a process of its own: a real store, a stand-in metadata service, and a Blender that is a script."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodeimage.launch import FileEntry, FileList, LaunchData, PoolJob, PoolOrder, Role, StagingReport, StagingState, WorkspaceKind
from nodeimage.protocol import (
    POOL_KEY,
    Action,
    Heartbeat,
    JournalEntry,
    NodeState,
    Order,
    Outcome,
    RenderSettings,
    Task,
    claims_prefix,
    files_key,
    journal_prefix,
    log_key,
    order_key,
    project_key,
    runs_of,
    staging_key,
    status_key,
)
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.s3 import S3ObjectStore
from tests.aws.metadata_service import MetadataService, RoleKeys
from tests.waiting import wait_for, wait_until

FAKE_DRIVER = Path(__file__).parents[1] / "unit" / "fake_driver.py"
#: Larger than a part of a fetch.
LARGE = os.urandom(1 << 20) * 40


class RealInstance:
    """A folder that is an instance's disk, its metadata service, and its program."""

    def __init__(self, folder: Path, store: S3ObjectStore, weed: SeaweedFS, *, job: str, life_cycle: str = "spot", **launch: Any) -> None:
        self.folder = folder
        self.store = store
        self.job = job
        self.instance_id = f"i-{zlib.crc32(job.encode()):08x}"
        base = LaunchData(
            role=Role.RENDER,
            farm="f",
            job=job,
            region="us-east-1",
            projects_bucket="kiln",
            received_bucket="kiln",
            endpoint=weed.endpoint,
            agent="agent/1.pyz",
            agent_sha256="0" * 64,
            heartbeat_s=0.1,
            poll_s=0.05,
            idle_s=60.0,
        )
        keys = RoleKeys(access_key=weed.keys.node_access, secret_key=weed.keys.node_secret)
        user_data = replace(base, **launch).to_bytes()
        self.metadata = MetadataService(instance_id=self.instance_id, user_data=user_data, life_cycle=life_cycle, keys=keys)
        self.off = folder / "off"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def node(self) -> str:
        return self.instance_id.replace("i-", "node_")

    def boot(self) -> subprocess.Popen[bytes]:
        """Start the program, as systemd does."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata.endpoint,
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "KILN_LAUNCH": str(self.folder / "launch.json"),
            "KILN_HOME": str(self.folder / "home"),
            "KILN_WORKSPACE": str(self.folder / "workspace"),
            "KILN_BLENDER": shlex.join([sys.executable, str(FAKE_DRIVER)]),
            "KILN_POWEROFF": shlex.join(["touch", str(self.off)]),
            "KILN_UNMOUNT": "true",
            "KILN_MOUNTED": "true",
        }
        (self.folder / "workspace").mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "nodeimage.instance"], env=env, cwd=self.folder, stderr=log)
        return self.process

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def end(self) -> int:
        """Wait for the program to end by itself. Returns: its exit status"""
        assert self.process is not None
        return self.process.wait(30.0)

    def shut_down(self) -> int:
        """Tell the program to end, as a system that goes down does. Returns: its exit status"""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(5.0)

    def told_systemd(self) -> set[str]:
        """What systemd was told so far, without repeats."""
        told = set()
        self.notify.setblocking(False)
        try:
            while True:
                told.add(self.notify.recv(200).decode())
        except BlockingIOError:
            return told

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.notify.close()

    # The farm's side

    def put_files(self, bodies: Mapping[str, bytes]) -> FileList:
        for path, body in bodies.items():
            self.store.put(project_key(self.job, path), body)
        files = FileList(
            files=tuple(
                FileEntry(path=path, key=project_key(self.job, path), bytes=len(body), checksum=f"crc32:{zlib.crc32(body):08x}")
                for path, body in bodies.items()
            )
        )
        self.store.put(files_key(self.job), files.to_bytes())
        return files

    def put_order(self, *frames: int, action: Action = Action.RENDER, revision: int = 1) -> None:
        settings = RenderSettings(main_file="plan.json", frame_timeout_s=60.0)
        tasks = (Task(node=self.node, frames=runs_of(frames)),)
        order = Order(job=self.job, revision=revision, action=action, settings=settings, tasks=tasks)
        self.store.put(order_key(self.job), order.to_bytes())

    def beat(self) -> Heartbeat | None:
        stored = self.store.get(status_key(self.node))
        return Heartbeat.from_bytes(stored.body) if stored else None

    def wait_for_state(self, *states: NodeState) -> Heartbeat:
        def beat() -> Heartbeat | None:
            told = self.beat()
            return told if told is not None and told.state in states else None

        try:
            told = wait_until(beat, timeout_s=30.0)
        except AssertionError:
            raise AssertionError(f"it is not {states} but {self.beat()}; its log: {self.log()[-2000:]}") from None
        assert told is not None
        return told

    def frames(self, outcome: Outcome) -> list[int | None]:
        stored = [self.store.get(listed.key) for listed in self.store.list(journal_prefix(self.job))]
        entries = [JournalEntry.from_bytes(found.body) for found in stored if found]
        return [entry.frame for entry in entries if entry.outcome is outcome]


def a_plan(**plan: object) -> dict[str, bytes]:
    """A job's files, the main one being what the stand-in for Blender reads."""
    return {"plan.json": json.dumps(plan).encode(), "tex/large.exr": LARGE, "tex/small.png": b"wood"}


@pytest.fixture
def rented(weed: SeaweedFS, object_store: S3ObjectStore, tmp_path: Path) -> Iterator[Any]:
    """Rent an instance; at the end it is gone, whatever it does."""
    there: list[RealInstance] = []

    def rent(job: str, **about: Any) -> RealInstance:
        folder = tmp_path / job
        folder.mkdir()
        instance = RealInstance(folder, object_store, weed, job=job, **about)
        instance.metadata.__enter__()
        there.append(instance)
        return instance

    yield rent
    for instance in there:
        instance.close()
        instance.metadata.__exit__(None, None, None)


def test_spot_instance_fetches_renders_gives_back_on_notice_and_leaves_its_end_to_the_cloud(rented: Any) -> None:
    instance: RealInstance = rented("job_spot")
    instance.put_files(a_plan(frames={"2": "hang"}))
    instance.put_order(1, 2, 3)
    instance.boot()
    wait_for(lambda: instance.frames(Outcome.FINISHED) == [1], "the first frame")
    wait_for(lambda: (beat := instance.beat()) is not None and beat.frame == 2, "the second frame rendering")
    assert (instance.folder / "workspace/tex/large.exr").read_bytes() == LARGE
    at = instance.metadata.announce_interruption(in_s=9.0)
    wait_for(lambda: instance.frames(Outcome.INTERRUPTED) == [2], "the second frame given back")
    beat = instance.wait_for_state(NodeState.IDLE)
    assert beat.interruption_at_ms == int(at.timestamp() * 1000)
    assert list(instance.store.list(claims_prefix("job_spot") + "00000002")) == []
    log = instance.store.get(log_key("job_spot", 2, 1))
    assert log is not None
    assert b"Fra:2" in log.body
    assert {"READY=1", "WATCHDOG=1"} <= instance.told_systemd()
    assert instance.shut_down() == 0  # as the cloud does at the deadline
    assert not instance.off.exists()
    assert instance.frames(Outcome.FINISHED) == [1]


def test_instance_without_work_powers_itself_off(rented: Any) -> None:
    instance: RealInstance = rented("job_idle", idle_s=0.3)
    instance.put_files(a_plan())
    instance.put_order(1, 2)
    instance.boot()
    assert instance.end() == 0, instance.log()
    assert instance.off.exists()
    assert instance.frames(Outcome.FINISHED) == [1, 2]
    assert instance.wait_for_state(NodeState.GONE).finished == 2


def test_paused_on_demand_instance_waits_to_be_stopped_and_works_again_when_it_is_started(rented: Any) -> None:
    instance: RealInstance = rented("job_pause", life_cycle="on-demand")
    instance.put_files(a_plan())
    instance.put_order(1)
    instance.boot()
    wait_for(lambda: instance.frames(Outcome.FINISHED) == [1], "the first frame")
    instance.put_order(1, action=Action.DRAIN, revision=2)
    instance.wait_for_state(NodeState.GONE)
    assert instance.process is not None
    assert instance.process.poll() is None
    assert instance.shut_down() == 0  # StopInstances
    assert not instance.off.exists()
    instance.put_order(1, 2, revision=3)
    fetched = len([path for path in instance.metadata.asked if path == "user-data"])
    instance.boot()
    wait_for(lambda: instance.frames(Outcome.FINISHED) == [1, 2], "the frame after the pause")
    assert len([path for path in instance.metadata.asked if path == "user-data"]) == fetched + 1
    instance.wait_for_state(NodeState.IDLE)


def test_program_that_is_killed_gives_back_what_it_held_in_its_next_life(rented: Any) -> None:
    instance: RealInstance = rented("job_killed", idle_s=0.3)
    instance.put_files(a_plan(frames={"1": "once:wait"}))
    instance.put_order(1, 2)
    instance.boot()
    wait_for(lambda: (beat := instance.beat()) is not None and beat.frame == 1, "a frame rendering")
    assert instance.process is not None
    instance.process.kill()
    instance.process.wait()
    (instance.folder / "workspace/go").touch()  # the stand-in for Blender ends; Blender itself would see that its agent is gone
    instance.boot()
    assert instance.end() == 0, instance.log()
    assert instance.frames(Outcome.INTERRUPTED) == [1]
    assert sorted(frame for frame in instance.frames(Outcome.FINISHED) if frame) == [1, 2]
    assert instance.off.exists()


def test_instance_whose_files_are_gone_says_so_and_powers_itself_off(rented: Any) -> None:
    instance: RealInstance = rented("job_nofile")
    instance.put_files(a_plan())
    instance.store.delete([project_key("job_nofile", "tex/small.png")])
    instance.put_order(1)
    instance.boot()
    assert instance.end() == 0, instance.log()
    assert instance.off.exists()
    beat = instance.wait_for_state(NodeState.STARTING)
    assert "“tex/small.png” is no longer in the object store; upload it again" in beat.problem
    assert list(instance.store.list(claims_prefix("job_nofile"))) == []


def test_staging_instance_fills_the_volume_and_powers_itself_off(rented: Any) -> None:
    instance: RealInstance = rented("job_stage", role=Role.STAGE, workspace=WorkspaceKind.BLANK, life_cycle="on-demand")
    files = instance.put_files(a_plan())
    instance.boot()
    assert instance.end() == 0, instance.log()
    assert instance.off.exists()
    stored = instance.store.get(staging_key("job_stage"))
    assert stored is not None
    told = StagingReport.from_bytes(stored.body)
    assert (told.state, told.content, told.instance) == (StagingState.DONE, files.content, instance.instance_id)
    assert told.done_bytes == told.total_bytes == sum(file.bytes for file in files.files)
    assert (instance.folder / "workspace/tex/large.exr").read_bytes() == LARGE


def test_instance_of_the_shared_pool_renders_for_the_jobs_in_its_order(rented: Any) -> None:
    instance: RealInstance = rented("job_pool", role=Role.POOL, idle_s=6.0)
    instance.put_files(a_plan())
    instance.put_order(1, 2)
    instance.store.put(POOL_KEY, PoolOrder(jobs=(PoolJob(job="job_pool"),)).to_bytes())
    instance.boot()
    wait_for(lambda: instance.frames(Outcome.FINISHED) == [1, 2], "the job's frames")
    beat = instance.wait_for_state(NodeState.IDLE)
    assert beat.job in {"job_pool", ""}
    assert instance.shut_down() == 0
    assert instance.wait_for_state(NodeState.GONE).job == ""
    assert not instance.off.exists()


@pytest.mark.parametrize("user_data", ['{"version": 1, "role": "dance"}', "#cloud-config", '{"version": 99}'])
def test_instance_that_no_known_farm_launched_powers_itself_off(rented: Any, user_data: str) -> None:
    instance: RealInstance = rented("job_alien")
    instance.metadata.set_value("user-data", user_data)
    instance.boot()
    assert instance.end() == 0
    assert instance.off.exists()
    assert "not launched by a farm that this agent knows" in instance.log()


def test_image_builder_is_no_node_and_powers_itself_off(rented: Any) -> None:
    instance: RealInstance = rented("job_build", role=Role.BUILD)
    instance.boot()
    assert instance.end() == 0, instance.log()
    assert instance.off.exists()
    assert "knows no work for an instance of the role “build”" in instance.log()
