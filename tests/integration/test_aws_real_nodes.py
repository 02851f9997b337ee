"""Whole jobs on AWS as far as it goes without an account: a served farm, real nodes and a real Blender, where only the cloud is played.

moto's server stands for EC2, IAM, prices and quotas; SeaweedFS for S3; folders for volumes and snapshots; a metadata service of ours for
each instance's own. `aws_machines.py` says how an instance that moto launches becomes processes. All between is the product: the
upload, the staging instance, the snapshot, the fleet, the agent that comes through the bucket, the frames.

Unlike Amazon's, the notice of an interruption comes seconds before it, not two minutes; and an instance that ends is killed at once.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from app.api import models
from nodeimage.launch import node_of_instance
from nodeimage.protocol import Outcome, frames_prefix, split_output_key
from supervisor.domain.download import DownloadStatus
from supervisor.domain.frame import FrameStatus
from supervisor.domain.instance import InstanceStatus
from supervisor.domain.job import JobStatus
from tests.aws.moto_server import Moto

from .aws_studio import IDENTITY, Studio, open_studio
from .blender_here import HEIGHT, WIDTH

NAMED = {"name": "kiln_", "format": "PNG"}
#: The cloud takes the instance back in so short a time that no frame at hand fits, whatever was measured: nodes keep 5 s free.
SHORT_NOTICE_S = 5.0


@pytest.fixture(scope="module")
def studio(moto_server: Moto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with open_studio(moto_server, tmp_path_factory.mktemp("studio")) as opened:
        yield opened


@pytest.fixture(scope="module")
def blend(workspace: Path) -> Path:
    """A scene whose frames take two seconds each."""
    return workspace / "timed.blend"


def test_doctor_finds_nothing_wrong_with_a_farm_that_was_set_up_just_now(studio: Studio) -> None:
    findings = json.loads(studio.kiln("doctor", "--json"))
    assert {finding["name"] for finding in findings} >= {"server", "clock", f"bucket {IDENTITY.projects_bucket}", "image", "prices"}
    assert [finding for finding in findings if not finding["is_ok"]] == []


def test_spot_job_is_staged_on_a_volume_interrupted_refilled_and_completed(studio: Studio, blend: Path, tmp_path: Path) -> None:
    job = studio.submit(blend, frames="1-12", instances=2, market="spot", workspace_mode="snapshot", output=NAMED)
    victim = studio.until(lambda: _renderer(studio, job), "a node at its frame")
    given_back = _interrupt(studio, job, victim)

    assert _wait_for_end(studio, job).status is JobStatus.COMPLETED

    _check_each_frame_was_received_once(studio, job, range(1, 13))
    assert _rendered_again(studio, job, instead_of=victim) == given_back
    assert len(studio.launched("stage", job)) == 1
    assert len(studio.launched("render", job)) == 3, "two, and one in the place of that which was taken"
    _check_zip(studio, job, range(1, 13), tmp_path)
    _check_all_is_released(studio, job)
    (snapshot,) = studio.snapshots()
    assert studio.center.frozen(snapshot) == {"scenes/timed.blend"}
    studio.client.delete_job(job)
    studio.until(lambda: not studio.snapshots(), "the end of what is kept for a retry")


def _renderer(studio: Studio, job: str) -> str | None:
    """The first instance that is seen at a frame. Returns: None: none is yet"""
    return next((one.id for one in studio.client.job(job).instances if one.frame is not None), None)


def _interrupt(studio: Studio, job: str, victim: str) -> set[int | None]:
    """Give notice to an instance in the middle of a frame, and take it when it has left off. Returns: the frame that it gave back

    Empty: the frame was saved in the quarter of a second between the notice and the node's next look.
    """
    studio.center.announce_interruption(victim, in_s=SHORT_NOTICE_S)
    studio.until(lambda: _view(studio, job, victim).taken_back_at, "a farm that knows of the interruption")
    studio.until(lambda: _view(studio, job, victim).doing == "waiting to be taken back by the cloud", "a node that holds nothing")
    studio.center.take_back(victim)
    studio.until(lambda: _view(studio, job, victim).status is InstanceStatus.TERMINATED, "a farm that knows that the instance is gone")
    assert _view(studio, job, victim).note == "AWS took the spot instance back"
    said = [entry for entry in studio.journal(job) if entry.node == node_of_instance(victim)]
    return {entry.frame for entry in said if entry.outcome is Outcome.INTERRUPTED}


def _view(studio: Studio, job: str, instance: str) -> models.Instance:
    return next(one for one in studio.client.job(job).instances if one.id == instance)


def test_job_whose_nodes_fetch_its_files_themselves_outlives_a_machine_that_dies(studio: Studio, blend: Path) -> None:
    job = studio.submit(blend, frames="1-6", instances=2, market="on_demand", workspace_mode="s3", output=NAMED)
    victim = studio.until(lambda: _renderer(studio, job), "a node at its frame")
    studio.center.lose(victim)

    assert _wait_for_end(studio, job).status is JobStatus.COMPLETED

    _check_each_frame_was_received_once(studio, job, range(1, 7))
    assert _rendered_again(studio, job, instead_of=victim), "it held a frame"
    assert studio.launched("stage", job) == []
    assert len(studio.launched("render", job)) == 3, "two, and one in the place of that which died"
    _check_all_is_released(studio, job)
    assert studio.snapshots() == []


def _wait_for_end(studio: Studio, job: str) -> models.Job:
    studio.until(lambda: studio.client.job(job).ended_at, "the end of the job")
    return studio.client.job(job)


def _check_each_frame_was_received_once(studio: Studio, job: str, frames: range) -> None:
    """In the farm's eyes, in the bucket, and in what the nodes reported. No attempt failed."""
    seen = {frame.number: (frame.status, frame.reason) for frame in studio.client.frames(job)}
    assert seen == dict.fromkeys(frames, (FrameStatus.RECEIVED, ""))
    stored = sorted(split_output_key(listed.key) for listed in studio.objects.list(frames_prefix(job)))
    assert stored == [(number, f"kiln_{number:04d}.png") for number in frames]
    outcomes = Counter((entry.frame, entry.outcome) for entry in studio.journal(job))
    assert {frame: count for (frame, outcome), count in outcomes.items() if outcome is Outcome.FINISHED} == dict.fromkeys(frames, 1)
    assert Outcome.FAILED not in {outcome for _, outcome in outcomes}


