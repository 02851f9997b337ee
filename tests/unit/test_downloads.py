"""Zips of received frames: asked for, packed, interrupted, sent, kept, deleted."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeimage.protocol import Output, frames_prefix, output_key
from supervisor import queries
from supervisor.cloud.ports import Refused, Unreachable
from supervisor.commands import downloads as commands
from supervisor.commands import jobs
from supervisor.domain.download import DownloadStatus
from supervisor.domain.errors import Conflict, NotFound
from supervisor.domain.naming import Packed, names_in_zip, zip_name
from supervisor.lifecycle.pack import Packer, pack, retain_downloads
from supervisor.store import downloads as store
from supervisor.store import frames
from supervisor.store.frames import Delivery
from tests.fakes.farm import FakeFarm


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


def sent(bench: FakeFarm, download: str) -> bytes:
    opened = commands.open_download(bench.farm, download)
    return b"".join(opened.send(0, opened.bytes))


def contents(bench: FakeFarm, download: str) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(sent(bench, download))) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_zip_has_every_received_frame_under_the_name_that_blender_gave(bench: FakeFarm) -> None:
    job = a_job(bench)

    download = packed(bench, job)

    assert contents(bench, download) == {f"shot_{n:04d}.png": a_body(n) for n in (1, 2, 3)}
    view = commands.download(bench.farm, download)
    assert (view.status, view.frames, view.name) == (DownloadStatus.READY, 3, "shot (3 of 5 frames).zip")


def test_packing_reads_no_frame_and_writes_nothing_but_what_is_in_the_zip(bench: FakeFarm) -> None:
    job = a_job(bench)
    written = len(bench.cloud.objects.writes)
    bench.cloud.objects.lists.clear()

    download = packed(bench, job)

    assert bench.cloud.objects.lists == [frames_prefix(job)]
    assert bench.cloud.objects.opened == []
    assert len(bench.cloud.objects.writes) == written
    assert commands.open_download(bench.farm, download).bytes > 9000
    assert [path.name for path in bench.farm.data.iterdir() if not path.name.startswith("kiln.db")] == []


def test_size_of_a_zip_is_known_when_it_is_ready(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = commands.begin_download(bench.farm, job)
    packing = commands.download(bench.farm, download)
    assert (packing.done_bytes, packing.total_bytes) == (0, 9000)

    pack(bench.farm, row(bench, download))

    ready = commands.download(bench.farm, download)
    assert ready.done_bytes == ready.total_bytes == len(sent(bench, download))


def test_zip_of_all_frames_is_named_after_the_job(bench: FakeFarm) -> None:
    job = a_job(bench, 2, total=2)
    jobs.rename_job(bench.farm, job, name="Shot 7: “Kiln”/final?")
    assert commands.download(bench.farm, packed(bench, job)).name == "Shot 7_ “Kiln”_final_.zip"


def test_outputs_in_folders_keep_them(bench: FakeFarm) -> None:
    job = a_job(bench, 0)
    receive(bench, job, 1, **{"shot_0001.exr": b"a", "depth__z_0001.exr": b"b"})
    assert contents(bench, packed(bench, job)) == {"shot_0001.exr": b"a", "depth/z_0001.exr": b"b"}


def test_names_that_frames_share_get_a_folder_for_each_frame(bench: FakeFarm) -> None:
    job = a_job(bench, 0)
    for frame in (1, 2):
        receive(bench, job, frame, **{"mask.png": b"m%d" % frame, f"shot_{frame:04d}.png": b"s"})
    names = contents(bench, packed(bench, job))
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
    assert len(contents(bench, second)) == 4
    assert [each.id for each in commands.job_downloads(bench.farm, job)] == [second, first]


def test_a_frame_rendered_anew_makes_another_zip(bench: FakeFarm) -> None:
    job = a_job(bench)
    first = packed(bench, job)
    bench.clock.pass_s(1)
    receive(bench, job, 2, **{"shot_0002.png": a_body(9)})
    assert packed(bench, job) != first


def test_what_is_in_a_zip_stays_when_more_frames_come_and_the_farm_starts_anew(bench: FakeFarm, tmp_path: Path) -> None:
    job = a_job(bench)
    download = packed(bench, job)
    before = sent(bench, download)
    etag = commands.open_download(bench.farm, download).etag
    bench.clock.pass_s(1)
    receive(bench, job, 4)

    farm = replace(FakeFarm.open(tmp_path).farm, cloud=bench.farm.cloud)
    opened = commands.open_download(farm, download)

    assert (opened.etag, b"".join(opened.send(0, opened.bytes))) == (etag, before)


def test_zip_with_a_frame_that_was_rendered_anew_since_says_so_and_can_be_packed_anew(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = packed(bench, job)
    bench.clock.pass_s(1)
    receive(bench, job, 2, **{"shot_0002.png": a_body(9)})

    with pytest.raises(NotFound, match="Frame 2 was rendered anew"):
        commands.open_download(bench.farm, download)

    assert commands.download(bench.farm, download).status is DownloadStatus.FAILED
    assert contents(bench, packed(bench, job))["shot_0002.png"] == a_body(9)


def test_frame_that_was_delivered_again_just_as_it_was_changes_nothing(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = packed(bench, job)
    bench.clock.pass_s(1)
    receive(bench, job, 2)
    assert len(contents(bench, download)) == 3


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


def test_asking_for_a_zip_wakes_whoever_packs(bench: FakeFarm) -> None:
    job = a_job(bench)
    bench.woken.clear()
    commands.begin_download(bench.farm, job)
    assert bench.woken.is_set()


def test_full_disk_keeps_nobody_from_downloading(bench: FakeFarm) -> None:
    job = a_job(bench)
    bench.cloud.premises.free = 0
    assert len(contents(bench, packed(bench, job))) == 3


def test_packing_that_the_store_interrupts_waits_for_it(bench: FakeFarm) -> None:
    download = commands.begin_download(bench.farm, a_job(bench))
    bench.cloud.objects.fail_next(Unreachable("no answer"), call="list")
    pack(bench.farm, row(bench, download))
    waiting = commands.download(bench.farm, download)
    assert waiting.status is DownloadStatus.PACKING
    assert "does not answer" in waiting.reason
    pack(bench.farm, row(bench, download))
    ready = commands.download(bench.farm, download)
    assert (ready.status, ready.reason) == (DownloadStatus.READY, "")


def test_packing_fails_with_the_frame_whose_output_is_gone(bench: FakeFarm) -> None:
    job = a_job(bench)
    bench.cloud.objects.delete([output_key(job, 2, "shot_0002.png")])
    failed = commands.download(bench.farm, packed(bench, job))
    assert failed.status is DownloadStatus.FAILED
    assert failed.reason.startswith("“shot_0002.png” of frame 2 is gone from the store")
    with pytest.raises(NotFound, match="gone from the store"):
        commands.open_download(bench.farm, failed.id)


@pytest.mark.parametrize("body", [a_body(2)[:-1], a_body(2) + b"more", b""])
def test_packing_fails_with_the_frame_whose_output_has_another_size_than_was_delivered(bench: FakeFarm, body: bytes) -> None:
    job = a_job(bench)
    bench.cloud.objects.place(output_key(job, 2, "shot_0002.png"), body, etag="y")
    failed = commands.download(bench.farm, packed(bench, job))
    assert failed.status is DownloadStatus.FAILED
    assert "frame 2 is not what its node delivered" in failed.reason


def test_packing_looks_at_no_output_but_those_of_the_frames_received(bench: FakeFarm) -> None:
    job = a_job(bench)
    for name in ("shot_0002.png.tmp", "other.png"):
        bench.cloud.objects.place(output_key(job, 2, name), b"left over", etag="x")
    assert len(contents(bench, packed(bench, job))) == 3


def test_job_deleted_while_it_is_packed_leaves_nothing(bench: FakeFarm) -> None:
    job = a_job(bench)
    seen = row(bench, commands.begin_download(bench.farm, job))
    with bench.farm.db.write() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
    pack(bench.farm, seen)
    assert indexes(bench) == 0


def test_deleted_job_takes_what_is_known_of_its_zips_with_it(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = packed(bench, job)
    assert indexes(bench) == 1
    jobs.cancel_job(bench.farm, job)
    for _ in range(5):
        bench.tick()
    jobs.delete_job(bench.farm, job)
    assert indexes(bench) == 0
    with pytest.raises(NotFound):
        commands.open_download(bench.farm, download)


def indexes(bench: FakeFarm) -> int:
    with bench.farm.db.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM download_indexes").scalar() or 0)


def test_packing_stops_when_the_farm_does_and_is_taken_up_again(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = commands.begin_download(bench.farm, job)
    pack(bench.farm, row(bench, download), go_on=lambda: False)
    assert commands.download(bench.farm, download).status is DownloadStatus.PACKING

    stopped = Packer(bench.farm)
    stopped.close()
    stopped.pack_waiting()
    assert commands.download(bench.farm, download).status is DownloadStatus.PACKING

    Packer(bench.farm).pack_waiting()
    assert commands.download(bench.farm, download).status is DownloadStatus.READY


def test_packer_packs_whatever_waits_the_oldest_first(bench: FakeFarm) -> None:
    asked = []
    for _ in range(3):
        asked.append(commands.begin_download(bench.farm, a_job(bench)))
        bench.clock.pass_s(1)
    bench.cloud.objects.fail_next(Unreachable("no answer"), call="list")
    Packer(bench.farm).pack_waiting()
    assert [commands.download(bench.farm, each).status for each in asked] == ["packing", "ready", "ready"]


def test_packer_that_the_store_prevents_does_not_ask_it_over_and_over(bench: FakeFarm) -> None:
    download = commands.begin_download(bench.farm, a_job(bench))
    bench.cloud.objects.fail_next(Unreachable("no answer"), call="list")
    packer = Packer(bench.farm)
    packer.pack_waiting()
    packer.pack_waiting()  # woken for something else
    assert commands.download(bench.farm, download).status is DownloadStatus.PACKING


def test_packer_that_breaks_down_fails_the_download_and_says_so(bench: FakeFarm) -> None:
    download = commands.begin_download(bench.farm, a_job(bench))
    other = commands.begin_download(bench.farm, a_job(bench))
    bench.cloud.objects.fail_next(RuntimeError("a bug"), call="list")
    Packer(bench.farm).pack_waiting()
    statuses = {commands.download(bench.farm, each).status for each in (download, other)}
    assert statuses == {DownloadStatus.FAILED, DownloadStatus.READY}
    reasons = {commands.download(bench.farm, each).reason for each in (download, other)}
    assert any("fault of the farm's own" in reason for reason in reasons)


def broken(bench: FakeFarm, download: str) -> commands.ZipBroken:
    """Send a zip that can't be sent to its end. Returns: what was said of it"""
    with pytest.raises(commands.ZipBroken) as caught:
        sent(bench, download)
    return caught.value


