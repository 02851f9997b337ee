"""The program on the instance that becomes an image: run as it is sent, with a real store, small provisioners, and no machine to stop."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from ami.user_data import MOST_BYTES, builder_user_data
from nodeimage.launch import BuildReport, BuildState, build_bundle_key, build_log_key, build_report_key
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.s3 import S3ObjectStore

BUCKET = "kiln"


@dataclass(frozen=True)
class Machine:
    """A folder that stands for the builder's disk."""

    folder: Path
    store: S3ObjectStore
    environment: dict[str, str]
    build: str

    def run(self, provisioners: str, *, spoil: bool = False) -> BuildReport:
        """Run the program as the machine's unit does. Returns: its last report"""
        body = bundle(provisioners)
        self.store.put(build_bundle_key(self.build), body)
        sha256 = hashlib.sha256(b"other" if spoil else body).hexdigest()
        orders = {
            "build": self.build,
            "region": "us-east-1",
            "endpoint": self.environment["ENDPOINT"],
            "bucket": BUCKET,
            "bundle": build_bundle_key(self.build),
            "bundle_sha256": sha256,
            "received_bucket": BUCKET,
            "report": build_report_key(self.build),
            "log": build_log_key(self.build),
        }
        self._unpack(builder_user_data(orders, longest_minutes=10))
        ended = subprocess.run([sys.executable, "on_builder.py"], cwd=self.folder / "kiln-build", env=self.environment, timeout=60)
        assert ended.returncode == 0
        stored = self.store.get(build_report_key(self.build))
        assert stored is not None
        return BuildReport.from_bytes(stored.body)

    def _unpack(self, script: str) -> None:
        """Do what the user data does with the files that it carries."""
        home = self.folder / "kiln-build"
        home.mkdir()
        program, orders = re.findall(r"^echo (\S+) \| base64 -d", script, re.MULTILINE)
        (home / "on_builder.py").write_bytes(gzip.decompress(base64.b64decode(program)))
        (home / "orders.json").write_bytes(base64.b64decode(orders))

    def did(self) -> list[str]:
        path = self.folder / "did"
        return path.read_text().split() if path.exists() else []


def bundle(provisioners: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("provisioners/run")
        member.size, member.mode = len(provisioners.encode()), 0o755
        archive.addfile(member, io.BytesIO(provisioners.encode()))
    return packed.getvalue()


@pytest.fixture
def machine(tmp_path: Path, weed: SeaweedFS, object_store: S3ObjectStore, request: pytest.FixtureRequest) -> Machine:
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "kiln-build.service").touch()
    for name in ("poweroff", "reboot"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/did\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"],
        "ENDPOINT": weed.endpoint,
        # on AWS the instance's role reads agent/; here the nodes' keys do not, and the farm's do
        "AWS_ACCESS_KEY_ID": weed.keys.farm_access,
        "AWS_SECRET_ACCESS_KEY": weed.keys.farm_secret,
        "KILN_POWEROFF": str(tmp_path / "poweroff"),
        "KILN_REBOOT": str(tmp_path / "reboot"),
        "KILN_UNITS": str(tmp_path / "units"),
    }
    build = "build_" + hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    store = S3ObjectStore(weed.connect(), BUCKET)
    return Machine(folder=tmp_path, store=store, environment=environment, build=build)


def test_finished_build_reports_and_leaves_nothing_of_itself(machine: Machine) -> None:
    report = machine.run("echo kiln-progress 1/1 All of it; echo kiln-done abc")
    assert (report.state, report.progress, report.tail[-1]) == (BuildState.DONE, "1/1 All of it", "kiln-done abc")
    assert machine.did() == ["poweroff"]
    assert not (machine.folder / "kiln-build").exists()
    assert list((machine.folder / "units").iterdir()) == []


def test_failed_build_says_which_provisioner_failed_and_sends_its_log(machine: Machine) -> None:
    report = machine.run("echo kiln-progress 5/9 Blender; echo out of room; echo kiln-failed 50-blender.sh: out of room; exit 1")
    assert (report.state, report.message) == (BuildState.FAILED, "50-blender.sh: out of room")
    log = machine.store.get(build_log_key(machine.build))
    assert log is not None
    assert b"out of room" in log.body
    assert machine.did() == ["poweroff"]


def test_build_that_asks_for_a_restart_goes_on_after_it(machine: Machine) -> None:
    marker = machine.folder / "restarted"
    script = f"[ -e {marker} ] && exit 0; touch {marker}; exit 100"
    assert machine.run(script).state is BuildState.RUNNING
    assert machine.did() == ["reboot"]
    subprocess.run([sys.executable, "on_builder.py"], cwd=machine.folder / "kiln-build", env=machine.environment, timeout=60, check=True)
    stored = machine.store.get(build_report_key(machine.build))
    assert stored is not None
    assert BuildReport.from_bytes(stored.body).state is BuildState.DONE


def test_bundle_that_is_not_the_farms_is_not_run(machine: Machine) -> None:
    report = machine.run(f"touch {machine.folder}/ran", spoil=True)
    assert report.state is BuildState.FAILED
    assert "not what the farm put there" in report.message
    assert not (machine.folder / "ran").exists()


def test_user_data_is_small_and_carries_no_secret() -> None:
    script = builder_user_data({"build": "build_1"}, longest_minutes=180)
    assert len(script.encode()) < MOST_BYTES
    carried = b"".join(base64.b64decode(text) for text in re.findall(r"^echo (\S+) \| base64 -d", script, re.MULTILINE)[1:])
    assert json.loads(carried) == {"build": "build_1"}


def test_builder_that_hangs_stops_itself_after_a_restart_too() -> None:
    before, _, unit = builder_user_data({"build": "build_1"}, longest_minutes=180).partition("[Service]\n")
    assert "\nshutdown -h +180\n" in before
    plan = "ExecStartPre=/bin/sh -c 'test -e /run/systemd/shutdown/scheduled || shutdown -h +180'"
    assert plan in unit.splitlines(), "a planned shutdown does not outlive a restart, and the script runs once"


def test_user_data_is_a_script_that_bash_reads(tmp_path: Path) -> None:
    path = tmp_path / "user-data"
    path.write_text(builder_user_data({"build": "build_1"}, longest_minutes=180))
    checked: list[list[str | Path]] = [["bash", "-n"], [Path(sys.executable).with_name("shellcheck"), "--severity=warning"]]
    assert [subprocess.run([*command, path]).returncode for command in checked] == [0, 0]
