"""Zips through the server that really serves them, out of the store that really stores their frames."""

from __future__ import annotations

import io
import random
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3

from app.api import models
from app.bootstrap import build_farm
from app.cli.client import Client
from nodeimage.protocol import Output, output_key
from supervisor.cloud.local import processes
from supervisor.commands import accounts
from supervisor.config import Config
from supervisor.domain.download import DownloadStatus
from supervisor.farm import Farm
from supervisor.store import frames
from tests.integration.test_serve import Server, children, served
from tests.waiting import wait_until

MIB = 1 << 20


@dataclass
class Studio:
    """A served farm with a user, and what its nodes delivered."""

    server: Server
    farm: Farm
    client: Client
    bodies: dict[str, bytes] = field(default_factory=dict)

    def received_job(self, *, count: int) -> str:
        """A job with frames of a few MiB each."""
        job = self.client.create_job("Shot 7").id
        self.bodies = {f"shot_{n:04d}.exr": random.Random(n).randbytes(6 * MIB + n) for n in range(1, count + 1)}
        with self.farm.db.write() as connection:
            frames.add_frames(connection, job, range(1, count + 1))
        for number, (name, body) in enumerate(self.bodies.items(), 1):
            self.farm.cloud.objects.put(output_key(job, number, name), body)
            outputs = (Output(name=name, bytes=len(body), crc32=zlib.crc32(body)),)
            delivery = frames.Delivery(node="n", attempt=1, render_s=1.0, peak_memory_bytes=1, outputs=outputs, has_preview=False)
            with self.farm.db.write() as connection:
                frames.receive(connection, job, number, delivery, at=self.farm.now())
        return job

    def packed(self, job: str) -> models.Download:
        download = self.client.begin_download(job).id
        wait_until(lambda: self.client.download(download).status is not DownloadStatus.PACKING)
        return self.client.download(download)


@contextmanager
def a_studio(data: Path) -> Iterator[Studio]:
    with served(data) as server:
        farm = build_farm(Config(), data)
        accounts.add_user(farm, name="ada", password="a long enough one", role="artist")
        client = Client(f"http://127.0.0.1:{server.port}", accounts.create_token(farm, user_name="ada"))
        yield Studio(server=server, farm=farm, client=client)
        client.close()
        farm.db.close()
        server.end()


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    data = tmp_path / "data"
    (data / "downloads").mkdir(parents=True)
    (data / "downloads" / "download_1.zip").write_bytes(b"of an earlier version")
    try:
        with a_studio(data) as studio:
            yield studio
    finally:
        processes.end_all(children(data), grace_s=0)


def begun(download: models.Download, headers: dict[str, str] | None = None) -> urllib3.BaseHTTPResponse:
    """A transfer whose bytes are still to be read."""
    assert download.url is not None, download.reason
    return urllib3.request("GET", download.url, headers=headers, preload_content=False, retries=False, timeout=120)


def test_zip_is_fetched_in_two_goes_and_is_whole(studio: Studio) -> None:
    download = studio.packed(studio.received_job(count=4))
    assert not (studio.farm.data / "downloads").exists()
    first = begun(download)
    assert first.status == 200
    head = first.read(10 * MIB)
    first.close()  # the line went down

    rest = begun(download, {"Range": f"bytes={len(head)}-", "If-Range": first.headers["ETag"]})

    assert rest.status == 206
    body = head + rest.read()
    assert len(body) == download.total_bytes
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == studio.bodies


def test_zip_with_a_frame_that_was_damaged_in_the_store_is_cut_and_the_reason_told(studio: Studio) -> None:
    job = studio.received_job(count=3)
    download = studio.packed(job)
    damaged = bytearray(studio.bodies["shot_0003.exr"])
    damaged[MIB] ^= 1
    studio.farm.cloud.objects.put(output_key(job, 3, "shot_0003.exr"), bytes(damaged))

    with pytest.raises(urllib3.exceptions.ProtocolError, match="more expected"):
        begun(download).read()

    failed = studio.client.download(download.id)
    assert failed.status is DownloadStatus.FAILED
    assert "“shot_0003.exr” of frame 3 is not what its node delivered" in failed.reason
    assert begun(download).status == 404
    assert "Traceback" not in studio.server.output


def test_zip_comes_whole_though_the_store_is_killed_on_the_way(studio: Studio) -> None:
    download = studio.packed(studio.received_job(count=12))
    transfer = begun(download)
    head = transfer.read(MIB)
    [weed] = children(studio.farm.data)
    weed.kill()

    body = head + transfer.read()

    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == studio.bodies
    assert studio.client.download(download.id).reason == ""
