"""Zips of received frames: asked for, packed, interrupted, kept, deleted."""

from __future__ import annotations

import io
import threading
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeimage.protocol import Output, output_key
from supervisor import queries
from supervisor.cloud.ports import Unreachable
from supervisor.commands import downloads as commands
from supervisor.commands import jobs
from supervisor.config import Config, DownloadsConfig
from supervisor.domain.download import DownloadStatus
from supervisor.domain.errors import Conflict, NotFound, OutOfSpace
from supervisor.domain.naming import Packed, names_in_zip, zip_name
from supervisor.lifecycle.long_file import LongFile
from supervisor.lifecycle.pack import Packer, pack, retain_downloads, zip_path
from supervisor.lifecycle.readahead import read_ahead
from supervisor.store import downloads as store
from supervisor.store import frames
from supervisor.store.frames import Delivery
from tests.fakes.farm import FakeFarm
from tests.waiting import wait_for

GIB = 1 << 30


@pytest.fixture
def bench(tmp_path: Path) -> FakeFarm:
    return FakeFarm.open(tmp_path)


def a_body(frame: int, length: int = 3000) -> bytes:
    return (f"frame {frame} ".encode() * length)[:length]


def receive(bench: FakeFarm, job: str, frame: int, **outputs: bytes) -> None:
    """Let a node deliver a frame: by default one picture as Blender names it."""
    files = {name.replace("__", "/"): body for name, body in outputs.items()} or {f"shot_{frame:04d}.png": a_body(frame)}
    for name, body in files.items():
        bench.cloud.objects.place(output_key(job, frame, name), body, etag="x")
    delivered = tuple(Output(name=name, bytes=len(body), crc32=zlib.crc32(body)) for name, body in files.items())
    delivery = Delivery(node="node_1", attempt=1, render_s=1.0, peak_memory_bytes=1, outputs=delivered, has_preview=False)
    with bench.farm.db.write() as connection:
        frames.receive(connection, job, frame, delivery, at=bench.clock())


def a_job(bench: FakeFarm, received: int = 3, *, total: int = 5) -> str:
    job = bench.a_submitted_job(frames=f"1-{total}")
    for frame in range(1, received + 1):
        receive(bench, job, frame)
    return job


def packed(bench: FakeFarm, job: str) -> str:
    """Ask for a download, and pack it here and now."""
    download = commands.begin_download(bench.farm, job)
    pack(bench.farm, row(bench, download))
    return download


def row(bench: FakeFarm, download: str) -> store.Download:
    with bench.farm.db.read() as connection:
        found = store.find(connection, download)
    assert found is not None
    return found


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_zip_has_every_received_frame_under_the_name_that_blender_gave(bench: FakeFarm) -> None:
    job = a_job(bench)

    download = packed(bench, job)

    assert contents(commands.download_file(bench.farm, download)) == {f"shot_{n:04d}.png": a_body(n) for n in (1, 2, 3)}
    view = commands.download(bench.farm, download)
    assert (view.status, view.frames, view.done_bytes, view.total_bytes) == (DownloadStatus.READY, 3, 9000, 9000)
    assert view.name == "shot (3 of 5 frames).zip"
    assert [path.name for path in bench.farm.downloads_folder.iterdir()] == [f"{download}.zip"]


def test_zip_stores_frames_as_they_are(bench: FakeFarm) -> None:
    path = commands.download_file(bench.farm, packed(bench, a_job(bench)))
    with zipfile.ZipFile(path) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_zip_of_all_frames_is_named_after_the_job(bench: FakeFarm) -> None:
    job = a_job(bench, 2, total=2)
    jobs.rename_job(bench.farm, job, name="Shot 7: “Kiln”/final?")
    assert commands.download(bench.farm, packed(bench, job)).name == "Shot 7_ “Kiln”_final_.zip"


def test_outputs_in_folders_keep_them(bench: FakeFarm) -> None:
    job = a_job(bench, 0)
    receive(bench, job, 1, **{"shot_0001.exr": b"a", "depth__z_0001.exr": b"b"})
    assert contents(commands.download_file(bench.farm, packed(bench, job))) == {"shot_0001.exr": b"a", "depth/z_0001.exr": b"b"}


def test_names_that_frames_share_get_a_folder_for_each_frame(bench: FakeFarm) -> None:
    job = a_job(bench, 0)
    for frame in (1, 2):
        receive(bench, job, frame, **{"mask.png": b"m%d" % frame, f"shot_{frame:04d}.png": b"s"})
    names = contents(commands.download_file(bench.farm, packed(bench, job)))
    assert {name: body for name, body in names.items() if "mask" in name} == {"0001/mask.png": b"m1", "0002/mask.png": b"m2"}
    assert "shot_0001.png" in names


