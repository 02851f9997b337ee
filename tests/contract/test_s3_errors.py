"""What the S3 adapters send, and what they make of what a store answers; no store runs here."""

from __future__ import annotations

import io
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from botocore.stub import Stubber

from supervisor.cloud.ports import CloudError, Full, Refused, Throttled, Unreachable
from supervisor.cloud.s3 import S3ObjectStore, part_bytes
from supervisor.cloud.s3_client import connect_s3, store_errors
from supervisor.cloud.s3_uploads import S3Uploads

BUCKET = "farm"


@pytest.fixture
def client() -> Any:  # boto3's clients are made at run time
    return connect_s3("http://127.0.0.1:9", region="us-east-1", access_key="a", secret_key="b", attempts=1)


@pytest.mark.parametrize(
    ("code", "status", "message", "expected"),
    [
        ("InsufficientStorage", 507, "", Full),
        ("InternalError", 500, "write: no space left on device", Full),
        ("InternalError", 500, "failed to find writable volumes: No writable volumes and no free volumes left", Full),
        ("SlowDown", 503, "Please reduce your request rate", Throttled),
        ("TooManyRequests", 429, "", Throttled),
        ("InternalError", 500, "We encountered an internal error, please try again.", Unreachable),
        ("ServiceUnavailable", 503, "", Unreachable),
        ("ConditionalRequestConflict", 409, "", Unreachable),
        ("AccessDenied", 403, "Access Denied", Refused),
        ("NoSuchBucket", 404, "", Refused),
        ("InvalidAccessKeyId", 403, "", Refused),
    ],
)
def test_answer_is_sorted_by_what_the_caller_does_next(
    client: Any, code: str, status: int, message: str, expected: type[CloudError]
) -> None:
    with Stubber(client) as stub:
        stub.add_client_error("put_object", service_error_code=code, service_message=message, http_status_code=status)
        with pytest.raises(expected, match="received/a") as raised:
            S3ObjectStore(client, BUCKET).put("received/a", b"x")
        stub.assert_no_pending_responses()
    assert type(raised.value) is expected


def test_fault_that_does_not_say_why_is_full_if_the_disk_is(client: Any) -> None:
    with Stubber(client) as stub:
        stub.add_client_error("put_object", service_error_code="InternalError", http_status_code=500)
        with pytest.raises(Full):
            S3ObjectStore(client, BUCKET, is_full=lambda: True).put("received/a", b"x")


@pytest.mark.parametrize(
    "error", [EndpointConnectionError(endpoint_url="http://x"), ReadTimeoutError(endpoint_url="http://x"), ConnectionResetError()]
)
def test_silence_of_the_store_is_unreachable(error: Exception) -> None:
    with pytest.raises(Unreachable, match="can't read a thing"), store_errors("read a thing"):
        raise error


def test_store_that_nobody_runs_is_unreachable(client: Any) -> None:
    with pytest.raises(Unreachable):
        S3ObjectStore(client, BUCKET).get("received/a")
    uploads = S3Uploads(client, BUCKET, connect=lambda endpoint: client)
    with pytest.raises(Unreachable):
        uploads.put_part("projects/a", "upload", 1, io.BytesIO(b"abc"), length=3)


def test_refusal_after_a_lost_reply_is_compared_with_what_is_there(client: Any) -> None:
    with Stubber(client) as stub:
        for there in (b"mine", b"theirs"):
            stub.add_client_error(
                "put_object", service_error_code="PreconditionFailed", http_status_code=412, response_meta={"RetryAttempts": 1}
            )
            stub.add_response("get_object", {"Body": _Body(there), "ETag": '"1"'})
        store = S3ObjectStore(client, BUCKET)
        assert store.put("received/claim", b"mine", if_absent=True) is True
        assert store.put("received/claim", b"mine", if_absent=True) is False
        stub.assert_no_pending_responses()


def test_conditional_write_asks_for_absence(client: Any) -> None:
    with Stubber(client) as stub:
        stub.add_response("put_object", {}, {"Bucket": BUCKET, "Key": "received/claim", "Body": b"x", "IfNoneMatch": "*"})
        assert S3ObjectStore(client, BUCKET).put("received/claim", b"x", if_absent=True) is True
        stub.assert_no_pending_responses()


def test_upload_of_a_stream_is_aborted_when_a_part_fails(client: Any) -> None:
    where = {"Bucket": BUCKET, "Key": "received/zip", "UploadId": "u1"}
    with Stubber(client) as stub:
        stub.add_response("create_multipart_upload", {"UploadId": "u1"}, {"Bucket": BUCKET, "Key": "received/zip"})
        stub.add_client_error("upload_part", service_error_code="InsufficientStorage", http_status_code=507)
        stub.add_response("abort_multipart_upload", {}, where)
        with pytest.raises(Full):
            S3ObjectStore(client, BUCKET).put_stream("received/zip", io.BytesIO(bytes(part_bytes(1) + 1)))
        stub.assert_no_pending_responses()


def test_objects_that_could_not_be_deleted_are_an_error(client: Any) -> None:
    with Stubber(client) as stub:
        stub.add_response("delete_objects", {"Errors": [{"Key": "received/a", "Code": "AccessDenied", "Message": "no"}]})
        with pytest.raises(Refused):
            S3ObjectStore(client, BUCKET).delete(["received/a"])


def test_parts_of_a_stream_grow_so_that_ten_thousand_hold_terabytes() -> None:
    assert sum(part_bytes(number) for number in range(1, 10_001)) > 5 << 40
    assert part_bytes(1) >= 5 << 20


class _Body(io.BytesIO):
    """A body as botocore hands it out."""
