"""What the agent sends to S3, and what it makes of the answers: README's table, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from nodeimage.agent import store as agent_store
from nodeimage.agent.ports import Absent, Fetched, Full, Refused, Silent, StoreError
from nodeimage.agent.store import TRIES, S3Store, connect
from nodeimage.protocol import NodeConfig, bucket_of

KEY = "received/job_1/claims/00000001"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_store, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def stubber() -> Iterator[Stubber]:
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s")
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()
    client.close()


@pytest.fixture
def store(stubber: Stubber) -> S3Store:
    return S3Store(stubber.client, bucket="b")


def answer(stubber: Stubber, method: str, status: int, code: str = "", *, times: int = 1) -> None:
    for _ in range(times):
        stubber.add_client_error(method, service_error_code=code or str(status), http_status_code=status)


def found(body: bytes, etag: str = '"1"') -> dict[str, Any]:
    return {"Body": StreamingBody(BytesIO(body), len(body)), "ETag": etag}


def test_object_is_read_with_its_etag(store: S3Store, stubber: Stubber) -> None:
    stubber.add_response("get_object", found(b"x"), {"Bucket": "b", "Key": KEY})
    assert store.get(KEY) == Fetched(etag='"1"', body=b"x")


def test_304_says_unchanged(store: S3Store, stubber: Stubber) -> None:
    stubber.add_client_error("get_object", "304", http_status_code=304, expected_params={"Bucket": "b", "Key": KEY, "IfNoneMatch": '"1"'})
    assert store.get(KEY, etag='"1"') == Fetched(etag='"1"', body=None)


@pytest.mark.parametrize("code", ["NoSuchKey", "404"])
def test_404_says_there_is_none(store: S3Store, stubber: Stubber, code: str) -> None:
    answer(stubber, "get_object", 404, code)
    assert store.get(KEY) is None


def test_claim_is_put_on_condition_that_there_is_none(store: S3Store, stubber: Stubber) -> None:
    expected = {"Bucket": "b", "Key": KEY, "Body": b"me", "ContentType": "application/json", "IfNoneMatch": "*"}
    stubber.add_response("put_object", {}, expected)
    assert store.put_new(KEY, b"me")


@pytest.mark.parametrize(("there", "is_ours"), [(b"me", True), (b"another", False)])
def test_412_is_settled_by_reading_back(store: S3Store, stubber: Stubber, there: bytes, is_ours: bool) -> None:
    answer(stubber, "put_object", 412, "PreconditionFailed")
    stubber.add_response("get_object", found(there))
    assert store.put_new(KEY, b"me") is is_ours


def test_412_for_a_claim_that_is_gone_by_now_is_not_ours(store: S3Store, stubber: Stubber) -> None:
    answer(stubber, "put_object", 412, "PreconditionFailed")
    answer(stubber, "get_object", 404, "NoSuchKey")
    assert not store.put_new(KEY, b"me")


@pytest.mark.parametrize(("status", "code"), [(409, "ConditionalRequestConflict"), (429, "SlowDown"), (503, "SlowDown"), (502, "")])
def test_passing_fault_is_tried_again(store: S3Store, stubber: Stubber, status: int, code: str) -> None:
    answer(stubber, "put_object", status, code, times=TRIES - 1)
    stubber.add_response("put_object", {})
    store.put(KEY, b"x")


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", Refused),
        (403, "InvalidAccessKeyId", Refused),
        (400, "InvalidRequest", Refused),
        (403, "RequestTimeTooSkewed", Silent),
        (400, "RequestTimeout", Silent),
        (503, "ServiceUnavailable", Silent),
        (507, "InsufficientStorage", Full),
        (500, "InternalError", Full),
    ],
)
def test_answer_to_a_write_is_sorted_by_what_to_do_next(
    store: S3Store, stubber: Stubber, status: int, code: str, error: type[StoreError]
) -> None:
    answer(stubber, "put_object", status, code, times=1 if error is Refused else TRIES)
    with pytest.raises(error, match=KEY) as raised:
        store.put(KEY, b"x")
    assert raised.type is error


def test_500_to_a_read_is_no_word_about_room(store: S3Store, stubber: Stubber) -> None:
    answer(stubber, "get_object", 500, "InternalError", times=TRIES)
    with pytest.raises(Silent) as raised:
        store.get(KEY)
    assert raised.type is Silent


def test_listing_takes_all_pages_and_names_what_follows_the_prefix(store: S3Store, stubber: Stubber) -> None:
    page = {"IsTruncated": True, "NextContinuationToken": "t", "Contents": [{"Key": "p/1"}]}
    stubber.add_response("list_objects_v2", page, {"Bucket": "b", "Prefix": "p/"})
    stubber.add_response("list_objects_v2", {"Contents": [{"Key": "p/2"}]}, {"Bucket": "b", "Prefix": "p/", "ContinuationToken": "t"})
    assert store.names("p/") == ["1", "2"]


def test_empty_listing_is_empty(store: S3Store, stubber: Stubber) -> None:
    stubber.add_response("list_objects_v2", {})
    assert store.names("p/") == []


def test_upload_that_is_refused_is_told_from_one_without_answer(store: S3Store, stubber: Stubber, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    answer(stubber, "put_object", 403, "AccessDenied")
    with pytest.raises(Refused, match="AccessDenied"):
        store.put_file(KEY, path)
    answer(stubber, "put_object", 503, "SlowDown", times=TRIES)
    with pytest.raises(Silent):
        store.put_file(KEY, path)


def test_upload_of_a_file_that_is_gone_is_an_error_of_the_disk(store: S3Store, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        store.put_file(KEY, tmp_path / "gone")


def test_store_that_can_not_be_reached_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    store = connect(NodeConfig(node="n", job="j", bucket="b", endpoint="http://127.0.0.1:1"))
    with pytest.raises(Silent):
        store.get(KEY)


def test_silence_is_counted_from_the_last_good_answer(store: S3Store, stubber: Stubber) -> None:
    answer(stubber, "get_object", 403, "AccessDenied")
    before = store.silent_s()
    with pytest.raises(Refused):
        store.get(KEY)
    assert store.silent_s() >= before
    stubber.add_response("get_object", found(b"x"))
    store.get(KEY)
    assert store.silent_s() < 1.0


def test_after_long_silence_a_call_is_tried_once_only(store: S3Store, stubber: Stubber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_store, "CIRCUIT_OPEN_S", -1.0)
    answer(stubber, "get_object", 503, "SlowDown")
    with pytest.raises(Silent):
        store.get(KEY)


# Large objects, a part at a time


def part(body: bytes, total: int | None = None) -> dict[str, Any]:
    where = {"ContentRange": f"bytes 0-{len(body) - 1}/{total}"} if total is not None else {}
    return {"Body": StreamingBody(BytesIO(body), len(body)), "ContentLength": len(body), **where}


def test_part_is_read_by_its_range_and_tells_the_whole_size(store: S3Store, stubber: Stubber) -> None:
    stubber.add_response("get_object", part(b"cde", 10), {"Bucket": "b", "Key": "projects/j/a", "Range": "bytes=2-4"})
    read = store.open_part("projects/j/a", first=2, count=3)
    assert read.object_bytes == 10
    assert b"".join(read.blocks) == b"cde"


def test_store_that_ignores_ranges_tells_the_size_by_what_it_sends(store: S3Store, stubber: Stubber) -> None:
    stubber.add_response("get_object", part(b"abc"))
    assert store.open_part("projects/j/a", first=0, count=3).object_bytes == 3


def test_part_past_the_end_is_empty_and_tells_the_size(store: S3Store, stubber: Stubber) -> None:
    stubber.add_client_error(
        "get_object", "InvalidRange", http_status_code=416, response_meta={"HTTPHeaders": {"content-range": "bytes */7"}}
    )
    read = store.open_part("projects/j/a", first=10, count=3)
    assert (read.object_bytes, list(read.blocks)) == (7, [])


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "NoSuchKey", Absent),
        (404, "NoSuchBucket", Refused),
        (403, "AccessDenied", Refused),
        (503, "SlowDown", Silent),
        (500, "", Silent),
    ],
)
def test_part_that_is_not_given_says_why_and_is_not_tried_again(
    store: S3Store, stubber: Stubber, status: int, code: str, error: type[StoreError]
) -> None:
    answer(stubber, "get_object", status, code)
    with pytest.raises(error) as raised:
        store.open_part("projects/j/a", first=0, count=3)
    assert raised.type is error


def test_part_that_breaks_off_is_silence_in_the_middle(store: S3Store, stubber: Stubber) -> None:
    stubber.add_response("get_object", {"Body": StreamingBody(BytesIO(b"ab"), 5), "ContentLength": 5, "ContentRange": "bytes 0-4/5"})
    with pytest.raises(Silent, match="to its end"):
        list(store.open_part("projects/j/a", first=0, count=5).blocks)


# Two buckets


def test_what_is_received_goes_into_its_own_bucket_where_there_is_one(stubber: Stubber, tmp_path: Path) -> None:
    store = S3Store(stubber.client, bucket="p", received_bucket="r")
    (tmp_path / "f").write_bytes(b"x")
    stubber.add_response("get_object", found(b"x"), {"Bucket": "r", "Key": KEY})
    stubber.add_response("get_object", part(b"x", 1), {"Bucket": "p", "Key": "projects/j/a", "Range": "bytes=0-0"})
    stubber.add_response("list_objects_v2", {}, {"Bucket": "r", "Prefix": "received/job_1/claims/"})
    stubber.add_response("delete_object", {}, {"Bucket": "r", "Key": KEY})
    stubber.add_response("put_object", {}, {"Bucket": "r", "Key": KEY, "Body": ANY, "ContentType": ANY, "ChecksumAlgorithm": ANY})
    store.get(KEY)
    store.open_part("projects/j/a", first=0, count=1)
    store.names("received/job_1/claims/")
    store.delete(KEY)
    store.put_file(KEY, tmp_path / "f")


def test_one_bucket_holds_everything_where_no_other_is_named() -> None:
    assert bucket_of(KEY, "b") == bucket_of("projects/j/a", "b") == "b"
    assert bucket_of(KEY, "p", "r") == "r"
    assert bucket_of("received/", "p", "r") == "r"
    assert bucket_of("agent/1.pyz", "p", "r") == "p"
