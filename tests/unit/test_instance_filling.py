"""The program that fills a volume on the farm's own instance: it finds that very volume, overwrites nothing, and ends with the farm."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nodeimage.disks import Disks
from nodeimage.instance.filling import LABEL, OPTIONS, OWNER, Commands, NotReady, Target, fill, mount_volume, wait_for_device
from nodeimage.launch import Role, StagingReport, StagingState, WorkspaceKind
from nodeimage.protocol import staging_key
from tests.conventions.sources import ROOT
from tests.waiting import wait_until

from .agent_fakes import JOB
from .image_files import load
from .instance_fakes import Bench, a_launch

BODIES = {"a.blend": b"blend" * 100, "tex/wood.png": b"wood"}
TARGET = Target(volume="vol-0abc", attached_as="/dev/sdf", gib=1)
MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Stands in for a blank volume."""
    path = tmp_path / "volume"
    with path.open("wb") as file:
        file.truncate(16 * MIB)
    return path


def commands(tmp_path: Path, **others: str) -> Commands:
    """As in earnest, but that mounting and giving to root take no root here: `mounted` notes what would be mounted where."""
    note = f"import sys; open({str(tmp_path / 'mounted')!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))"
    stand_ins = {"mount": shlex.join([sys.executable, "-c", note]), "own": "true", "probe": "/usr/sbin/blkid --probe --output export"}
    make = Commands().make.replace("mkfs.ext4", "/usr/sbin/mkfs.ext4")
    return replace(Commands(), **{"make": make, **stand_ins, **others})


def probed(image: Path) -> str:
    return subprocess.run(["/usr/sbin/blkid", "--probe", "--output", "export", image], capture_output=True, text=True, check=True).stdout


def test_blank_volume_gets_the_farms_file_system_once(image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    mount_volume(image, folder, commands(tmp_path))
    made = probed(image)
    assert f"LABEL={LABEL}" in made
    assert "TYPE=ext4" in made
    mount_volume(image, folder, commands(tmp_path))
    assert probed(image) == made, "what a broken-off filling left is mounted as it is"
    assert (tmp_path / "mounted").read_text() == f"{image} {folder}\n" * 2
    assert folder.stat().st_mode & 0o7777 == 0o2775


@pytest.mark.parametrize("maker", ["/usr/sbin/mkfs.ext4 -q -L data", "/usr/sbin/mkswap -q"])
def test_volume_with_something_else_on_it_is_left_alone(image: Path, tmp_path: Path, maker: str) -> None:
    subprocess.run([*maker.split(), str(image)], check=True, capture_output=True)
    before = image.read_bytes()
    with pytest.raises(NotReady, match="and not the farm's file system: it is left alone"):
        mount_volume(image, tmp_path / "workspace", commands(tmp_path))
    assert image.read_bytes() == before
    assert not (tmp_path / "mounted").exists()


def test_command_that_fails_is_told_in_its_own_words(image: Path, tmp_path: Path) -> None:
    refuses = shlex.join([sys.executable, "-c", "raise SystemExit('must be superuser to use mount')"])
    with pytest.raises(NotReady, match=r"can't be made ready: .*must be superuser to use mount"):
        mount_volume(image, tmp_path / "workspace", commands(tmp_path, mount=refuses))


def test_volume_is_made_as_the_image_of_nodes_expects_it() -> None:
    on_image = load("workspace_volume")
    users = (ROOT / "nodeimage/rootfs/usr/lib/sysusers.d/kiln.conf").read_text()
    assert (LABEL, OPTIONS) == (on_image.LABEL, on_image.OPTIONS)
    assert f"g blender {OWNER.partition(':')[2]}\n" in users


def test_device_is_waited_for_and_no_other_is_taken(tmp_path: Path) -> None:
    disks = Disks(sys=tmp_path / "sys", dev=tmp_path / "dev")
    with pytest.raises(NotReady, match="vol-0abc was attached as /dev/sdf, and no disk of this machine is it"):
        wait_for_device(TARGET, disks, pause=lambda seconds: None, patience_s=0)


def test_files_are_fetched_verified_and_told_in_the_name_of_the_volume(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    files = bench.store.put_job_files(BODIES)
    launch = a_launch(Role.STAGE, workspace=WorkspaceKind.BLANK, unreachable_s=5.0)
    machine = bench.instance(launch).machine
    fill(TARGET, launch, machine, bench.store, pause=lambda seconds: None)
    told = StagingReport.from_bytes(bench.store.body(staging_key(JOB)))
    assert (told.state, told.instance, told.content) == (StagingState.DONE, "vol-0abc", files.content)
    assert (bench.workspace / "tex/wood.png").read_bytes() == b"wood"


def start(tmp_path: Path) -> subprocess.Popen[bytes]:
    """Start the program without a mount namespace of its own, as nobody should."""
    words = [sys.executable, "-m", "nodeimage.instance.filling", "--volume", "vol-0abc", "--attached-as", "/dev/sdf", "--gib", "1"]
    places = {f"KILN_{name}": str(tmp_path / name.lower()) for name in ("LAUNCH", "HOME", "WORKSPACE")}
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **places}, cwd=ROOT, start_new_session=True
    )


def test_program_refuses_to_mount_where_others_would_see_it(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert process.wait(timeout=60) == 1
        assert process.stderr
        said = process.stderr.read().decode()
    assert said.strip().splitlines()[-1] == "it was not started in a mount namespace of its own"


WAITS = """
import subprocess, sys, threading
from nodeimage.instance.filling import end_with
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
end_with(sys.stdin.buffer)
threading.Event().wait()
"""


def test_program_and_what_it_started_end_with_the_farm() -> None:
    words = [sys.executable, "-c", WAITS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True) as process:
        assert process.stdin
        assert process.stdout
        grandchild = int(process.stdout.readline())
        process.stdin.close()  # as the kernel does when the farm dies
        assert process.wait(timeout=30) == -signal.SIGKILL
    wait_until(lambda: not _is_alive(grandchild))


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
