"""Whole jobs on this machine: a real store, real nodes, a real Blender; and what becomes of them when something is killed."""

from __future__ import annotations

import gc
import io
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from app.bootstrap import OpenFarm, open_farm, stop_everything
from supervisor import queries
from supervisor.cloud.local import processes
from supervisor.commands import files as file_commands
from supervisor.commands import jobs as commands
from supervisor.config import Config, NodeSettings, RenderConfig, SupervisorConfig
from supervisor.domain.frame import FrameStatus
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from supervisor.domain.settings import JobSettings, OutputSettings
from supervisor.farm import Farm
from supervisor.lifecycle.books import Books
from supervisor.timers import Timers
from tests.integration.blender_here import make_scenes
from tests.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
SAMPLE = CHECKOUT / "samples" / "kiln.blend"
PATIENCE_S = 150.0
#: Frames of so few samples that some are still to come when a job that renders is told something.
MANY = 40
#: Samples of a frame that takes seconds: it is still rendered when the farm has heard of it and its node is killed.
LONG = 1024

# The object store outlives the server that started it, and here that server is an object of this process.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@dataclass
class LocalFarm:
    """A farm as `kiln serve` runs it, without the web face. `stop` and `start` are a restart of the server."""

    config: Config
    data: Path
    opened: OpenFarm | None = None
    timers: Timers | None = None

    @property
    def farm(self) -> Farm:
        assert self.opened, "started before"
        return self.opened.farm

    def start(self) -> None:
        self.opened = open_farm(self.config, self.data, serves=True)
        self.timers = Timers(self.opened.farm, upkeep=self.opened.upkeep)
        self.timers.start()
        self.opened.wake.listen(self.timers.wake)

    def stop(self) -> None:
        """End what runs in the server; the store and the nodes live on."""
        if self.timers and self.opened:
            self.timers.stop()
            self.opened.close()
        self.timers = self.opened = None

    def end(self) -> None:
        self.stop()
        stop_everything(self.config, self.data)
        gc.collect()

    def submit(self, *, frames: str, instances: int, samples: int = 1, blend: Path = SAMPLE, scout: bool = False) -> str:
        """Upload a .blend and have a small picture of each of its frames rendered."""
        body = blend.read_bytes()
        job = commands.create_job(self.farm, name="Sample", owner_id=None)
        file_commands.put_file(self.farm, job, path="scenes/kiln.blend", source=io.BytesIO(body), length=len(body))
        output = OutputSettings(name="kiln_", resolution_pct=10, samples=samples)
        commands.submit_job(self.farm, job, JobSettings(frames=frames, instances=instances, output=output, scout=scout))
        return job

    def status(self, job: str) -> JobStatus:
        return queries.job_summary(self.farm, job).status

    def frames(self, job: str) -> list[queries.FrameView]:
        return queries.job_frames(self.farm, job)

    def wait_for_end(self, job: str) -> JobStatus:
        wait_until(lambda: queries.job_summary(self.farm, job).ended_at, timeout_s=PATIENCE_S)
        return self.status(job)

    def wait_for_rendering_frame(self, job: str) -> queries.FrameView:
        """Wait until a node renders a frame. Returns: that frame"""
        found = wait_until(
            lambda: next((frame for frame in self.frames(job) if frame.status is FrameStatus.RENDERING), None), timeout_s=PATIENCE_S
        )
        assert found is not None
        return found


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalFarm]:
    config = Config(
        node=NodeSettings(heartbeat_s=0.5, lease_s=10, poll_s=0.3),
        supervisor=SupervisorConfig(tick_s=0.3),
        render=RenderConfig(max_attempts=2, preview_width_px=64),
    )
    farm = LocalFarm(config=config, data=tmp_path / "data")
    farm.start()
    yield farm
    farm.end()


def _kill_agent(node: str) -> None:
    """Kill a node's agent, and nothing else, as a crash of it would."""
    (agent, *_) = processes.with_environment(f"KILN_NODE_NODE={node}\0")
    os.kill(agent.pid, signal.SIGKILL)


def _kill_blender(local: LocalFarm, instance: str) -> None:
    """Kill the Blender of an instance, as its crash would."""
    home = local.data / "nodes" / instance
    agents = {process.pid for process in processes.with_environment("KILN_NODE_NODE=")}
    for process in processes.with_environment(str(home)):
        if process.pid not in agents:
            processes.send(process, signal.SIGSEGV)


def test_a_scouted_job_shows_three_frames_and_renders_the_rest_when_told_to(local: LocalFarm) -> None:
    job = local.submit(frames="1-8", instances=2, scout=True)

    wait_until(lambda: local.status(job) is JobStatus.PAUSED, timeout_s=PATIENCE_S)

    scouts = {frame.number: frame for frame in local.frames(job) if frame.status is FrameStatus.RECEIVED}
    assert set(scouts) == {1, 5, 8}
    assert all(frame.has_preview for frame in scouts.values())
    reason = queries.job_summary(local.farm, job).reason
    assert reason.startswith("scouted: 3 frames rendered; the other 5 frames would take ")
    assert not processes.with_environment(f"HOME={local.data / 'nodes'}/"), "everything was given back"

    commands.resume_job(local.farm, job)

    assert local.wait_for_end(job) is JobStatus.COMPLETED
    assert {frame.number: frame.node for frame in local.frames(job) if frame.number in scouts} == {n: f.node for n, f in scouts.items()}
    Books(local.farm).keep()
    (figures,) = queries.statistics(local.farm)
    assert (figures.instance_type, figures.frames, figures.usd) == ("local", 8, Decimal(0))
    assert figures.boot_s is not None
    assert 0 < figures.boot_s < PATIENCE_S


