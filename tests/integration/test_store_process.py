"""SeaweedFS as a child process: what outlives it, who may use it, and that none is left behind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeimage.protocol import claim_key, project_key, status_key
from supervisor.cloud.local import processes
from supervisor.cloud.local.processes import ProcessId
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.ports import Refused, Unreachable
from supervisor.cloud.s3 import S3ObjectStore
from supervisor.cloud.s3_client import connect_s3
from tests.waiting import wait_until


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "a data folder"
    processes.end_all(running(tmp_path / "a data folder"), grace_s=0)


def running(data: Path) -> list[ProcessId]:
    return processes.with_environment(f"HOME={data}/")


def started(data: Path) -> SeaweedFS:
    store = SeaweedFS(data, bucket="kiln")
    store.start()
    return store


def objects_of(store: SeaweedFS) -> S3ObjectStore:
    return S3ObjectStore(store.connect(attempts=1), "kiln")


def test_objects_and_address_outlive_a_stop(data: Path) -> None:
    first = started(data)
    objects_of(first).put("projects/a", b"one")
    assert first.is_running()
    first.stop()
    assert not first.is_running()
    assert running(data) == []
    with pytest.raises(Unreachable):
        objects_of(first).get("projects/a")
    second = started(data)
    assert second.endpoint == first.endpoint
    assert objects_of(second).get("projects/a") is not None
    second.stop()


def test_objects_outlive_a_kill_and_the_watchdog_starts_it_again(data: Path) -> None:
    store = started(data)
    keys = [f"projects/{number}" for number in range(20)]
    for key in keys:
        objects_of(store).put(key, key.encode())
    assert store.ensure_running() is False
    [process] = running(data)
    process.kill()
    wait_until(lambda: not process.is_alive())
    assert store.ensure_running() is True
    assert [entry.key for entry in objects_of(store).list("projects/")] == sorted(keys)
    store.stop()
    assert store.ensure_running() is False
    assert running(data) == []


def test_store_that_a_killed_server_left_is_ended_before_another_starts(data: Path) -> None:
    first = started(data)
    objects_of(first).put("projects/a", b"one")
    [left] = running(data)
    (data / "store" / "process.json").unlink()  # killed before it could write it down
    second = started(data)
    assert not left.is_alive()
    assert len(running(data)) == 1
    assert objects_of(second).get("projects/a") is not None
    second.stop()
    first.stop()


def test_store_is_stopped_by_a_process_that_did_not_start_it(data: Path) -> None:
    starter = started(data)
    SeaweedFS(data, bucket="kiln").stop()
    assert running(data) == []
    starter.stop()


def test_taken_port_makes_it_choose_others(data: Path) -> None:
    first = started(data)
    objects_of(first).put("projects/a", b"one")
    first.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(first.endpoint.rpartition(":")[2])))
        taken.listen()
        second = started(data)
        assert second.endpoint != first.endpoint
        assert objects_of(second).get("projects/a") is not None
        second.stop()


def test_attached_process_uses_the_store_that_another_runs(data: Path) -> None:
    starter = started(data)
    objects_of(starter).put("projects/a", b"one")
    beside = SeaweedFS(data, bucket="kiln")
    beside.attach()
    assert beside.is_answering()
    assert objects_of(beside).get("projects/a") is not None
    assert beside.ensure_running() is False
    beside.stop()
    assert not beside.is_answering()
    starter.stop()


def test_keys_are_made_once_and_for_their_owner_alone(data: Path) -> None:
    first = started(data)
    keys = first.keys
    first.stop()
    second = started(data)
    assert second.keys == keys
    second.stop()
    for name in ("keys.json", "s3.json", "ports.json"):
        assert (data / "store" / name).stat().st_mode & 0o777 == 0o600
    assert keys.farm_secret not in repr(keys)


@pytest.fixture
def node(weed: SeaweedFS) -> S3ObjectStore:
    """The store as a node sees it."""
    keys = weed.keys
    client: Any = connect_s3(weed.endpoint, region="us-east-1", access_key=keys.node_access, secret_key=keys.node_secret, attempts=1)
    return S3ObjectStore(client, "kiln")


def test_node_reads_projects_and_claims_and_reports(node: S3ObjectStore, object_store: S3ObjectStore) -> None:
    object_store.put(project_key("job_node", "scene.blend"), b"BLENDER")
    assert node.get(project_key("job_node", "scene.blend")) is not None
    assert node.put(claim_key("job_node", 1), b"{}", if_absent=True) is True
    assert node.put(claim_key("job_node", 1), b"{}", if_absent=True) is False
    assert node.put(status_key("node_1"), b"{}") is True
    assert len(list(node.list("received/job_node/"))) == 1
    node.delete([claim_key("job_node", 1)])
    assert node.get(claim_key("job_node", 1)) is None


def test_node_may_not_change_projects_nor_read_elsewhere(node: S3ObjectStore, object_store: S3ObjectStore) -> None:
    object_store.put(project_key("job_node", "scene.blend"), b"BLENDER")
    object_store.put("secret/a", b"x")
    with pytest.raises(Refused):
        node.put(project_key("job_node", "scene.blend"), b"changed")
    with pytest.raises(Refused):
        node.delete([project_key("job_node", "scene.blend")])
    with pytest.raises(Refused):
        node.get("secret/a")
    there = object_store.get(project_key("job_node", "scene.blend"))
    assert there is not None
    assert there.body == b"BLENDER"


def test_stranger_gets_nothing(weed: SeaweedFS, object_store: S3ObjectStore) -> None:
    object_store.put("received/job_node/x", b"x")
    client: Any = connect_s3(weed.endpoint, region="us-east-1", access_key="NOBODY", secret_key="guess", attempts=1)
    stranger = S3ObjectStore(client, "kiln")
    with pytest.raises(Refused):
        stranger.get("received/job_node/x")
    with pytest.raises(Refused):
        list(stranger.list("received/"))


def test_store_with_room_is_not_full(weed: SeaweedFS) -> None:
    assert weed.is_answering()
    assert weed.is_full() is False
