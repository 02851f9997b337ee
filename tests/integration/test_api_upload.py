"""Uploads through the API into a real object store: directly and through the app, interrupted in every way."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.api import models
from app.cli.client import ApiError, Client, ServerUnreachable
from app.cli.project import LocalFile, gather
from app.cli.upload import Uploader
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.s3 import S3ObjectStore
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.config import Config
from tests.fakes import FakeCloud
from tests.unit.api_site import Site, a_site, serving

MIB = 1 << 20
PART = 5 * MIB
SIZE = 4 * PART + 12_345


@pytest.fixture
def site(tmp_path: Path, weed: SeaweedFS, object_store: S3ObjectStore, uploads: S3Uploads) -> Iterator[Site]:
    ports = replace(FakeCloud().ports, objects=object_store, uploads=uploads, internal_endpoint=weed.endpoint)
    with a_site(tmp_path, config=Config.model_validate({"uploads": {"part_mib": 5}}), ports=ports) as made:
        yield made


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    with serving(site.app) as address:
        made = Client(address, site.token)
        yield made
        made.close()


@pytest.fixture
def file(tmp_path: Path) -> LocalFile:
    """A file of five parts, the last a short one."""
    source = tmp_path / "big cache ä.abc"
    source.write_bytes(os.urandom(SIZE))
    return gather(source, ())[0]


def stored(site: Site, job: str, file: LocalFile) -> bytes:
    with site.farm.cloud.objects.open(f"projects/{job}/{file.path}") as source:
        return source.read()


def upload(client: Client, job: str, file: LocalFile, *, sleep: Callable[[float], None] = lambda _: None) -> int:
    """Returns: bytes sent in all, those that were sent in vain not counted"""
    sent = 0

    def count(change: int) -> None:
        nonlocal sent
        sent += change

    Uploader(client, job, on_bytes=count, sleep=sleep).send([file], on_file=lambda _, whole: None)
    return sent


def begin(client: Client, job: str, file: LocalFile, *, through_app: bool = False) -> models.UploadPlan:
    return client.begin_file(job, models.NewFile(path=file.path, bytes=file.bytes, modified_ms=file.modified_ms), through_app=through_app)


def piece(file: LocalFile, number: int) -> bytes:
    return file.source.read_bytes()[(number - 1) * PART : number * PART]


@pytest.mark.parametrize("through_app", [False, True], ids=["direct", "through the app"])
def test_file_arrives_whole(client: Client, site: Site, weed: SeaweedFS, file: LocalFile, through_app: bool) -> None:
    job = client.create_job().id
    plan = begin(client, job, file, through_app=through_app)
    host = urlsplit(client.server if through_app else weed.endpoint).netloc
    assert {urlsplit(part.url).netloc for part in plan.parts} == {host}
    etags = {part.number: client.put_part(part.url, body, length=len(body)) for part in plan.parts if (body := piece(file, part.number))}
    whole = client.complete_file(job, plan.id, etags)
    assert (whole.bytes, whole.status.value) == (SIZE, "ready")
    assert stored(site, job, file) == file.source.read_bytes()


def test_uploader_sends_every_byte_once(client: Client, site: Site, file: LocalFile) -> None:
    job = client.create_job().id
    assert upload(client, job, file) == SIZE
    assert stored(site, job, file) == file.source.read_bytes()


@pytest.mark.parametrize("through_app", [False, True], ids=["direct", "through the app"])
def test_part_that_broke_off_does_not_count_and_is_sent_again(client: Client, site: Site, file: LocalFile, through_app: bool) -> None:
    job = client.create_job().id
    plan = begin(client, job, file, through_app=through_app)
    client.put_part(plan.parts[1].url, piece(file, 2), length=PART)
    _break_off(plan.parts[0].url, piece(file, 1)[: 2 * MIB])
    received = client.resume_file(job, plan.id).received
    assert [(part.number, part.bytes) for part in received] == [(2, PART)]
    upload(client, job, file)
    assert stored(site, job, file) == file.source.read_bytes()


def _break_off(url: str, body: bytes) -> None:
    """Send the beginning of a part, then close the connection."""
    where = urlsplit(url)
    with socket.create_connection((str(where.hostname), where.port or 80)) as connection:
        head = f"PUT {where.path}?{where.query} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {PART}\r\n\r\n"
        connection.sendall(head.encode() + body)


@pytest.mark.parametrize("through_app", [False, True], ids=["direct", "through the app"])
def test_wrong_etag_is_refused_and_the_upload_goes_on(client: Client, site: Site, file: LocalFile, through_app: bool) -> None:
    job = client.create_job().id
    plan = begin(client, job, file, through_app=through_app)
    etags = {part.number: client.put_part(part.url, body, length=len(body)) for part in plan.parts if (body := piece(file, part.number))}
    with pytest.raises(ApiError) as refused:
        client.complete_file(job, plan.id, etags | {3: '"00000000000000000000000000000000"'})
    assert (refused.value.status, refused.value.problem.errors[0].field) == (422, "parts")
    with pytest.raises(ApiError) as incomplete:
        client.complete_file(job, plan.id, {number: etag for number, etag in etags.items() if number != 5})
    assert incomplete.value.status == 422
    assert client.complete_file(job, plan.id, etags).status.value == "ready"
    assert client.complete_file(job, plan.id, etags).status.value == "ready", "asking again is safe"
    assert stored(site, job, file) == file.source.read_bytes()


def test_part_sent_again_replaces_the_first(client: Client, site: Site, file: LocalFile) -> None:
    job = client.create_job().id
    plan = begin(client, job, file)
    client.put_part(plan.parts[0].url, bytes(PART), length=PART)
    etags = {part.number: client.put_part(part.url, body, length=len(body)) for part in plan.parts if (body := piece(file, part.number))}
    client.complete_file(job, plan.id, etags)
    assert stored(site, job, file) == file.source.read_bytes()


def test_upload_goes_on_after_the_server_was_away(site: Site, file: LocalFile) -> None:
    """The server ends in mid-upload; the next one, at the same address, takes up what the store has."""
    with serving(site.app) as address:
        port = int(address.rpartition(":")[2])
        client = Client(address, site.token)
        job = client.create_job().id
        plan = begin(client, job, file, through_app=True)
        client.put_part(plan.parts[0].url, piece(file, 1), length=PART)
    with pytest.raises(ServerUnreachable):
        client.put_part(plan.parts[1].url, piece(file, 2), length=PART)
    with serving(site.app, port=port):
        assert [part.number for part in client.resume_file(job, plan.id).received] == [1]
        upload(client, job, file)
        client.close()
    assert stored(site, job, file) == file.source.read_bytes()


def test_uploader_waits_for_a_server_that_restarts(site: Site, file: LocalFile) -> None:
    with serving(site.app) as address:
        port = int(address.rpartition(":")[2])
        client = Client(address, site.token)
        job = client.create_job().id
    restarted: list[Any] = []

    def restart(_: float) -> None:
        if not restarted:
            restarted.append(serving(site.app, port=port))
            restarted[0].__enter__()

    upload(client, job, file, sleep=restart)
    client.close()
    restarted[0].__exit__(None, None, None)
    assert stored(site, job, file) == file.source.read_bytes()


def test_store_out_of_reach_is_reached_through_the_app(site: Site, file: LocalFile) -> None:
    """As through a tunnel: the client looks local, and is not."""
    away = replace(site.farm, cloud=replace(site.farm.cloud, internal_endpoint="http://127.0.0.1:9"))
    site.app.extensions["farm"] = away
    with serving(site.app) as address:
        client = Client(address, site.token)
        job = client.create_job().id
        assert begin(client, job, file).parts[0].url.startswith("http://127.0.0.1:9/")
        upload(client, job, file)
        client.close()
    assert stored(site, job, file) == file.source.read_bytes()


def test_changed_file_of_the_same_name_begins_anew(client: Client, site: Site, file: LocalFile) -> None:
    job = client.create_job().id
    plan = begin(client, job, file)
    client.put_part(plan.parts[0].url, piece(file, 1), length=PART)
    file.source.write_bytes(os.urandom(SIZE))
    os.utime(file.source, ns=(0, 1_000_000_000))
    changed = gather(file.source, ())[0]
    assert begin(client, job, changed).received == []
    upload(client, job, changed)
    assert stored(site, job, changed) == changed.source.read_bytes()


def test_file_in_one_request_is_streamed_into_the_store(client: Client, site: Site, file: LocalFile) -> None:
    job = client.create_job().id
    with file.source.open("rb") as source:
        whole = client.put_file(job, "one/request.abc", source, length=SIZE)
    assert whole.bytes == SIZE
    with site.farm.cloud.objects.open(f"projects/{job}/one/request.abc") as there:
        assert there.read() == file.source.read_bytes()


def test_file_in_one_request_that_breaks_off_leaves_nothing(client: Client, site: Site, file: LocalFile) -> None:
    job = client.create_job().id
    where = urlsplit(client.server)
    with socket.create_connection((str(where.hostname), where.port or 80)) as connection:
        head = (
            f"PUT /api/v1/jobs/{job}/files/half.abc HTTP/1.1\r\nHost: {where.netloc}\r\n"
            f"Authorization: Bearer {site.token}\r\nContent-Length: {SIZE}\r\n\r\n"
        )
        connection.sendall(head.encode() + piece(file, 1) + piece(file, 2)[:MIB])
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)
    assert not answer.startswith(b"HTTP/1.1 200")
    assert list(client.files(job)) == []
    assert list(site.farm.cloud.objects.list(f"projects/{job}/")) == []
