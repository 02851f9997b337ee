"""Uploads, zips and downloads over the real object store."""

from __future__ import annotations

import io
import random
import urllib.request
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from nodeimage.protocol import Output, output_key
from supervisor import queries
from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.s3 import S3ObjectStore
from supervisor.cloud.s3_uploads import S3Uploads
from supervisor.commands import downloads as download_commands
from supervisor.commands import files as commands
from supervisor.domain.download import DownloadStatus
from supervisor.domain.errors import Rejected
from supervisor.domain.file import FileStatus
from supervisor.farm import Farm
from supervisor.lifecycle import intake
from supervisor.lifecycle.pack import Packer
from supervisor.store import files as store
from supervisor.store import frames
from supervisor.store.frames import Delivery
from tests.fakes.farm import FakeFarm

BLEND = (Path(__file__).parents[1] / "data" / "scene-5.0.blend").read_bytes()
MIB = 1 << 20


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return FakeFarm.open(tmp_path)


@pytest.fixture
def farm(bench: FakeFarm, object_store: S3ObjectStore, uploads: S3Uploads) -> Farm:
    """A farm whose objects are in the real store."""
    return replace(bench.farm, cloud=replace(bench.farm.cloud, objects=object_store, uploads=uploads))


def checksum(farm: Farm, file: str) -> str:
    with farm.db.read() as connection:
        row = store.file_by_id(connection, file)
    assert row is not None
    return row.checksum


def test_parts_put_to_the_store_by_the_client_and_through_the_app_make_one_file(bench: FakeFarm, farm: Farm, weed: SeaweedFS) -> None:
    job, body = bench.a_draft(blend=None), random.Random(1).randbytes(33 * MIB)
    plan = commands.begin_file(farm, job, path="täx/wood “1”.bin", length=len(body), modified_ms=7, endpoint=weed.endpoint)
    urls = dict(plan.urls)
    put = urllib.request.Request(urls[1] or "", data=body[: plan.part_bytes], method="PUT")
    with urllib.request.urlopen(put) as answer:
        etags = [(1, answer.headers["ETag"])]

    again = commands.begin_file(farm, job, path="täx/wood “1”.bin", length=len(body), modified_ms=7)  # as if the tab had been closed
    assert [part.number for part in again.received] == [1]
    for number, url in again.urls:
        assert url is None
        part = body[(number - 1) * plan.part_bytes : number * plan.part_bytes]
        etags.append((number, commands.put_part(farm, job, plan.file, number=number, source=io.BytesIO(part), length=len(part))))
    with pytest.raises(Rejected, match="part 2"):
        commands.complete_file(farm, job, plan.file, parts=[etags[0], (2, "0" * 32), etags[2]])
    view = commands.complete_file(farm, job, plan.file, parts=etags)

    assert view.status is FileStatus.READY
    assert checksum(farm, view.id) == f"crc32:{zlib.crc32(body):08x}"
    assert commands.complete_file(farm, job, plan.file, parts=etags) == view


def test_part_that_breaks_off_is_rejected_and_the_upload_goes_on(bench: FakeFarm, farm: Farm) -> None:
    job, body = bench.a_draft(blend=None), bytes(3 * MIB)
    plan = commands.begin_file(farm, job, path="a.bin", length=len(body))
    for sent in (1000, 0, 2 * MIB):
        with pytest.raises(Rejected, match=f"ended after {sent} of"):
            commands.put_part(farm, job, plan.file, number=1, source=io.BytesIO(body[:sent]), length=len(body))
    assert commands.resume_file(farm, job, plan.file).received == ()
    etag = commands.put_part(farm, job, plan.file, number=1, source=io.BytesIO(body), length=len(body))
    assert commands.complete_file(farm, job, plan.file, parts=[(1, etag)]).status is FileStatus.READY


def test_part_sent_again_with_another_content_counts_as_the_client_says(bench: FakeFarm, farm: Farm) -> None:
    job, old, new = bench.a_draft(blend=None), b"old" * 1000, b"new" * 1000
    plan = commands.begin_file(farm, job, path="a.bin", length=3000)
    commands.put_part(farm, job, plan.file, number=1, source=io.BytesIO(old), length=3000)
    etag = commands.put_part(farm, job, plan.file, number=1, source=io.BytesIO(new), length=3000)
    view = commands.complete_file(farm, job, plan.file, parts=[(1, etag)])
    assert checksum(farm, view.id) == f"crc32:{zlib.crc32(new):08x}"


