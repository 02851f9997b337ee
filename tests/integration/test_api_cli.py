"""The command line and the documented examples against a farm that really renders."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from app.cli.client import Client
from supervisor.cloud.local import processes
from supervisor.domain.job import JobStatus
from tests.integration.blender_here import ROOT, make_scenes
from tests.integration.test_serve import children, served
from tests.waiting import wait_until

KILN = [sys.executable, "-c", "from app.cli import main; main()"]
PASSWORD = "a long enough one\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    """A served farm, a token, and a scene of one sample."""

    data: Path
    address: str
    token: str
    blend: Path
    home: Path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "KILN_SERVER": self.address, "KILN_TOKEN": self.token, "XDG_STATE_HOME": str(self.home / "state")}

    def kiln(self, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        words = [*KILN, *map(str, arguments)]
        return subprocess.run(
            words, cwd=ROOT, env=self.environment(), input=stdin, capture_output=True, text=True, timeout=120, check=False
        )

    def client(self) -> Client:
        return Client(self.address, self.token)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    home = tmp_path_factory.mktemp("studio")
    (home / "scenes").mkdir()
    make_scenes(home / "scenes")
    data = home / "data"
    try:
        with served(data) as server:
            before = Studio(data=data, address=f"http://127.0.0.1:{server.port}", token="", blend=home / "shot.blend", home=home)
            shutil.copy(home / "scenes" / "plain.blend", before.blend)
            assert before.kiln("user", "add", "ada", "--data", data, stdin=PASSWORD).returncode == 0
            token = before.kiln("token", "create", "ada", "--data", data).stdout.strip()
            yield Studio(data=data, address=before.address, token=token, blend=before.blend, home=home)
            server.end()
    finally:
        processes.end_all(children(data), grace_s=0)


def test_submitted_project_comes_home_rendered(studio: Studio, tmp_path: Path) -> None:
    done = studio.kiln("submit", studio.blend, "--frames", "1-3", "--instances", "2", "--download", tmp_path / "frames")
    assert done.returncode == 0, done.stderr
    job = done.stdout.splitlines()[0]
    frames = sorted((tmp_path / "frames").iterdir())
    assert [frame.name[-8:] for frame in frames] == ["0001.png", "0002.png", "0003.png"]
    for frame in frames:
        with Image.open(frame) as picture:
            picture.load()
    assert "completed, 3 of 3 frames" in done.stderr
    assert json.loads(studio.kiln("jobs", "--json").stdout)[0]["id"] == job


def test_submit_that_waits_for_a_job_that_is_cancelled_exits_with_1_and_says_so(studio: Studio) -> None:
    client = studio.client()

    def cancel_when_it_renders() -> None:
        def is_rendering() -> bool:
            newest = client.jobs(limit=1)
            return bool(newest) and newest[0].name == "doomed" and newest[0].status is JobStatus.RENDERING

        wait_until(is_rendering, timeout_s=60)
        client.wish(client.jobs(limit=1)[0].id, "cancel")

    thread = threading.Thread(target=cancel_when_it_renders)
    thread.start()
    ended = studio.kiln("submit", studio.blend, "--frames", "1-2000", "--name", "doomed", "--wait")
    thread.join()
    client.close()
    assert ended.returncode == 1
    assert "doomed cancelled" in ended.stderr


def test_doctor_and_sweep_look_at_the_served_farm(studio: Studio) -> None:
    seen = json.loads(studio.kiln("doctor", "--json", "--data", studio.data).stdout)
    found = {check["name"]: check for check in seen}
    assert found["server"]["is_ok"], found
    assert "last tick was" in found["server"]["text"]
    assert found["object store"]["is_ok"], found
    swept = studio.kiln("sweep", "--dry-run", "--json", "--data", studio.data)
    assert json.loads(swept.stdout) == {"dry_run": True, "swept": []}


def test_backup_with_objects_makes_a_farm_that_has_the_frames(studio: Studio, tmp_path: Path) -> None:
    done = studio.kiln("submit", studio.blend, "--frames", "5", "--wait", "--json")
    job = json.loads(done.stdout)["id"]
    taken = studio.kiln("backup", tmp_path / "farm.tar.gz", "--with-objects", "--data", studio.data)
    assert taken.returncode == 0, taken.stderr
    data = tmp_path / "again"
    try:
        restored = studio.kiln("restore", tmp_path / "farm.tar.gz", "--data", data)
        assert restored.returncode == 0, restored.stderr
        assert children(data) == [], "the store that took the objects has ended"
        with served(data) as server:
            client = Client(f"http://127.0.0.1:{server.port}", studio.token)
            (frame,) = client.frames(job)
            (output,) = frame.outputs
            body = b"".join(client.fetch_output(job, 5, output.name))
            client.close()
            server.end()
        assert len(body) == output.bytes
        assert body.startswith(b"\x89PNG")
    finally:
        processes.end_all(children(data), grace_s=0)


def test_examples_of_the_api_documentation_work_as_written(studio: Studio, tmp_path: Path) -> None:
    """All of them, one after another in one shell, as a reader would paste them."""
    shutil.copy(studio.blend, tmp_path / "shot.blend")
    (tmp_path / "textures").mkdir()
    (tmp_path / "textures" / "wood.png").write_bytes(os.urandom(9 << 20))
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 4
    script = "\n".join(["set -euo pipefail", *blocks])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=studio.environment(), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.glob("*.zip")), done.stdout
    assert list(tmp_path.glob("*.png")), done.stdout


def test_zip_of_a_project_is_unpacked_and_rendered(studio: Studio, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "project.zip", "w") as archive:
        archive.write(studio.blend, "scenes/shot.blend")
        archive.write(studio.blend, "scenes/other.blend")
        archive.writestr("tex/wood.png", os.urandom(1000))
    unclear = studio.kiln("submit", tmp_path / "project.zip", "--frames", "1")
    assert unclear.returncode == 1
    assert "--main scenes/other.blend" in unclear.stderr
    done = studio.kiln("submit", tmp_path / "project.zip", "--frames", "1", "--main", "scenes/shot.blend", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["main_file"], job["status"], job["files"]["count"]) == ("scenes/shot.blend", "completed", 3)