def test_frame_that_is_not_what_was_packed_ends_the_download_for_good_and_says_why(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = packed(bench, job)
    bench.cloud.objects.place(output_key(job, 2, "shot_0002.png"), a_body(7), etag="y")

    assert broken(bench, download).is_lasting

    failed = commands.download(bench.farm, download)
    assert failed.status is DownloadStatus.FAILED
    assert "frame 2 is not what its node delivered" in failed.reason
    with pytest.raises(NotFound, match="frame 2 is not what its node delivered"):
        commands.open_download(bench.farm, download)
    assert indexes(bench) == 0


def test_store_that_fails_breaks_the_transfer_off_and_the_download_says_so_until_one_goes_well(bench: FakeFarm) -> None:
    job = a_job(bench)
    download = packed(bench, job)
    before = queries.job_summary(bench.farm, job).version
    bench.cloud.objects.fail_next(Refused("wrong keys"), call="open")

    assert not broken(bench, download).is_lasting

    noted = commands.download(bench.farm, download)
    assert noted.status is DownloadStatus.READY
    assert "Download it again" in noted.reason
    assert queries.job_summary(bench.farm, job).version > before
    assert len(contents(bench, download)) == 3
    assert commands.download(bench.farm, download).reason == ""


def test_job_deleted_while_its_zip_is_sent_breaks_the_transfer_off(bench: FakeFarm) -> None:
    job = a_job(bench)
    opened = commands.open_download(bench.farm, packed(bench, job))
    with bench.farm.db.write() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
    bench.cloud.objects.delete(bench.cloud.objects.keys())
    with pytest.raises(commands.ZipBroken, match="gone from the store"):
        b"".join(opened.send(0, opened.bytes))


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
    assert indexes(bench) == 0
    with pytest.raises(NotFound, match=r"kept for 14 days.*packed anew"):
        commands.open_download(bench.farm, download)
    assert commands.job_downloads(bench.farm, job) == []


def test_zip_is_not_given_before_it_is_ready(bench: FakeFarm) -> None:
    download = commands.begin_download(bench.farm, a_job(bench))
    with pytest.raises(NotFound, match="being packed"):
        commands.open_download(bench.farm, download)
    with pytest.raises(NotFound):
        commands.open_download(bench.farm, "download_gone")


def test_what_is_in_a_zip_of_many_thousand_files_is_kept_small(bench: FakeFarm) -> None:
    job = a_job(bench, 0)
    names = [f"tile/{n:06d}.png" for n in range(20_000)]
    receive(bench, job, 1, **dict.fromkeys(names, b"x"))

    download = packed(bench, job)

    with bench.farm.db.read() as connection:
        index = store.find_index(connection, download)
        kept = connection.exec_driver_sql("SELECT length(body) FROM download_indexes").scalar()
    assert index is not None
    assert [(entry.name, entry.bytes) for entry in index.entries] == [(name, 1) for name in names]
    assert kept is not None
    assert kept < 400_000


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
