"""The processes that fill volumes: started with what they need, looked at, ended with all that they started, and nothing left of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nodeimage.disks import Disks
from supervisor.cloud.aws.inventory import FarmVolume
from supervisor.cloud.aws.own_filling import Fillings
from supervisor.cloud.aws.session import AwsSession, Keys
from supervisor.cloud.aws.staging_terms import Filling
from tests.waiting import wait_until

from .instance_fakes import a_launch

VOLUME = FarmVolume(
    id="vol-0abc",
    job="job_1",
    role="stage",
    request="r",
    state="in-use",
    gib=5,
    created_at=datetime(2026, 1, 5, tzinfo=UTC),
    is_blank=True,
    device="/dev/sdf",
    instance="i-here",
    attachment="attached",
    host="i-here",
)
#: Stands in for the program: it notes what it was given, then does what a file beside the notes says.
PROGRAM = """
import json, os, pathlib, subprocess, sys, time
home = pathlib.Path(os.environ["KILN_HOME"])
home.mkdir(exist_ok=True)
pathlib.Path(os.environ["KILN_WORKSPACE"]).mkdir(exist_ok=True)
launch = json.loads(pathlib.Path(os.environ["KILN_LAUNCH"]).read_text())
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
given = {"words": sys.argv[1:], "job": launch["job"], "keys": os.environ["AWS_ACCESS_KEY_ID"], "child": child.pid}
notes = pathlib.Path(os.environ["KILN_NOTES"])
(notes / "given.new").write_text(json.dumps(given))
(notes / "given.new").rename(notes / "given")
if (notes / "fails").exists():
    child.kill()
    sys.exit("mount: permission denied")
if (notes / "ends").exists():
    child.kill()
    sys.exit(0)
sys.stdin.read()
"""


class Bench:
    """A farm that may start the program."""

    def __init__(self, folder: Path) -> None:
        self.notes, self.folder = folder / "notes", folder / "filling"
        self.notes.mkdir()
        session = AwsSession(region="us-east-1", keys=Keys(access_key="AKIA", secret_key="s"))
        self.fillings = Fillings(
            self.folder, session, command=(sys.executable, "-c", PROGRAM), disks=Disks(sys=folder / "none", dev=folder / "none")
        )

    def start(self) -> None:
        self.fillings.start(VOLUME, a_launch(job="job_1"))

    def given(self) -> dict[str, object]:
        """What the program was given, once it has noted it."""
        path = self.notes / "given"
        wait_until(path.exists)
        told: dict[str, object] = json.loads(path.read_text())
        return told


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    monkeypatch.setenv("KILN_NOTES", str(bench.notes))
    yield bench
    bench.fillings.end(VOLUME.id)


def test_program_is_given_the_volume_the_launch_and_the_farms_keys(bench: Bench) -> None:
    assert bench.fillings.look(VOLUME.id) is None
    bench.start()
    given = bench.given()
    assert given["words"] == ["--volume", "vol-0abc", "--attached-as", "/dev/sdf", "--gib", "5"]
    assert (given["job"], given["keys"]) == ("job_1", "AKIA")
    assert bench.fillings.look(VOLUME.id) == Filling()


def test_filling_that_runs_is_not_started_again(bench: Bench) -> None:
    bench.start()
    given, launch = bench.given(), (bench.folder / VOLUME.id / "launch.json").read_bytes()
    (bench.notes / "given").unlink()

    bench.fillings.start(VOLUME, a_launch(job="job_2"))

    assert (bench.folder / VOLUME.id / "launch.json").read_bytes() == launch
    bench.fillings.end(VOLUME.id)
    assert not (bench.notes / "given").exists(), f"a second one beside {given}"


def test_filling_that_is_ended_is_gone_with_all_that_it_started_and_leaves_nothing(bench: Bench) -> None:
    bench.start()
    child = Path(f"/proc/{bench.given()['child']}/stat")
    bench.fillings.end(VOLUME.id)
    bench.fillings.end(VOLUME.id)
    assert bench.fillings.look(VOLUME.id) is None
    assert list(bench.folder.iterdir()) == []
    wait_until(lambda: not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z")


def test_filling_that_fails_is_told_in_its_last_words(bench: Bench) -> None:
    (bench.notes / "fails").touch()
    bench.start()
    wait_until(lambda: bench.fillings.look(VOLUME.id) == Filling(status=1, last_words="mount: permission denied"))


def test_filling_that_has_ended_well_says_so(bench: Bench) -> None:
    (bench.notes / "ends").touch()
    bench.start()
    wait_until(lambda: bench.fillings.look(VOLUME.id) == Filling(status=0))


def test_program_that_can_not_be_started_has_failed(bench: Bench) -> None:
    bench.folder.write_text("a file where the folder should be")
    bench.start()
    found = bench.fillings.look(VOLUME.id)
    assert found is not None
    assert found.status == 1
    assert found.last_words.startswith("it could not be started: ")
    bench.folder.unlink()


def test_files_at_the_place_of_the_mount_are_never_deleted(bench: Bench) -> None:
    bench.start()
    bench.given()
    kept = bench.folder / VOLUME.id / "workspace" / "scene.blend"
    kept.write_bytes(b"as if the volume were mounted where the farm sees it")
    bench.fillings.end(VOLUME.id)
    assert kept.exists()


def test_volume_that_this_machine_does_not_have_is_not_in_use_here(bench: Bench) -> None:
    assert not bench.fillings.is_in_use(replace(VOLUME, instance="i-other"))
