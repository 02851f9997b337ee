"""The agent as it travels: everything it needs, nothing of the image's, the same bytes each time."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

from nodeimage.archive import agent_archive


def test_archive_has_agent_and_driver_and_nothing_of_the_image() -> None:
    names = zipfile.ZipFile(io.BytesIO(agent_archive())).namelist()
    assert {"nodeimage/protocol.py", "nodeimage/agent/__main__.py", "nodeimage/driver/driver.py", "nodeimage/systemd.py"} <= set(names)
    assert not [name for name in names if "rootfs" in name or name.endswith(".pyc")]


def test_archive_is_the_same_bytes_each_time() -> None:
    assert agent_archive() == agent_archive()


def test_unpacked_archive_runs_by_itself(tmp_path: Path) -> None:
    zipfile.ZipFile(io.BytesIO(agent_archive())).extractall(tmp_path)
    program = "import nodeimage.agent.__main__, nodeimage.launch; print(nodeimage.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == str(tmp_path / "nodeimage" / "__init__.py")
