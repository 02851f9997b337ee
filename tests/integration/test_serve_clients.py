"""Clients that do nothing: they hold neither the farm's threads nor its connections for long."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import urllib3

from app.api import models
from supervisor.cloud.local import processes
from supervisor.commands import accounts
from tests.integration.test_downloads_served import Studio, a_studio
from tests.integration.test_serve import children
from tests.waiting import wait_until

THREADS = 8
STALLED_S = 3
#: Bytes that a client takes in at most before it is asked to read them: the zip is far larger.
SMALL_BUFFER = 4096


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setenv("KILN_SERVER__THREADS", str(THREADS))
    monkeypatch.setenv("KILN_SERVER__STALLED_S", str(STALLED_S))
    try:
        with a_studio(tmp_path / "data") as studio:
            yield studio
    finally:
        processes.end_all(children(tmp_path / "data"), grace_s=0)


def connected(studio: Studio, stack: ExitStack, sent: bytes = b"", *, buffer_bytes: int = SMALL_BUFFER) -> socket.socket:
    """A client that sent so much, and nothing more."""
    client = stack.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    client.connect(("127.0.0.1", studio.server.port))
    client.sendall(sent)
    return client


def asking_for(download: models.Download) -> bytes:
    assert download.url is not None
    return f"GET {urlsplit(download.url).path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()


def seconds_of_a_page(studio: Studio) -> float:
    began = time.monotonic()
    answer = urllib3.request("GET", f"http://127.0.0.1:{studio.server.port}/login", retries=False, timeout=30)
    assert answer.status == 200
    return time.monotonic() - began


def taken_in(client: socket.socket) -> bytes:
    """All that comes until the connection ends."""
    client.settimeout(30)
    found = b""
    try:
        while chunk := client.recv(1 << 20):
            found += chunk
    except ConnectionResetError:
        pass
    return found


def test_clients_that_fetch_and_take_nothing_hold_no_page_up_and_are_cut(studio: Studio) -> None:
    download = studio.packed(studio.received_job(count=6))
    with ExitStack() as stack:
        clients = [connected(studio, stack, asking_for(download)) for _ in range(2 * THREADS)]

        assert seconds_of_a_page(studio) < STALLED_S

        wait_until(lambda: studio.server.output.count("connection given up") >= THREADS * 3 // 4)
        answers = [taken_in(client) for client in clients]
        begun = [answer for answer in answers if answer.startswith(b"HTTP/1.1 200")]  # the last ones perhaps only now, and whole
        assert sum(len(answer) < download.total_bytes for answer in begun) >= THREADS * 3 // 4
        assert b"HTTP/1.1 503" in b"".join(answer[:12] for answer in answers)
        with urllib3.request("GET", download.url or "", preload_content=False, retries=False, timeout=60) as whole:
            assert len(whole.read()) == download.total_bytes
    assert "Traceback" not in studio.server.output


def test_a_slow_client_that_goes_on_gets_all_of_it(studio: Studio) -> None:
    download = studio.packed(studio.received_job(count=1))
    began = time.monotonic()
    with ExitStack() as stack:
        client = connected(studio, stack, asking_for(download), buffer_bytes=64 << 10)
        client.settimeout(30)
        found = 0
        while found < download.total_bytes:
            chunk = client.recv(64 << 10)
            assert chunk, f"cut after {found} of {download.total_bytes} bytes"
            found += len(chunk)
            time.sleep(0.06)  # it is slow on purpose
    assert time.monotonic() - began > STALLED_S
    assert "connection given up" not in studio.server.output


def test_connections_that_ask_for_nothing_take_no_thread(studio: Studio) -> None:
    with ExitStack() as stack:
        for _ in range(4 * THREADS):
            connected(studio, stack)
        assert seconds_of_a_page(studio) < STALLED_S


def test_clients_that_do_not_hang_up_hold_no_page_up(studio: Studio) -> None:
    with ExitStack() as stack:
        clients = [connected(studio, stack, b"GET /healthz HTTP/1.0\r\n\r\n") for _ in range(THREADS - 2)]
        assert [client.recv(12) for client in clients] == [b"HTTP/1.0 200"] * len(clients)
        assert seconds_of_a_page(studio) < STALLED_S


def test_uploads_that_stop_on_the_way_hold_no_page_up_and_are_cut(studio: Studio) -> None:
    job, token = studio.client.create_job("Shot 8").id, accounts.create_token(studio.farm, user_name="ada")
    with ExitStack() as stack:
        clients = [connected(studio, stack, beginning_of_an_upload(job, token, number)) for number in range(2 * THREADS)]
        assert seconds_of_a_page(studio) < STALLED_S
        answers = [taken_in(client)[:12] for client in clients]
    assert {answer for answer in answers if answer} <= {b"HTTP/1.1 422", b"HTTP/1.1 503"}
    assert studio.client.put_file(job, "wood.png", b"wood", length=4).bytes == 4
    assert [file.path for file in studio.client.files(job)] == ["wood.png"]
    assert "Traceback" not in studio.server.output


def beginning_of_an_upload(job: str, token: str, number: int) -> bytes:
    head = f"PUT /api/v1/jobs/{job}/files/{number}.png HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    return head.encode() + b"Content-Length: 1000000\r\nConnection: close\r\n\r\n" + bytes(1000)


def test_half_a_request_holds_a_thread_until_it_is_cut(studio: Studio) -> None:
    with ExitStack() as stack:
        clients = [connected(studio, stack, b"GET /login HTTP/1.1\r\nHost: 127") for _ in range(THREADS)]
        assert seconds_of_a_page(studio) < STALLED_S + 5
        assert [taken_in(client) for client in clients] == [b""] * THREADS
    assert "Traceback" not in studio.server.output
