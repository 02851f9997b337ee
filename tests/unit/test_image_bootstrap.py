"""The bootstrap: fetches the agent with the instance role's keys, refuses another, becomes it. Metadata service and store are real HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from ami.check.metadata import MetadataServer, values_for
from ami.recipe import ROOTFS
from tests.aws.moto_server import Moto
from tests.aws.signed_out import NO_FILES

from .image_files import LIB, an_archive, load

bootstrap = load("bootstrap")
KEY = "agent/1.pyz"
BUCKET = "kiln-farm-projects"


@pytest.fixture
def store(moto: Moto) -> str:
    """The address of an S3."""
    return moto.url


@pytest.fixture
def client(moto: Moto) -> Any:
    made = moto.client("s3")
    made.create_bucket(Bucket=BUCKET)
    return made


@pytest.fixture
def metadata() -> Iterator[MetadataServer]:
    with MetadataServer(("127.0.0.1", 0), values_for("i-0abc", None)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def write_launch(folder: Path, store: str, archive: bytes) -> str:
    """Leave the launch as `launch.py` does. Returns: the agent's checksum"""
    sha256 = hashlib.sha256(archive).hexdigest()
    told = {"projects_bucket": BUCKET, "region": "us-east-1", "endpoint": store, "agent": KEY, "agent_sha256": sha256}
    (folder / "launch.json").write_text(json.dumps(told))
    return sha256


def run_bootstrap(folder: Path, metadata: MetadataServer, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it as the unit does. Without keys in the environment: the role's are the only ones."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url, "KILN_RUN": str(folder), "KILN_AGENTS": str(folder / "agents")}
    environment |= NO_FILES
    (folder / "agents").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-I", LIB / "bootstrap.py", *words], env=environment, capture_output=True, text=True, check=False
    )


def test_bootstrap_becomes_the_agent_with_the_roles_keys(client: Any, store: str, metadata: MetadataServer, tmp_path: Path) -> None:
    archive = an_archive("import os, sys, nodeimage; print(os.path.dirname(nodeimage.__file__), os.getppid())")
    sha256 = write_launch(tmp_path, store, archive)
    client.put_object(Bucket=BUCKET, Key=KEY, Body=archive)
    ran = run_bootstrap(tmp_path, metadata)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == [str(tmp_path / "agents" / sha256 / "nodeimage"), str(os.getpid())]


def test_exit_status_is_the_agents_own(client: Any, store: str, metadata: MetadataServer, tmp_path: Path) -> None:
    archive = an_archive("raise SystemExit(7)")
    write_launch(tmp_path, store, archive)
    client.put_object(Bucket=BUCKET, Key=KEY, Body=archive)
    assert run_bootstrap(tmp_path, metadata).returncode == 7


def test_agent_other_than_the_launch_names_is_not_run(client: Any, store: str, metadata: MetadataServer, tmp_path: Path) -> None:
    intruder = an_archive("print('an intruder')")
    sha256 = write_launch(tmp_path, store, an_archive())
    client.put_object(Bucket=BUCKET, Key=KEY, Body=intruder)
    ran = run_bootstrap(tmp_path, metadata)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"not the one that the launch names: SHA-256 {hashlib.sha256(intruder).hexdigest()}, not {sha256}" in ran.stderr
    assert list((tmp_path / "agents").iterdir()) == []


def test_agent_that_is_there_already_is_not_fetched_again(client: Any, store: str, metadata: MetadataServer, tmp_path: Path) -> None:
    archive = an_archive()
    write_launch(tmp_path, store, archive)
    client.put_object(Bucket=BUCKET, Key=KEY, Body=archive)
    run_bootstrap(tmp_path, metadata)
    client.delete_object(Bucket=BUCKET, Key=KEY)
    assert run_bootstrap(tmp_path, metadata).stdout == "the agent runs\n"


@pytest.mark.usefixtures("client")
def test_agent_that_is_not_in_the_bucket_is_said_at_once(store: str, metadata: MetadataServer, tmp_path: Path) -> None:
    write_launch(tmp_path, store, b"never uploaded")
    ran = run_bootstrap(tmp_path, metadata)
    assert ran.returncode == 1
    assert f"s3://{BUCKET}/{KEY} can't be fetched" in ran.stderr


def test_check_is_the_agents_own_to_do(client: Any, store: str, metadata: MetadataServer, tmp_path: Path) -> None:
    archive = an_archive("import sys; print(sys.argv[1:])")
    write_launch(tmp_path, store, archive)
    client.put_object(Bucket=BUCKET, Key=KEY, Body=archive)
    ran = run_bootstrap(tmp_path, metadata, "--check")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "['--check']\n", "")


def test_unpacking_cut_short_is_begun_again(tmp_path: Path) -> None:
    archive = an_archive()
    sha256 = hashlib.sha256(archive).hexdigest()
    (tmp_path / f".{sha256}.new" / "half").mkdir(parents=True)
    folder = bootstrap.unpacked(archive, sha256, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["nodeimage"]
    assert [path.name for path in tmp_path.iterdir()] == [sha256]


def test_unpacked_agent_can_be_read_by_blenders_user_whatever_the_umask(tmp_path: Path) -> None:
    archive = an_archive()
    before = os.umask(0o077)
    try:
        folder = bootstrap.unpacked(archive, hashlib.sha256(archive).hexdigest(), tmp_path)
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()} == {"0o644"}
    assert folder.stat().st_mode & 0o777 == 0o755


def test_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(bootstrap.NoAgent, match="can't be unpacked"):
        bootstrap.unpacked(b"no zip", hashlib.sha256(b"no zip").hexdigest(), tmp_path)


def test_store_that_does_not_answer_is_asked_again_with_growing_pauses() -> None:
    pauses: list[float] = []
    silent = boto3.client(
        "s3", endpoint_url="http://127.0.0.1:9", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with pytest.raises(bootstrap.NoAgent, match="can't be fetched"):
        bootstrap.fetched(silent, BUCKET, KEY, pause=pauses.append)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0, 20.0, 20.0]
    assert _of_unit("StartLimitBurst") * sum(pauses) > 9 * 60


def test_an_agent_that_hangs_each_time_is_started_so_often_and_then_given_up() -> None:
    starts = _of_unit("StartLimitBurst")
    assert starts * (_of_unit("WatchdogSec") + _of_unit("RestartSec")) < _of_unit("StartLimitIntervalSec")


def _of_unit(setting: str) -> int:
    [number] = re.findall(rf"^{setting}=(\d+)$", (ROOTFS / "usr/lib/systemd/system/kiln-node.service").read_text(), re.MULTILINE)
    return int(number)
