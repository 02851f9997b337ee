"""The contract of Uploads: in memory and on SeaweedFS."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import count

import pytest
import urllib3

from supervisor.cloud.local.seaweedfs import SeaweedFS
from supervisor.cloud.ports import ObjectStore, PartMismatch, Refused, Uploads
from supervisor.cloud.s3_uploads import S3Uploads
from tests.fakes import FakeCloud

_NUMBERS = count()
PART = 5 << 20  #: the least that S3 allows of a part that is not the last


@dataclass
class Bucket:
    uploads: Uploads
    objects: ObjectStore
    key: str

    def put(self, upload: str, number: int, body: bytes) -> str:
        return self.uploads.put_part(self.key, upload, number, io.BytesIO(body), length=len(body))

    def content(self) -> bytes | None:
        there = self.objects.get(self.key)
        return there.body if there else None


@pytest.fixture(params=["fake", "seaweedfs"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    key = f"projects/uploads{next(_NUMBERS)}/Größe & 1.blend"
    if request.param == "fake":
        cloud = FakeCloud()
        return Bucket(cloud.uploads, cloud.objects, key)
    return Bucket(request.getfixturevalue("uploads"), request.getfixturevalue("object_store"), key)


def test_object_is_made_of_its_parts_in_order(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    second = bucket.put(upload, 2, b"end")
    first = bucket.put(upload, 1, b"a" * PART)
    assert bucket.content() is None
    bucket.uploads.complete(bucket.key, upload, [(2, second), (1, first)])
    assert bucket.content() == b"a" * PART + b"end"


def test_empty_file_is_one_empty_part(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    bucket.uploads.complete(bucket.key, upload, [(1, bucket.put(upload, 1, b""))])
    assert bucket.content() == b""


def test_parts_received_are_told_by_number(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    assert list(bucket.uploads.parts(bucket.key, upload) or ()) == []
    etag = bucket.put(upload, 3, b"abc")
    parts = bucket.uploads.parts(bucket.key, upload)
    assert [(part.number, part.etag, part.bytes) for part in parts or ()] == [(3, etag, 3)]


def test_part_sent_again_replaces_the_one_before(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    bucket.put(upload, 1, b"wrong")
    etag = bucket.put(upload, 1, b"right")
    bucket.uploads.complete(bucket.key, upload, [(1, f'"{etag}"')])
    assert bucket.content() == b"right"


def test_completing_again_is_no_error(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    parts = [(1, bucket.put(upload, 1, b"a" * PART)), (2, bucket.put(upload, 2, b"b"))]
    bucket.uploads.complete(bucket.key, upload, parts)
    bucket.uploads.complete(bucket.key, upload, parts)
    assert bucket.content() == b"a" * PART + b"b"


def test_completing_with_a_wrong_etag_names_the_part_and_keeps_the_upload(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    first = bucket.put(upload, 1, b"a" * PART)
    second = bucket.put(upload, 2, b"b")
    with pytest.raises(PartMismatch) as mismatch:
        bucket.uploads.complete(bucket.key, upload, [(1, first), (2, "0" * 32)])
    assert mismatch.value.number == 2
    assert bucket.content() is None
    bucket.uploads.complete(bucket.key, upload, [(1, first), (2, second)])


def test_completing_with_a_part_that_never_came_names_it(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    first = bucket.put(upload, 1, b"a" * PART)
    with pytest.raises(PartMismatch) as mismatch:
        bucket.uploads.complete(bucket.key, upload, [(1, first), (2, first)])
    assert mismatch.value.number == 2


def test_completing_without_parts_is_a_mismatch(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    with pytest.raises(PartMismatch):
        bucket.uploads.complete(bucket.key, upload, [])


def test_completing_an_aborted_upload_is_refused(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    etag = bucket.put(upload, 1, b"a")
    bucket.uploads.abort(bucket.key, upload)
    with pytest.raises(Refused, match="upload the file again"):
        bucket.uploads.complete(bucket.key, upload, [(1, etag)])


def test_aborted_upload_is_gone_and_may_be_aborted_again(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    bucket.put(upload, 1, b"a")
    bucket.uploads.abort(bucket.key, upload)
    bucket.uploads.abort(bucket.key, upload)
    assert bucket.uploads.parts(bucket.key, upload) is None
    with pytest.raises(Refused):
        bucket.put(upload, 1, b"a")


def test_part_that_ends_early_is_not_received(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    with pytest.raises(Refused, match="after 3 of 1000 bytes"):
        bucket.uploads.put_part(bucket.key, upload, 1, io.BytesIO(b"abc"), length=1000)
    assert list(bucket.uploads.parts(bucket.key, upload) or ()) == []


def test_part_takes_no_more_than_its_length(bucket: Bucket) -> None:
    upload = bucket.uploads.begin(bucket.key)
    body = io.BytesIO(b"abcdef")
    bucket.uploads.put_part(bucket.key, upload, 1, body, length=3)
    assert body.read() == b"def"


def test_browser_may_put_a_part_to_a_signed_url_of_any_address(weed: SeaweedFS, uploads: S3Uploads) -> None:
    key = f"projects/uploads{next(_NUMBERS)}/a.blend"
    upload = uploads.begin(key)
    url = uploads.part_url(key, upload, 1, endpoint=weed.endpoint.replace("127.0.0.1", "localhost"))
    asked = urllib3.request("OPTIONS", url, headers={"Origin": "http://farm.example:8000", "Access-Control-Request-Method": "PUT"})
    assert asked.headers["Access-Control-Allow-Origin"] in {"*", "http://farm.example:8000"}
    answer = urllib3.request("PUT", url, body=b"abc", headers={"Origin": "http://farm.example:8000"})
    assert answer.status == 200
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
    uploads.complete(key, upload, [(1, answer.headers["ETag"])])


def test_url_with_another_part_number_is_denied(uploads: S3Uploads, weed: SeaweedFS) -> None:
    key = f"projects/uploads{next(_NUMBERS)}/a.blend"
    url = uploads.part_url(key, uploads.begin(key), 1, endpoint=weed.endpoint)
    assert urllib3.request("PUT", url.replace("partNumber=1", "partNumber=2"), body=b"abc").status == 403


def test_unfinished_uploads_are_listed_with_their_time(uploads: S3Uploads) -> None:
    key = f"projects/uploads{next(_NUMBERS)}/a.blend"
    upload = uploads.begin(key)
    [found] = uploads.unfinished(key.rpartition("/")[0])
    assert (found.key, found.upload_id) == (key, upload)
    assert found.begun_at.tzinfo is not None
