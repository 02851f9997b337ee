"""The agent's one file: the same everywhere, complete, and put into the store once."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from nodeimage import release
from nodeimage.protocol import VERSION
from nodeimage.release import agent_archive, agent_release
from supervisor.cloud.agent import publish_agent
from tests.fakes import FakeCloud

#: What an image's Python has besides the standard library.
ON_THE_IMAGE = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six.py", "urllib3")


def names(archive: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(archive)).namelist()


def test_archive_holds_the_package_and_nothing_that_the_image_has() -> None:
    packed = names(agent_archive())
    assert {"nodeimage/__init__.py", "nodeimage/instance/__main__.py", "nodeimage/agent/loop.py", "nodeimage/driver/driver.py"} <= set(
        packed
    )
    assert packed == sorted(packed)
    assert all(name.endswith(".py") and "/rootfs/" not in name and "__pycache__" not in name for name in packed)


def test_same_files_make_the_same_bytes_whenever_and_wherever_they_lie(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(release.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    (copy / "agent" / "__pycache__").mkdir()
    (copy / "agent" / "__pycache__" / "loop.py").write_text("left over")
    (copy / "rootfs").mkdir(exist_ok=True)
    (copy / "rootfs" / "launch.py").write_text("on the image")
    assert agent_archive(copy) == agent_archive()


def test_other_content_is_another_version(tmp_path: Path) -> None:
    copy = tmp_path / "changed"
    shutil.copytree(release.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    changed = copy / "agent" / "loop.py"
    changed.write_text(changed.read_text() + "\n")
    assert agent_release(copy).version != agent_release().version


def test_release_is_named_by_protocol_and_content() -> None:
    told = agent_release()
    assert told.sha256 == hashlib.sha256(told.body).hexdigest()
    assert told.version == f"{VERSION}-{told.sha256[:16]}"
    assert told.key == f"agent/{told.version}.pyz"


def test_unpacked_agent_runs_where_nothing_but_boto3_is_installed(tmp_path: Path) -> None:
    zipfile.ZipFile(io.BytesIO(agent_archive())).extractall(tmp_path / "agent")
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ON_THE_IMAGE:
        (packages / name).symlink_to(Path(sysconfig.get_paths()["purelib"]) / name)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{tmp_path / 'agent'}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
    # -S: without the packages of this environment
    checked = subprocess.run(
        [sys.executable, "-S", "-m", "nodeimage.instance", "--check"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr
    assert "all is there" in checked.stderr


def test_farm_puts_its_agent_into_the_store_once(fake_cloud: FakeCloud) -> None:
    told = publish_agent(fake_cloud.ports.objects)
    stored = fake_cloud.ports.objects.get(told.key)
    assert stored is not None
    assert stored.body == told.body
    assert publish_agent(fake_cloud.ports.objects) == told
    assert [listed.key for listed in fake_cloud.ports.objects.list("agent/")] == [told.key]
