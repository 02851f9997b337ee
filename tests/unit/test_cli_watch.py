"""Following a job to its end, and bringing its frames home."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.api import models, money_models
from app.cli.client import Client, ServerUnreachable, Wish
from app.cli.failure import Failed
from app.cli.progress import Progress
from app.cli.report import end_lines, estimate_lines, found_lines, warning_lines
from app.cli.watch import FrameFolder, follow
from supervisor.domain.frame import FrameStatus
from supervisor.domain.instance import Market
from supervisor.domain.job import JobStatus
from supervisor.domain.scene import DependencyKind, FoundAs

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def a_job(status: str = "rendering", received: int = 0, total: int = 2, **more: Any) -> models.Job:
    frames = models.Frames(total=total, received=received, rendering=0, failed=0, queued=total - received)
    values: dict[str, Any] = {
        "id": "job_1",
        "name": "shot",
        "owner": "ada",
        "status": JobStatus(status),
        "reason": "because",
        "status_since": NOW,
        "created_at": NOW,
        "submitted_at": NOW,
        "ended_at": None,
        "frames": frames,
        "instances_running": 1,
        "eta_s": None,
        "version": 1,
        "url": "http://farm/jobs/job_1",
        "main_file": "shot.blend",
        "main_candidates": [],
        "frames_spec": "1-2",
        "scene": None,
        "settings": models.Settings(
            frames=None,
            instances=1,
            market=Market.ON_DEMAND,
            max_price_usd_per_h=None,
            instance_types=[],
            workspace_mode=None,
            scene=None,
            camera=None,
            output=models.OutputSettings(name=None, format=None, resolution_pct=None, samples=None),
            persistent_data=None,
        ),
        "dependencies": [],
        "files": models.JobFiles(count=1, bytes=1, uploading=0),
        "instances": [],
        "cost": 0.0,
        "problems": [],
        "blockers": [],
        "blender_version": "4.5.15",
        "seconds_per_frame": None,
        "actions": [],
    }
    return models.Job(**(values | more))


def a_frame(
    number: int, *, status: str = "received", attempt: int = 1, name: str | None = None, body: bytes = b"", reason: str = ""
) -> Any:
    output = models.Output(name=name or f"shot_{number:04}.png", bytes=len(body), crc32=zlib.crc32(body), url="")
    return models.Frame(
        number=number,
        status=FrameStatus(status),
        attempt=attempt,
        instance=None,
        node=None,
        render_s=1.0,
        outputs=[output] if status == "received" else [],
        preview_url=None,
        log_url=None,
        reason=reason,
        progress_pct=None,
        elapsed_s=None,
    )


class FakeFarm(Client):
    """A farm whose job goes on by one state with each look."""

    def __init__(self, *states: models.Job | Exception) -> None:
        super().__init__("http://farm", "token")
        self.states = list(states)
        self.rendered: list[models.Frame] = []
        self.bodies: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.wishes: list[str] = []
        self.damage = 0  #: how many of the next bodies arrive damaged

    def job(self, job: str) -> models.Job:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state

    def wish(self, job: str, wish: Wish) -> models.Job:
        self.wishes.append(wish)
        return self.states[0]  # type: ignore[return-value]

    def frames(self, job: str) -> Iterator[models.Frame]:
        return iter(self.rendered)

    def fetch_output(self, job: str, frame: int, name: str) -> Iterator[bytes]:
        self.fetched.append(name)
        self.damage -= 1
        yield self.bodies[name] if self.damage < 0 else b"damaged"

    def render(self, number: int, body: bytes, *, name: str | None = None) -> None:
        frame = a_frame(number, name=name, body=body)
        self.rendered.append(frame)
        self.bodies[frame.outputs[0].name] = body


def watched(farm: FakeFarm, frames: FrameFolder | None = None) -> tuple[models.Job, str]:
    out = io.StringIO()
    ended = follow(
        farm, "job_1", progress=Progress("render", out=out, clock=iter(range(0, 1000, 10)).__next__), frames=frames, sleep=lambda _: None
    )
    return ended, out.getvalue()


def test_job_is_followed_until_it_has_ended() -> None:
    ended, said = watched(FakeFarm(a_job("launching"), a_job(received=1, eta_s=70.0), a_job("releasing", 2), a_job("completed", 2)))
    assert ended.status is JobStatus.COMPLETED
    assert said.splitlines() == [
        "render: launching, 0 of 2 frames",
        "render: rendering, 1 of 2 frames, 1 min 10 s left",
        "render: releasing, 2 of 2 frames",
        "render: completed, 2 of 2 frames",
    ]


def test_paused_job_says_why_and_is_waited_for() -> None:
    paused = a_job("paused", 1, reason="its cost reached its cap of $5.00 ($4.98 spent)")
    ended, said = watched(FakeFarm(paused, a_job("completed", 2)))
    assert ended.status is JobStatus.COMPLETED
    assert said.splitlines()[0] == "render: paused, 1 of 2 frames; its cost reached its cap of $5.00 ($4.98 spent)"


@pytest.mark.parametrize(("answer", "wishes", "end"), [(True, ["resume"], JobStatus.COMPLETED), (False, [], JobStatus.PAUSED)])
def test_scouted_job_is_left_where_it_waits_unless_somebody_says_yes(answer: bool, wishes: list[str], end: JobStatus) -> None:
    scouting = models.Scouting(frames=[1, 5, 9], received=[1, 5, 9], has_ended=True)
    farm = FakeFarm(a_job(received=2, total=9), a_job("paused", 3, total=9, scouting=scouting), a_job("completed", 9, total=9))
    asked: list[models.Job] = []

    def wants_rest(job: models.Job) -> bool:
        asked.append(job)
        return answer

    ended = follow(farm, "job_1", progress=Progress("render", out=io.StringIO()), wants_rest=wants_rest, sleep=lambda _: None)

    assert (ended.status, farm.wishes, len(asked)) == (end, wishes, 1)


def an_estimate(low: float | None) -> money_models.Estimate:
    usd = None if low is None else money_models.UsdRange(low=low, high=low)
    return money_models.Estimate(
        frames=9, instances=1, basis="file", measured=3, frame_s=None, wall_s=None, cost_usd=usd, types=[], text="about 20 min"
    )


def test_estimate_and_cap_are_told_before_a_job_is_submitted() -> None:
    assert list(estimate_lines(a_job(), an_estimate(None))) == ["  estimate: about 20 min"]
    assert list(estimate_lines(a_job(cap_usd=5.0), an_estimate(4.2))) == ["  estimate: about 20 min", "  pauses at: $5.00"]
    assert list(estimate_lines(a_job(cap_usd=5.0), an_estimate(5.2)))[1] == "warning: that is more than its cap of $5.00; it pauses there"
    assert list(estimate_lines(a_job(), None)) == []


def test_farm_that_restarts_meanwhile_is_waited_for() -> None:
    farm = FakeFarm(a_job(), ServerUnreachable("gone"), a_job("completed", 2))
    assert watched(farm)[0].status is JobStatus.COMPLETED


def test_frames_are_brought_home_as_they_arrive_and_each_once(tmp_path: Path) -> None:
    farm = FakeFarm(a_job(received=1), a_job(received=1), a_job("completed", 2))
    farm.render(1, b"one")
    farm.render(2, b"two", name="depth/shot_0002.exr")
    folder = FrameFolder(farm, "job_1", tmp_path / "out")
    watched(farm, folder)
    assert {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == {
        "shot_0001.png": b"one",
        "depth/shot_0002.exr": b"two",
    }
    assert sorted(farm.fetched) == ["depth/shot_0002.exr", "shot_0001.png"]
    assert folder.files == 2


def test_frame_that_is_there_already_is_kept_and_a_wrong_one_replaced(tmp_path: Path) -> None:
    farm = FakeFarm(a_job())
    farm.render(1, b"one")
    farm.render(2, b"two")
    (tmp_path / "shot_0001.png").write_bytes(b"one")
    (tmp_path / "shot_0002.png").write_bytes(b"TWO")
    FrameFolder(farm, "job_1", tmp_path).take()
    assert farm.fetched == ["shot_0002.png"]
    assert (tmp_path / "shot_0002.png").read_bytes() == b"two"


def test_frame_that_arrives_damaged_is_fetched_again(tmp_path: Path) -> None:
    farm = FakeFarm(a_job())
    farm.render(1, b"one")
    farm.damage = 1
    FrameFolder(farm, "job_1", tmp_path).take()
    assert (tmp_path / "shot_0001.png").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["shot_0001.png"], "no half files stay"


@pytest.mark.parametrize("name", ["../up.png", "/etc/up.png", "a/../../up.png", "..\\up.png"])
def test_farm_can_not_write_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    farm = FakeFarm(a_job())
    farm.render(1, b"evil", name=name)
    with pytest.raises(Failed, match="outside of the folder"):
        FrameFolder(farm, "job_1", tmp_path / "out").take()
    assert not (tmp_path / "up.png").exists()


def a_dependency(path: str, found: FoundAs, *, at: str = "") -> models.Dependency:
    return models.Dependency(path=path, kind=DependencyKind.IMAGE, used_by="Wood", in_file="shot.blend", found=found, at=at)


def test_missing_files_are_warned_of_with_what_to_do() -> None:
    job = a_job(
        dependencies=[
            a_dependency("//tex/here.png", FoundAs.PRESENT),
            a_dependency("//tex/wood.png", FoundAs.MISSING),
            a_dependency("/home/ada/oak.png", FoundAs.ABSOLUTE),
            a_dependency("//ash.png", FoundAs.ELSEWHERE, at="tex/ash.png"),
        ]
    )
    said = "\n".join(warning_lines(job))
    assert "here.png" not in said
    assert "warning: //tex/wood.png, which shot.blend uses as image, is not among the files; add it to the command" in said
    assert "make it relative in Blender" in said
    assert "(it is at tex/ash.png)" in said


def test_many_missing_files_are_counted_not_listed() -> None:
    job = a_job(dependencies=[a_dependency(f"//{number}.png", FoundAs.MISSING) for number in range(15)])
    lines = list(warning_lines(job))
    assert (len(lines), lines[-1]) == (11, "warning: … and 5 more files; all are listed on http://farm/jobs/job_1")


def test_what_was_found_is_said_in_one_line() -> None:
    scene = models.Scene(
        name="Scene",
        camera="Camera",
        cameras=["Camera"],
        marker_cameras=[],
        view_layers=[],
        frame_start=1,
        frame_end=24,
        frame_step=2,
        fps=24.0,
        width_px=1920,
        height_px=1080,
        resolution_pct=50,
        engine="CYCLES",
        samples=64,
        file_format="PNG",
        output_path="//",
        is_movie=False,
    )
    assert list(found_lines(a_job(scene=scene))) == [
        "shot.blend: scene “Scene”, frames 1-24, step 2, 1920×1080 at 50 %, CYCLES, 64 samples, PNG",
        "  to render: frames 1-2",
    ]


def test_end_of_a_failed_job_says_why() -> None:
    problem = models.JobProblem(code="x", about="", severity="error", text="Blender crashed.", remedy="Look at the log.", since=NOW)
    lines = list(end_lines(a_job("failed", 1, problems=[problem]), [a_frame(2, status="failed", reason="out of memory")]))
    assert lines == [
        "shot failed: because (1 of 2 frames received)",
        "  Blender crashed. Look at the log.",
        "  frame 2: out of memory",
    ]