def test_frames_packed_already_are_not_packed_again(bench: FakeFarm) -> None:
    job = a_job(bench)
    first = commands.begin_download(bench.farm, job)
    assert commands.begin_download(bench.farm, job) == first
    pack(bench.farm, row(bench, first))
    bench.clock.pass_s(60)
    assert commands.begin_download(bench.farm, job) == first


def test_a_frame_received_since_makes_another_zip(bench: FakeFarm) -> None:
    job = a_job(bench)
    first = packed(bench, job)
    bench.clock.pass_s(1)
    receive(bench, job, 4)
    second = packed(bench, job)
    assert second != first
    assert len(contents(commands.download_file(bench.farm, second))) == 4
    assert [each.id for each in commands.job_downloads(bench.farm, job)] == [second, first]


def test_a_frame_rendered_anew_makes_another_zip(bench: FakeFarm) -> None:
    job = a_job(bench)
    first = packed(bench, job)
    bench.clock.pass_s(1)
    receive(bench, job, 2, **{"shot_0002.png": a_body(9)})
    assert packed(bench, job) != first


def test_zip_that_is_gone_from_the_disk_is_packed_again(bench: FakeFarm) -> None:
    job = a_job(bench)
    first = packed(bench, job)
    zip_path(bench.farm, first).unlink()
    with pytest.raises(NotFound, match="packed anew"):
        commands.download_file(bench.farm, first)
    assert packed(bench, job) != first


