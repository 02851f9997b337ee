"""The process that serves: it is alone, it ends with all its children, and it goes on after being killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from supervisor.cloud.local import processes
from supervisor.cloud.local.compute import LocalCompute
from supervisor.cloud.local.processes import ProcessId
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.s3 import S3ObjectStore
from supervisor.domain.instance import InstanceStatus
from tests.contract.test_compute import SPEC, local_compute
from tests.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
SERVE = [sys.executable, "-c", "from app.cli import main; main()", "serve", "--host", "127.0.0.1"]
#: An agent that won't end when asked, with a Blender of its own.
STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], start_new_session=True)
open('ready', 'w').close()
signal.pause()
"""


@dataclass
class Server:
    data: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def output(self) -> str:
        return self.data.with_suffix(".log").read_text()

    def health(self) -> int:
        try:
            return urllib3.request("GET", f"http://127.0.0.1:{self.port}/healthz", retries=False, timeout=2).status
        except urllib3.exceptions.HTTPError:
            return 0

    def worker(self) -> ProcessId:
        """The one child of the main process."""

        def ask() -> ProcessId | None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return processes.identify(int(children[0])) if children else None

        found = wait_until(ask)
        assert found is not None
        return found

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.output
        return self.health() == 200

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Ask it to end. Returns: how long it took, in seconds"""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=30)
        return time.monotonic() - began

    def kill_all_but_children(self) -> None:
        worker = self.worker()
        for pid in (self.process.pid, worker.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not worker.is_alive())


def start(data: Path, port: int, *, environment: Mapping[str, str] | None = None) -> Server:
    with data.with_suffix(".log").open("ab") as output:
        process = subprocess.Popen(
            command(data, port),
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(data, port, process)


def command(data: Path, port: int) -> list[str]:
    return [*SERVE, "--data", str(data), "--port", str(port)]


def refused_start(data: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Try to serve where that can't be."""
    refused = subprocess.run(command(data, port), cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1, refused.stderr
    assert "Traceback" not in refused.stderr
    return refused


@contextmanager
def served(data: Path, *, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Shape:   environment: None: as ours"""
    server = start(data, free_port(), environment=environment)
    try:
        wait_until(server.is_ready, timeout_s=60)
        yield server
    finally:
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    processes.end_all(children(tmp_path / "data"), grace_s=0)


def children(data: Path) -> list[ProcessId]:
    """The object store and the nodes of the data folder, with whatever they started."""
    return processes.with_environment(f"HOME={data}/")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def nodes_of(data: Path) -> LocalCompute:
    """Two nodes that won't end when asked, as a server before this one left them."""
    compute = local_compute(data, agent=STUBBORN)
    compute.launch(SPEC, request_id="r1")
    wait_until(lambda: len(list((data / "nodes").glob("*/ready"))) == 2)
    compute.close()
    return compute


def test_second_process_on_the_same_data_refuses_and_names_the_first(data: Path) -> None:
    with served(data) as server:
        second = refused_start(data, free_port())
        assert f"already served by process {server.process.pid}" in second.stderr
        assert server.health() == 200
        server.end()


def test_port_in_use_is_told_in_one_line_and_nothing_is_left(data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = refused_start(data, port)
    assert f"can't listen on 127.0.0.1:{port}: another program listens there" in refused.stderr.splitlines()[-1]
    assert children(data) == []


def test_first_start_tells_the_address_and_the_way_to_the_first_account(data: Path) -> None:
    with served(data) as server:
        assert f"Kiln is ready: http://127.0.0.1:{server.port}" in server.output
        [link] = [line.rpartition(" ")[2] for line in server.output.splitlines() if "/setup?code=" in line]
        assert urllib3.request("GET", link).status == 200
        assert (data / "secrets.json").stat().st_mode & 0o777 == 0o600
        assert (data / "store" / "keys.json").stat().st_mode & 0o777 == 0o600
        secrets = json.loads((data / "secrets.json").read_text())
        assert not [secret for secret in secrets.values() if secret in server.output]
        assert server.end() < 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_being_asked_to_end_leaves_no_process_though_a_request_hangs_and_nodes_are_stubborn(data: Path, number: signal.Signals) -> None:
    nodes_of(data)
    with served(data) as server, socket.create_connection(("127.0.0.1", server.port)) as request:
        request.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Never")
        assert len(children(data)) >= 5
        took = server.end(number)
        assert took < 10
        assert server.process.returncode == 0
        assert children(data) == []
        assert server.health() == 0


def test_ctrl_c_that_reaches_a_busy_worker_too_ends_it_in_order(data: Path) -> None:
    with served(data) as server:
        worker = server.worker()
        os.kill(worker.pid, signal.SIGSTOP)
        wait_until(lambda: "(stopped)" in status_of(worker))
        # As a terminal does; the main process tells the worker besides. Both signals wait for it when it goes on.
        os.killpg(server.process.pid, signal.SIGINT)
        wait_until(lambda: is_pending(worker, signal.SIGINT) and is_pending(worker, signal.SIGQUIT))
        os.kill(worker.pid, signal.SIGCONT)
        assert server.process.wait(timeout=15) == 0
    assert "SIGKILL" not in server.output, "the worker ended by itself"
    assert "Traceback" not in server.output


def status_of(process: ProcessId) -> str:
    return Path(f"/proc/{process.pid}/status").read_text()


def is_pending(process: ProcessId, number: signal.Signals) -> bool:
    masks = [int(line.split()[1], 16) for line in status_of(process).splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def test_hung_worker_does_not_keep_the_farm_from_ending(data: Path) -> None:
    with served(data) as server:
        worker = server.worker()
        os.kill(worker.pid, signal.SIGSTOP)
        assert server.end() < 10
        assert not worker.is_alive()
        assert children(data) == []


def test_killed_server_leaves_its_children_and_the_next_one_takes_them_over(data: Path) -> None:
    nodes_of(data)
    with served(data) as first:
        store = SeaweedFS(data, bucket="kiln")
        store.attach()
        objects = S3ObjectStore(store.connect(), "kiln")
        objects.put("projects/job_a/scene.blend", b"BLENDER")
        first.kill_all_but_children()
    left = children(data)
    assert len(left) == 5  # the store, two agents, two Blenders
    with served(data) as second:
        there = objects.get("projects/job_a/scene.blend")  # at the same address
        assert there is not None
        assert there.body == b"BLENDER"
        # The old store was ended for a new one; the nodes were found, and, as no job owns them, ended with their Blenders.
        wait_until(lambda: not any(process.is_alive() for process in left))
        seen = local_compute(data, is_owner=False)
        wait_until(lambda: [instance.status for instance in seen.instances()] == [InstanceStatus.TERMINATED] * 2)
        assert second.end() < 10
    assert children(data) == []


def test_object_store_that_dies_comes_back_at_its_address(data: Path) -> None:
    with served(data) as server:
        store = SeaweedFS(data, bucket="kiln")
        store.attach()
        objects = S3ObjectStore(store.connect(attempts=1), "kiln")
        objects.put("projects/job_a/scene.blend", b"BLENDER")
        [weed] = children(data)
        weed.kill()
        wait_until(lambda: [process for process in children(data) if process != weed])
        wait_until(store.is_answering)
        assert objects.get("projects/job_a/scene.blend") is not None
        assert server.end() < 10


def test_worker_that_is_killed_is_replaced_with_all_it_had(data: Path) -> None:
    with served(data) as server:
        worker = server.worker()
        worker.kill()
        wait_until(lambda: server.worker() != worker and server.is_ready(), timeout_s=60)
        assert len(children(data)) == 1
        assert server.end() < 10
    assert children(data) == []


def test_worker_whose_main_process_was_killed_ends_everything(data: Path) -> None:
    nodes_of(data)
    with served(data) as server:
        worker = server.worker()
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not worker.is_alive() and not children(data), timeout_s=30)
        again = start(data, server.port)
        wait_until(again.is_ready, timeout_s=60)
        assert again.end() < 10