def test_a_job_is_rendered_from_upload_to_completion(local: LocalFarm) -> None:
    job = local.submit(frames="1-6", instances=2)

    assert local.wait_for_end(job) is JobStatus.COMPLETED

    frames = local.frames(job)
    assert [frame.outputs[0].name for frame in frames] == [f"kiln_{number:04d}.png" for number in range(1, 7)]
    assert len({frame.node for frame in frames}) == 2
    for frame in frames:
        stream, length = queries.open_output(local.farm, job, frame.number, frame.outputs[0].name)
        with stream:
            picture = stream.read()
        assert len(picture) == length == frame.outputs[0].bytes
        assert picture.startswith(b"\x89PNG")
        assert queries.frame_preview(local.farm, job, frame.number)[8:12] == b"WEBP"
        assert queries.frame_log(local.farm, job, frame.number)
    assert all(view.status is InstanceStatus.TERMINATED for view in queries.job_instances(local.farm, job))
    detail = queries.job_detail(local.farm, job)
    assert detail.blender_version
    assert detail.seconds_per_frame


def test_a_node_killed_in_mid_render_is_replaced_and_the_job_completes(local: LocalFarm) -> None:
    job = local.submit(frames="1-6", instances=2, samples=LONG // 2)
    frame = local.wait_for_rendering_frame(job)
    assert frame.node is not None

    _kill_agent(frame.node)

    assert local.wait_for_end(job) is JobStatus.COMPLETED
    again = queries.job_frame(local.farm, job, frame.number)
    assert again.attempt == 2
    assert len(queries.job_instances(local.farm, job)) == 3


def test_a_frame_whose_blender_keeps_crashing_fails_and_a_retry_renders_it_alone(local: LocalFarm) -> None:
    job = local.submit(frames="1-3", instances=1, samples=LONG)
    doomed = local.wait_for_rendering_frame(job).number
    for attempt in (1, 2):
        frame = wait_until(lambda: _rendering_now(local, job, doomed), timeout_s=PATIENCE_S)
        assert frame is not None
        assert frame.instance is not None
        assert frame.attempt == attempt
        _kill_blender(local, frame.instance)
        wait_until(partial(_moved_on, local, job, doomed, attempt), timeout_s=PATIENCE_S)

    assert local.wait_for_end(job) is JobStatus.FAILED
    assert {frame.number: frame.status for frame in local.frames(job)} == {
        number: FrameStatus.FAILED if number == doomed else FrameStatus.RECEIVED for number in (1, 2, 3)
    }
    assert "crash" in queries.job_frame(local.farm, job, doomed).reason
    kept = {frame.number: frame.node for frame in local.frames(job) if frame.number != doomed}

    commands.retry_job(local.farm, job)

    assert local.wait_for_end(job) is JobStatus.COMPLETED
    assert {frame.number: frame.node for frame in local.frames(job) if frame.number != doomed} == kept


def _rendering_now(local: LocalFarm, job: str, number: int) -> queries.FrameView | None:
    frame = queries.job_frame(local.farm, job, number)
    return frame if frame.status is FrameStatus.RENDERING and frame.elapsed_s is not None else None


def _moved_on(local: LocalFarm, job: str, number: int, attempt: int) -> bool:
    frame = queries.job_frame(local.farm, job, number)
    return frame.attempt > attempt or frame.status is FrameStatus.FAILED


def test_nodes_render_on_while_the_server_is_away_and_it_goes_on_where_it_was(local: LocalFarm) -> None:
    job = local.submit(frames=f"1-{MANY}", instances=2, samples=16)
    wait_until(lambda: queries.job_summary(local.farm, job).frames.received >= 1, timeout_s=PATIENCE_S)
    nodes = {view.node for view in queries.job_instances(local.farm, job)}

    local.stop()
    local.start()

    assert local.wait_for_end(job) is JobStatus.COMPLETED
    assert {view.node for view in queries.job_instances(local.farm, job)} == nodes


def test_a_paused_job_gives_its_slots_back_and_resumes(local: LocalFarm) -> None:
    job = local.submit(frames=f"1-{MANY}", instances=2, samples=16)
    wait_until(lambda: queries.job_summary(local.farm, job).frames.received >= 1, timeout_s=PATIENCE_S)

    commands.pause_job(local.farm, job)

    wait_until(lambda: local.status(job) is JobStatus.PAUSED, timeout_s=PATIENCE_S)
    assert local.farm.cloud.compute.free_slots() == 2
    received = queries.job_summary(local.farm, job).frames.received
    assert 0 < received < MANY
    commands.resume_job(local.farm, job)
    assert local.wait_for_end(job) is JobStatus.COMPLETED


def test_an_unbaked_simulation_is_rendered_in_order_by_one_node(local: LocalFarm, tmp_path: Path) -> None:
    make_scenes(tmp_path)
    job = local.submit(frames="1-5", instances=2, blend=tmp_path / "cloth.blend")

    assert local.wait_for_end(job) is JobStatus.COMPLETED

    frames = local.frames(job)
    assert len({frame.node for frame in frames}) == 1
    assert "unbaked" in {problem.code for problem in queries.job_detail(local.farm, job).problems}