def test_frames_received_between_asking_and_packing_are_packed(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = commands.begin_download(bench.farm, job)
    bench.clock.pass_s(5)
    receive(bench, job, 4)
    bench.clock.pass_s(5)
    pack(bench.farm, row(bench, download))
    assert commands.download(bench.farm, download).frames == 4
    assert commands.begin_download(bench.farm, job) == download


def test_job_without_a_received_frame_has_nothing_to_download(bench: FakeFarm) -> None:
    with pytest.raises(Conflict, match="nothing to download"):
        commands.begin_download(bench.farm, a_job(bench, 0))
    with pytest.raises(NotFound):
        commands.begin_download(bench.farm, "job_gone")


def test_zip_that_does_not_fit_the_disk_is_refused(bench: FakeFarm) -> None:
    job = a_job(bench)
    bench.cloud.premises.free = 2 * GIB
    with pytest.raises(OutOfSpace, match="the zip needs"):
        commands.begin_download(bench.farm, job)
    assert commands.job_downloads(bench.farm, job) == []


def test_zip_larger_than_all_zips_may_be_is_refused(tmp_path: Path) -> None:
    config = Config(downloads=DownloadsConfig.model_validate({"max_total_gib": 1e-6}))
    bench = FakeFarm.open(tmp_path, config=config)
    with pytest.raises(OutOfSpace, match="max_total_gib"):
        commands.begin_download(bench.farm, a_job(bench))


def test_packing_waits_for_room_and_goes_on_when_there_is_some(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = commands.begin_download(bench.farm, job)
    bench.cloud.premises.free = 2 * GIB
    pack(bench.farm, row(bench, download))
    waiting = commands.download(bench.farm, download)
    assert waiting.status is DownloadStatus.PACKING
    assert "too full" in waiting.reason
    assert list(bench.farm.downloads_folder.glob("*")) == []

    bench.cloud.premises.free = 100 * GIB
    pack(bench.farm, row(bench, download))
    assert commands.download(bench.farm, download).status is DownloadStatus.READY
    assert commands.download(bench.farm, download).reason == ""


def test_packing_that_the_store_interrupts_waits_for_it(bench: FakeFarm) -> None:
    download = commands.begin_download(bench.farm, a_job(bench))
    bench.cloud.objects.fail_next(Unreachable("no answer"), call="open")
    pack(bench.farm, row(bench, download))
    waiting = commands.download(bench.farm, download)
    assert waiting.status is DownloadStatus.PACKING
    assert "does not answer" in waiting.reason
    pack(bench.farm, row(bench, download))
    assert commands.download(bench.farm, download).status is DownloadStatus.READY


def test_packing_fails_with_the_frame_whose_output_is_gone(bench: FakeFarm) -> None:
    job = a_job(bench)
    bench.cloud.objects.delete([output_key(job, 2, "shot_0002.png")])
    failed = commands.download(bench.farm, packed(bench, job))
    assert failed.status is DownloadStatus.FAILED
    assert failed.reason.startswith("“shot_0002.png” of frame 2 is gone from the store")
    assert list(bench.farm.downloads_folder.glob("*")) == []


@pytest.mark.parametrize("body", [a_body(7), a_body(2)[:-1], a_body(2) + b"more", b""])
def test_packing_fails_with_the_frame_whose_output_differs_from_what_was_delivered(bench: FakeFarm, body: bytes) -> None:
    job = a_job(bench)
    bench.cloud.objects.place(output_key(job, 2, "shot_0002.png"), body, etag="y")
    failed = commands.download(bench.farm, packed(bench, job))
    assert failed.status is DownloadStatus.FAILED
    assert "frame 2 is not what its node delivered" in failed.reason
    assert list(bench.farm.downloads_folder.glob("*")) == []


def test_job_deleted_while_it_is_packed_leaves_no_zip(bench: FakeFarm) -> None:
    job = a_job(bench)
    seen = row(bench, commands.begin_download(bench.farm, job))
    with bench.farm.db.write() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
    pack(bench.farm, seen)
    assert not bench.farm.downloads_folder.exists() or list(bench.farm.downloads_folder.iterdir()) == []


def test_packing_stops_when_the_farm_does_and_is_taken_up_again(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = commands.begin_download(bench.farm, job)
    pack(bench.farm, row(bench, download), go_on=lambda: False)
    assert commands.download(bench.farm, download).status is DownloadStatus.PACKING
    assert list(bench.farm.downloads_folder.iterdir()) == []

    packer = Packer(bench.farm)
    packer.take_up()
    wait_for(lambda: commands.download(bench.farm, download).status is DownloadStatus.READY, "the zip")
    packer.take_up()
    packer.close()


class _Gate(io.BytesIO):
    """An object that is not read until the gate opens."""

    def __init__(self, body: bytes, opened: threading.Event) -> None:
        super().__init__(body)
        self._opened = opened

    def read(self, size: int | None = -1) -> bytes:
        assert self._opened.wait(30)
        return super().read(size)


class _GatedObjects:
    """The farm's objects, each behind a gate."""

    def __init__(self, bench: FakeFarm) -> None:
        self.opened = threading.Event()
        self._inner = bench.cloud.objects

    def open(self, key: str, *, first_byte: int = 0) -> BinaryIO:
        return _Gate(self._inner.open(key, first_byte=first_byte).read(), self.opened)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


def test_packer_packs_one_zip_once_however_often_it_is_asked(bench: FakeFarm) -> None:
    gated = _GatedObjects(bench)
    farm = replace(bench.farm, cloud=replace(bench.farm.cloud, objects=gated))  # type: ignore[arg-type]
    download = commands.begin_download(bench.farm, a_job(bench))
    packer = Packer(farm, threads=2)
    for _ in range(3):
        packer.take_up()
    gated.opened.set()
    wait_for(lambda: commands.download(bench.farm, download).status is DownloadStatus.READY, "the zip")
    packer.close()
    assert len(contents(commands.download_file(bench.farm, download))) == 3


def test_packer_that_breaks_down_fails_the_download_and_says_so(bench: FakeFarm) -> None:
    download = commands.begin_download(bench.farm, a_job(bench))
    bench.cloud.objects.fail_next(RuntimeError("a bug"), call="open")
    packer = Packer(bench.farm)

    def is_failed() -> bool:
        packer.take_up()
        return commands.download(bench.farm, download).status is DownloadStatus.FAILED

    wait_for(is_failed, "the failure")
    packer.close()
    assert "fault of the farm's own" in commands.download(bench.farm, download).reason


def test_progress_of_packing_raises_the_jobs_version(bench: FakeFarm) -> None:
    job = a_job(bench)
    before = queries.job_summary(bench.farm, job).version
    download = commands.begin_download(bench.farm, job)
    asked = queries.job_summary(bench.farm, job).version
    with bench.farm.db.write() as connection:
        assert store.note_progress(connection, row(bench, download), done_bytes=10)
    assert before < asked < queries.job_summary(bench.farm, job).version


def test_zip_is_deleted_after_its_days_and_says_that_it_can_be_packed_anew(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = packed(bench, job)
    bench.clock.pass_s(13.9 * 86400)
    retain_downloads(bench.farm)
    assert commands.download(bench.farm, download).status is DownloadStatus.READY
    bench.clock.pass_s(0.2 * 86400)
    retain_downloads(bench.farm)
    assert not zip_path(bench.farm, download).exists()
    with pytest.raises(NotFound, match=r"kept for 14 days.*packed anew"):
        commands.download_file(bench.farm, download)
    assert commands.job_downloads(bench.farm, job) == []


def test_oldest_zips_are_deleted_when_all_together_are_too_large(tmp_path: Path) -> None:
    config = Config(downloads=DownloadsConfig.model_validate({"max_total_gib": 20_000 / GIB}))
    bench = FakeFarm.open(tmp_path, config=config)
    made = []
    for _ in range(3):
        made.append(packed(bench, a_job(bench)))  # 9,000 bytes each
        bench.clock.pass_s(60)
    retain_downloads(bench.farm)
    assert [commands.download(bench.farm, each).status for each in made] == ["deleted", "ready", "ready"]
    assert sorted(path.stem for path in bench.farm.downloads_folder.iterdir()) == sorted(made[1:])


def test_files_that_no_download_owns_are_deleted(bench: FakeFarm) -> None:
    download = packed(bench, a_job(bench))
    for name in ("download_0.zip", "download_1.part"):
        (bench.farm.downloads_folder / name).write_bytes(b"left over")
    retain_downloads(bench.farm)
    assert [path.stem for path in bench.farm.downloads_folder.iterdir()] == [download]


def test_zip_is_not_given_before_it_is_ready(bench: FakeFarm) -> None:
    download = commands.begin_download(bench.farm, a_job(bench))
    with pytest.raises(NotFound, match="packing"):
        commands.download_file(bench.farm, download)
    with pytest.raises(NotFound):
        commands.download_file(bench.farm, "download_gone")


def test_zip_of_many_thousand_files_opens(bench: FakeFarm) -> None:
    job = a_job(bench, 0)
    body = b"x"
    outputs = tuple(Output(name=f"tile/{n:06d}.png", bytes=1, crc32=zlib.crc32(body)) for n in range(66_000))
    for output in outputs:
        bench.cloud.objects.place(output_key(job, 1, output.name), body, etag="x")
    delivery = Delivery(node="n", attempt=1, render_s=1.0, peak_memory_bytes=1, outputs=outputs, has_preview=False)
    with bench.farm.db.write() as connection:
        frames.receive(connection, job, 1, delivery, at=bench.clock())
    with zipfile.ZipFile(commands.download_file(bench.farm, packed(bench, job))) as archive:
        assert len(archive.namelist()) == 66_000
        assert archive.read("tile/065999.png") == b"x"


_NAMES = st.one_of(st.text(max_size=12), st.sampled_from(["a.png", "A.png", "x/a.png", "0001/a.png", "../a.png", "/a", "again/a.png"]))


@given(st.lists(st.tuples(st.integers(-3, 3), _NAMES), max_size=12))
def test_names_in_a_zip_are_safe_and_distinct_whatever_the_outputs_are_called(given_names: list[tuple[int, str]]) -> None:
    outputs = [Packed(frame=frame, name=name, bytes=0, crc32=0) for frame, name in given_names]
    names = names_in_zip(outputs)
    assert len({name.casefold() for name in names}) == len(outputs)
    for name in names:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert "\\" not in name


@given(st.text(max_size=300))
def test_zip_has_a_name_that_every_system_takes(job_name: str) -> None:
    name = zip_name(job_name, frames=1, total=2)
    assert len(name.encode()) <= 200
    assert name.endswith("(1 of 2 frames).zip")
    assert not set(name) & set('/\\:*?"<>|\n\0')
    assert not name.startswith((".", " "))


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, (4 << 20) - 1, 4 << 20, (9 << 20) + 17])
def test_long_file_holds_what_was_written_to_it(tmp_path: Path, length: int) -> None:
    body = (bytes(range(251)) * (length // 251 + 1))[:length]
    with LongFile(tmp_path / "f") as file:
        for start in range(0, length, 1_000_003):
            file.write(body[start : start + 1_000_003])
        file.finish()
    assert (tmp_path / "f").read_bytes() == body


def test_long_file_works_where_direct_writes_do_not() -> None:
    path = Path("/dev/shm") / f"kiln-test-{threading.get_native_id()}"
    try:
        with LongFile(path) as file:
            file.write(b"abc")
            file.finish()
        assert path.read_bytes() == b"abc"
    finally:
        path.unlink(missing_ok=True)


def test_objects_read_ahead_come_in_order_and_whole(bench: FakeFarm) -> None:
    bodies = {f"k/{n:02d}": bytes([n]) * (n * 300_000) for n in range(12)}
    for key, body in bodies.items():
        bench.cloud.objects.place(key, body, etag="x")
    assert [b"".join(chunks) for chunks in read_ahead(bench.cloud.objects, list(bodies))] == list(bodies.values())


def test_reading_ahead_ends_when_nobody_reads_on(bench: FakeFarm) -> None:
    for n in range(4):
        bench.cloud.objects.place(f"k/{n}", bytes(20 << 20), etag="x")
    reading = read_ahead(bench.cloud.objects, [f"k/{n}" for n in range(4)])
    assert next(next(reading))
    reading.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("readahead")]