def test_removed_upload_leaves_nothing_in_the_store(bench: FakeFarm, farm: Farm) -> None:
    job = bench.a_draft(blend=None)
    whole = commands.put_file(farm, job, path="a.bin", source=io.BytesIO(b"12345"), length=5)
    half = commands.begin_file(farm, job, path="b.bin", length=20 * MIB)
    with farm.db.read() as connection:
        row = store.file_by_id(connection, half.file)
    commands.remove_file(farm, job, whole.id)
    commands.remove_file(farm, job, half.file)
    assert list(farm.cloud.objects.list(f"projects/{job}/")) == []
    assert row is not None
    assert farm.cloud.uploads.parts(row.key, row.upload_id or "") is None


def test_zip_is_unpacked_out_of_the_store_into_it(bench: FakeFarm, farm: Farm) -> None:
    chance = random.Random(2)
    inside = {"film/shot.blend": BLEND, "film/big.bin": chance.randbytes(9 * MIB)}
    inside |= {f"film/tex/{n:03d} é.png": chance.randbytes(2000) for n in range(60)}
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in inside.items():
            archive.writestr(name, content)
    job = bench.a_draft(blend=None)
    view = commands.put_file(farm, job, path="film.zip", source=io.BytesIO(body.getvalue()), length=len(body.getvalue()))
    assert view.status is FileStatus.CHECKING

    intake.check_pending(farm)

    files = queries.job_files(farm, job)
    assert {file.path: file.status for file in files} == dict.fromkeys(inside, FileStatus.READY)
    assert next(file for file in files if file.path == "film/shot.blend").inspection is not None
    assert {one.key: one.bytes for one in farm.cloud.objects.list(f"projects/{job}/")} == {
        f"projects/{job}/{name}": len(content) for name, content in inside.items()
    }
    assert {checksum(farm, file.id) for file in files} == {f"crc32:{zlib.crc32(content):08x}" for content in inside.values()}


def test_frames_are_packed_out_of_the_store(bench: FakeFarm, farm: Farm) -> None:
    job = bench.a_submitted_job(frames="1-40")
    bodies = {}
    for frame in range(1, 41):
        name, body = f"shot_{frame:04d}.png", random.Random(frame).randbytes(200_000 + frame)
        bodies[name] = body
        farm.cloud.objects.put(output_key(job, frame, name), body)
        outputs = (Output(name=name, bytes=len(body), crc32=zlib.crc32(body)),)
        delivery = Delivery(node="n", attempt=1, render_s=1.0, peak_memory_bytes=1, outputs=outputs, has_preview=False)
        with farm.db.write() as connection:
            frames.receive(connection, job, frame, delivery, at=farm.now())
    download = download_commands.begin_download(farm, job)
    Packer(farm).pack_waiting()
    assert download_commands.download(farm, download).status is DownloadStatus.READY
    opened = download_commands.open_download(farm, download)
    whole = b"".join(opened.send(0, opened.bytes))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == bodies
    middle = opened.bytes // 2
    assert b"".join(opened.send(middle, opened.bytes)) == whole[middle:]


class _Endless(io.RawIOBase):
    """Zeros without end, that count how much was asked for at once."""

    def __init__(self) -> None:
        self.largest = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.largest = max(self.largest, size)
        return bytes(size)


def test_file_sent_in_one_request_passes_through_in_small_pieces(bench: FakeFarm, farm: Farm) -> None:
    source, length = _Endless(), 70 * MIB
    view = commands.put_file(farm, bench.a_draft(blend=None), path="a.bin", source=cast("BinaryIO", source), length=length)
    assert (view.status, view.bytes) == (FileStatus.READY, length)
    assert source.largest <= MIB
    assert checksum(farm, view.id) == ""
    intake.check_pending(farm)
    assert checksum(farm, view.id) == f"crc32:{zlib.crc32(bytes(length)):08x}"
