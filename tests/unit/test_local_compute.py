"""Node processes: what they are given, how they end, and how the next server finds them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nodeimage.protocol import NodeConfig
from supervisor.cloud.local import processes
from supervisor.cloud.local.compute import LocalCompute, stop_nodes
from supervisor.cloud.local.instance_files import InstanceFiles, LocalInstance
from supervisor.cloud.ports import RentedInstance
from supervisor.domain.instance import InstanceStatus, Market
from tests.contract.test_compute import SPEC, local_compute
from tests.waiting import wait_until

ONE = replace(SPEC, count=1)
WAIT = "import signal, sys, os, json, time, subprocess\n{}\nopen('ready', 'w').close()\nsignal.pause()"
STUBBORN = WAIT.format("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
#: An agent whose Blender is in a session of its own, as the real one's is.
PARENT = WAIT.format(
    "home = os.environ['HOME']\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], env={'HOME': home + '/blender'},"
    " start_new_session=True)\n"
    "open('child', 'w').write(str(child.pid))"
)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop_nodes(tmp_path / "nodes", grace_s=0)


def ready(folder: Path, compute: LocalCompute) -> RentedInstance:
    """Wait until the one instance's agent has come so far as to say so."""

    def ask() -> RentedInstance | None:
        [instance] = compute.instances()
        return instance if (folder / "nodes" / instance.id / "ready").exists() else None

    instance = wait_until(ask)
    assert instance is not None
    return instance


def ended(compute: LocalCompute) -> RentedInstance:
    def ask() -> RentedInstance | None:
        [instance] = compute.instances()
        return instance if instance.status is InstanceStatus.TERMINATED else None

    instance = wait_until(ask)
    assert instance is not None
    return instance


def test_agent_is_told_all_it_needs_and_none_of_the_farms_keys(farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the farm's own")
    monkeypatch.setenv("KILN_SERVER__PUBLIC_URL", "https://farm.example")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    compute = local_compute(farm, agent=WAIT.format("json.dump(dict(os.environ), open('env', 'w'))"))
    compute.launch(ONE, request_id="r1")
    instance = ready(farm, compute)
    folder = farm / "nodes" / instance.id
    env = json.loads((folder / "env").read_text())
    config = NodeConfig.from_env(env)
    assert (config.node, config.job, config.bucket, config.endpoint) == (instance.node, "job_a", "kiln", "http://127.0.0.1:9")
    assert (config.blender, config.blender_kind) == ("blender", "blender")
    assert config.threads >= 1
    assert Path(config.workspace, "scene.blend").exists()
    assert Path(config.home).is_dir()
    assert (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]) == ("a", "s")
    assert env["CUDA_VISIBLE_DEVICES"] == "0"
    assert not [name for name in env if name.startswith("KILN_") and not name.startswith("KILN_NODE_")]
    compute.close()


def test_next_server_takes_over_nodes_that_are_alive(farm: Path) -> None:
    first = local_compute(farm, agent=WAIT.format(""))
    first.launch(ONE, request_id="r1")
    instance = ready(farm, first)
    first.close()
    second = local_compute(farm)
    assert [(each.id, each.status) for each in second.instances()] == [(instance.id, InstanceStatus.RUNNING)]
    assert second.launch(ONE, request_id="r1") == 1
    second.terminate([instance.id])
    assert ended(second).id == instance.id


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("2026-01-05 09:00:00,000 INFO agent ends node='node_1' why='nothing was left to render'", "nothing was left to render"),
        ("2026-01-05 09:00:00,000 INFO agent ends why=\"the store said 'no'\"", "the store said 'no'"),
        ("2026-01-05 09:00:00,000 ERROR can't start", "ERROR can't start"),
        ("Killed", "Killed"),
    ],
)
def test_next_server_shows_why_nodes_ended_meanwhile(farm: Path, line: str, note: str) -> None:
    first = local_compute(farm, agent=WAIT.format(f"print({line!r}, flush=True)"))
    first.launch(ONE, request_id="r1")
    instance = ready(farm, first)
    first.close()
    stop_nodes(farm / "nodes", grace_s=5)
    assert instance.note == ""
    assert ended(local_compute(farm)).note == note


