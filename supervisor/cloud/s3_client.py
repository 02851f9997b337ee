"""The one place that makes S3 clients, and the one that turns what they raise into the ports' errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from urllib3.exceptions import HTTPError

from .ports import CloudError, Full, Refused, SignedOut, Throttled, Unreachable

_FULL_CODES = frozenset({"507", "InsufficientStorage", "XMinioStorageFull", "QuotaExceeded"})
_FULL_TEXTS = ("no space left", "no writable volume", "no free volume", "not enough space", "insufficient storage", "disk full")
_THROTTLED_CODES = frozenset({"429", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"})
#: The request was sound and may win the next time: S3 answers these with 409 and 400.
_AGAIN_CODES = frozenset({"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "RequestTimeTooSkewed"})
ABSENT_CODES = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload"})


def connect_s3(endpoint: str, *, region: str, access_key: str = "", secret_key: str = "", attempts: int = 4) -> Any:
    """Make an S3 client. `endpoint` empty: Amazon S3; keys empty: botocore's own search (instance role, environment).

    Returns: the client, `Any` on purpose: botocore checks parameters when they are sent
    """
    config = Config(
        signature_version="s3v4",
        # Other stores than Amazon's know neither the trailing checksums nor the answers' (boto3 >= 1.36 sends them by default).
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if endpoint else "auto"},
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=32,
    )
    session = boto3.session.Session(
        aws_access_key_id=access_key or None, aws_secret_access_key=secret_key or None, region_name=region or None
    )
    return session.client("s3", endpoint_url=endpoint or None, config=config)


def ambient_keys(profile: str) -> tuple[str, str]:
    """Find keys where botocore looks: those of `profile` if there is one, else the default ones (environment, files).

    Returns: access key and secret; empty where there are none
    """
    session = boto3.session.Session()
    if profile in session.available_profiles:
        session = boto3.session.Session(profile_name=profile)
    found = session.get_credentials()
    return (found.access_key, found.secret_key) if found else ("", "")


def prepare_bucket(client: Any, bucket: str) -> None:
    """Make the bucket exist, and let browsers of any origin PUT parts to presigned URLs and read their ETags.

    Repeat:  safe
    Errors:  Refused - the keys may not do this; Unreachable - the store does not answer
    """
    with store_errors(f"prepare the bucket {bucket}"):
        try:
            client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error_code(error) not in {"404", "NoSuchBucket"}:
                raise
            _create_bucket(client, bucket)
        rule = {
            "AllowedOrigins": ["*"],
            "AllowedMethods": ["PUT", "GET", "HEAD"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 3600,
        }
        client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})


def _create_bucket(client: Any, bucket: str) -> None:
    region = client.meta.region_name
    # us-east-1 is Amazon's default and must not be named as a constraint.
    where = {} if region in {None, "us-east-1"} else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        client.create_bucket(Bucket=bucket, **where)
    except ClientError as error:
        if error_code(error) not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
            raise


def error_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def store_errors(what: str, *, is_full: Callable[[], bool] | None = None) -> Iterator[None]:
    """Turn what boto3 and urllib3 raise into a CloudError whose message begins with `what` was attempted.

    `is_full` is asked when the store answers with a fault that does not say why: a SeaweedFS on a full disk answers so.
    Errors:  Full, Throttled, Unreachable, Refused - as `cloud.ports` sorts them
    """
    try:
        yield
    except ClientError as error:
        metadata = error.response.get("ResponseMetadata", {})
        message = error.response.get("Error", {}).get("Message", "")
        raise sorted_error(
            what, code=error_code(error), status=int(metadata.get("HTTPStatusCode", 0)), message=str(message), is_full=is_full
        ) from error
    except NoCredentialsError as error:
        raise SignedOut(f"can't {what}: there are no credentials for the store; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    except ParamValidationError as error:
        raise Refused(f"can't {what}: {error}") from error
    except (BotoCoreError, HTTPError, ConnectionError, TimeoutError) as error:
        raise Unreachable(f"can't {what}: {error}") from error


def sorted_error(what: str, *, code: str, status: int, message: str, is_full: Callable[[], bool] | None = None) -> CloudError:
    """Sort a store's answer by what the caller does next."""
    text = f"can't {what}: {message or 'the store refused'} ({code or status})"
    if code == "NoSuchBucket":
        text += "; on AWS an administrator makes the farm's buckets on its AWS page, or with `kiln aws setup`"
    if code in _FULL_CODES or status == 507 or any(sign in message.lower() for sign in _FULL_TEXTS):
        return Full(text)
    if code in _THROTTLED_CODES or status == 429:
        return Throttled(text)
    if status >= 500 or code in _AGAIN_CODES:
        if is_full and is_full():
            return Full(f"can't {what}: the store's disk is full")
        return Unreachable(text)
    return Refused(text)