def _rendered_again(studio: Studio, job: str, *, instead_of: str) -> set[int]:
    """The frames whose first attempt went with an instance: others rendered them."""
    again = [frame for frame in studio.client.frames(job) if frame.attempt > 1]
    assert node_of_instance(instead_of) not in {frame.node for frame in again}
    return {frame.number for frame in again}


def _check_zip(studio: Studio, job: str, frames: range, folder: Path) -> None:
    begun = studio.client.begin_download(job).id
    studio.until(lambda: studio.client.download(begun).status is DownloadStatus.READY, "the zip")
    studio.client.fetch_zip(studio.client.download(begun), folder / "frames.zip")
    with zipfile.ZipFile(folder / "frames.zip") as archive:
        assert sorted(archive.namelist()) == [f"kiln_{number:04d}.png" for number in frames]
        sizes = set()
        for name in archive.namelist():
            with archive.open(name) as file, Image.open(file) as picture:
                picture.load()
                sizes.add((picture.format, picture.size))
    assert sizes == {("PNG", (WIDTH, HEIGHT))}


def _check_all_is_released(studio: Studio, job: str) -> None:
    studio.until(lambda: not studio.rented(), "everything given back")
    assert [machine.folder.name for machine in studio.center.machines.values() if machine.processes()] == []
    assert studio.client.job(job).cost > 0
    assert json.loads(studio.kiln("sweep", "--dry-run", "--json"))["swept"] == []