def test_node_whose_start_was_cut_off_is_ended(farm: Path) -> None:
    planned = LocalInstance(
        id="local_1", request_id="r1", job="job_a", node="node_1", market=Market.SPOT, launched_at=datetime(2026, 1, 5, tzinfo=UTC)
    )
    InstanceFiles(farm / "nodes").write(planned)
    [shown] = local_compute(farm).instances()
    assert (shown.status, shown.market) == (InstanceStatus.TERMINATED, Market.SPOT)
    assert "server ended" in shown.note


def test_node_started_in_the_last_moment_is_found_by_its_environment(farm: Path) -> None:
    first = local_compute(farm, agent=WAIT.format(""))
    first.launch(ONE, request_id="r1")
    instance = ready(farm, first)
    first.close()
    files = InstanceFiles(farm / "nodes")
    [written] = files.read_all()
    files.write(replace(written, process=None))
    second = local_compute(farm)
    assert [each.status for each in second.instances()] == [InstanceStatus.RUNNING]
    assert second.process_of(instance.id) == written.process


def test_node_that_does_not_end_in_time_is_killed(farm: Path) -> None:
    now = [datetime(2026, 1, 5, tzinfo=UTC)]
    compute = local_compute(farm, agent=STUBBORN, clock=lambda: now[0])
    compute.launch(ONE, request_id="r1")
    instance = ready(farm, compute)
    compute.terminate([instance.id])
    assert [each.status for each in compute.instances()] == [InstanceStatus.TERMINATING]
    now[0] += timedelta(seconds=4)
    assert ended(compute).id == instance.id
    compute.close()


def test_blender_that_outlives_its_agent_is_killed(farm: Path) -> None:
    compute = local_compute(farm, agent=PARENT)
    compute.launch(ONE, request_id="r1")
    instance = ready(farm, compute)
    blender = processes.identify(int((farm / "nodes" / instance.id / "child").read_text()))
    agent = compute.process_of(instance.id)
    assert blender is not None
    assert agent is not None
    agent.kill()
    ended(compute)
    wait_until(lambda: not blender.is_alive())
    compute.close()


def test_copy_of_the_workspace_goes_with_the_node_and_its_log_later(farm: Path) -> None:
    now = [datetime(2026, 1, 5, tzinfo=UTC)]
    compute = local_compute(farm, agent="print('told')", clock=lambda: now[0])
    compute.launch(ONE, request_id="r1")
    folder = farm / "nodes" / ended(compute).id
    assert not (folder / "workspace").exists()
    assert (folder / "agent.log").read_text() == "told\n"
    now[0] += timedelta(hours=1)
    compute.instances()
    assert list(compute.instances()) == []
    assert not folder.exists()
    compute.close()


def test_everything_is_stopped_from_another_process(farm: Path) -> None:
    compute = local_compute(farm, agent=PARENT)
    compute.launch(SPEC, request_id="r1")
    wait_until(lambda: len(list((farm / "nodes").glob("*/ready"))) == 2)
    assert stop_nodes(farm / "nodes", grace_s=2) is True
    assert processes.with_environment(f"HOME={farm}/nodes/") == []
    assert {instance.status for instance in compute.instances()} == {InstanceStatus.TERMINATED}
    compute.close()


def test_agent_that_can_not_be_started_is_an_instance_that_ended(farm: Path) -> None:
    compute = local_compute(farm, command=("/nowhere/python",))
    compute.launch(ONE, request_id="r1")
    assert "could not be started" in ended(compute).note
    compute.close()


def test_stopping_where_nothing_ever_ran_is_no_error(tmp_path: Path) -> None:
    assert stop_nodes(tmp_path / "nodes") is True
    assert os.listdir(tmp_path) == []
