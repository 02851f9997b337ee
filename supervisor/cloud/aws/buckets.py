"""The farm's two buckets: what they must be like, what is lacking, and their end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from nodeimage.protocol import RECEIVED_PREFIX
from supervisor.cloud.ports import Refused, Removal, RemovalState, SetupStep, StepState

from .errors import aws_errors, error_code, is_absent
from .identity import FARM_TAG
from .session import AwsSession

#: Rules of this name are the farm's own; others in a bucket that it was given are left alone.
_RULE = "kiln"
_ABORT_RULE = "kiln-abort-unfinished-uploads"
_EXPIRE_RULE = "kiln-expire-frames"
_NO_PUBLIC_ACCESS = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}
_ENCRYPTED = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
#: Most keys of one DeleteObjects.
_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketWish:
    """A bucket as it must be."""

    name: str
    farm: str
    origins: tuple[str, ...]  #: where browsers see the farm; empty: not known, so whatever is there is kept
    stale_days: float  #: unfinished uploads are deleted after
    expire_days: int  #: what nodes delivered is deleted after; 0: never
    is_amazons: bool  #: False: another store, which knows neither public access nor encryption nor tags


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trait:
    """Something that a bucket must have."""

    wish: str  #: in words, as what would be done: “block public access”
    is_there: Callable[[], bool]
    make: Callable[[], object]


class Bucket:
    """One bucket, looked at and made as wished."""

    def __init__(self, session: AwsSession, wish: BucketWish) -> None:
        self._session = session
        self._wish = wish
        self._name = wish.name
        self.title = f"bucket {wish.name}"

    @property
    def _s3(self) -> Any:
        return self._session.client("s3")

    def look(self) -> SetupStep:
        """See what is lacking. Errors: Refused, Throttled, Unreachable"""
        with aws_errors(f"look at {self.title}"):
            problem, exists = self._find()
            if problem:
                return SetupStep(name=self.title, state=StepState.BLOCKED, text=problem)
            if not exists:
                wishes = ", ".join(trait.wish for trait in self._traits())
                return SetupStep(name=self.title, state=StepState.ABSENT, text=wishes)
            lacking = [trait.wish for trait in self._traits() if not trait.is_there()]
        if lacking:
            return SetupStep(name=self.title, state=StepState.DIFFERS, text=", ".join(lacking))
        return SetupStep(name=self.title, state=StepState.READY, text="there, with all that it needs")

    def make(self) -> None:
        """Make it as wished; what is so already stays. Repeat: safe"""
        with aws_errors(f"prepare {self.title}"):
            if not self._find()[1]:
                self._create()
            for trait in self._traits():
                if not trait.is_there():
                    trait.make()

    def _find(self) -> tuple[str, bool]:
        """Returns: what keeps us from having it, for people; whether it is there"""
        try:
            self._s3.head_bucket(Bucket=self._name)
        except ClientError as error:
            code = error_code(error)
            if code in {"404", "NoSuchBucket"}:
                return "", False
            if code in {"403", "AccessDenied"}:
                return (
                    "it is somebody else's, or the farm's keys may not look at it: name another one in [aws], or mend the keys' policy",
                    False,
                )
            if code in {"301", "PermanentRedirect"}:
                return "it is in another region: name another one in [aws], or change [aws] region", False
            raise
        return "", True

    def _create(self) -> None:
        region = self._s3.meta.region_name
        # us-east-1 is Amazon's default and must not be named as a constraint.
        where = {} if region in {None, "us-east-1"} else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self._s3.create_bucket(Bucket=self._name, **where)
        except ClientError as error:
            if error_code(error) in {"BucketAlreadyExists"}:
                raise Refused(f"can't make {self.title}: somebody else has one of that name; name another one in [aws]") from error
            if error_code(error) != "BucketAlreadyOwnedByYou":
                raise

    def _traits(self) -> Iterator[_Trait]:
        wish = self._wish
        if wish.is_amazons:
            yield _Trait(wish="block public access", is_there=self._is_private, make=self._block)
            yield _Trait(wish="encrypt what is stored", is_there=self._is_encrypted, make=self._encrypt)
            yield _Trait(wish="tag it as the farm's", is_there=lambda: self._tags().get(FARM_TAG) == wish.farm, make=self._tag)
        where = " and ".join(wish.origins) or "any page"
        yield _Trait(wish=f"let browsers upload from {where}", is_there=self._lets_browsers, make=self._let_browsers)
        days = f"delete unfinished uploads after {_days(_whole_days(wish.stale_days))}"
        frames = f" and frames after {_days(wish.expire_days)}" if wish.expire_days else ""
        yield _Trait(wish=days + frames, is_there=lambda: self._has_rules(self._rules()), make=self._put_rules)

    def _is_private(self) -> bool:
        found = _or_none(lambda: self._s3.get_public_access_block(Bucket=self._name), "NoSuchPublicAccessBlockConfiguration")
        return found is not None and found["PublicAccessBlockConfiguration"] == _NO_PUBLIC_ACCESS

    def _block(self) -> None:
        self._s3.put_public_access_block(Bucket=self._name, PublicAccessBlockConfiguration=_NO_PUBLIC_ACCESS)

    def _is_encrypted(self) -> bool:
        absent = "ServerSideEncryptionConfigurationNotFoundError"
        return _or_none(lambda: self._s3.get_bucket_encryption(Bucket=self._name), absent) is not None

    def _encrypt(self) -> None:
        self._s3.put_bucket_encryption(Bucket=self._name, ServerSideEncryptionConfiguration=_ENCRYPTED)

    def _tags(self) -> dict[str, str]:
        found = _or_none(lambda: self._s3.get_bucket_tagging(Bucket=self._name), "NoSuchTagSet")
        return {tag["Key"]: tag["Value"] for tag in found["TagSet"]} if found else {}

    def _tag(self) -> None:
        tags = self._tags() | {FARM_TAG: self._wish.farm}
        self._s3.put_bucket_tagging(Bucket=self._name, Tagging={"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]})

    def _cors_rules(self) -> list[dict[str, Any]]:
        found = _or_none(lambda: self._s3.get_bucket_cors(Bucket=self._name), "NoSuchCORSConfiguration")
        return list(found["CORSRules"]) if found else []

    def _lets_browsers(self) -> bool:
        return lets_upload(self._cors_rules(), self._wish.origins)

    def _let_browsers(self) -> None:
        rules = self._cors_rules()
        known = {origin for rule in rules if rule.get("ID") == _RULE for origin in rule["AllowedOrigins"]}
        ours = {
            "ID": _RULE,
            "AllowedOrigins": sorted(known | set(self._wish.origins)) or ["*"],
            "AllowedMethods": ["PUT", "GET", "HEAD"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 3600,
        }
        others = [rule for rule in rules if rule.get("ID") != _RULE]
        self._s3.put_bucket_cors(Bucket=self._name, CORSConfiguration={"CORSRules": [*others, ours]})

    def _rules(self) -> list[dict[str, Any]]:
        """The lifecycle rules that the farm wants."""
        abort = {
            "ID": _ABORT_RULE,
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _whole_days(self._wish.stale_days)},
        }
        expire = {
            "ID": _EXPIRE_RULE,
            "Status": "Enabled",
            "Filter": {"Prefix": RECEIVED_PREFIX},
            "Expiration": {"Days": self._wish.expire_days},
        }
        return [abort, expire] if self._wish.expire_days else [abort]

    def _rules_there(self) -> list[dict[str, Any]]:
        absent = "NoSuchLifecycleConfiguration"
        found = _or_none(lambda: self._s3.get_bucket_lifecycle_configuration(Bucket=self._name), absent)
        return list(found.get("Rules", ())) if found else []

    def _has_rules(self, wanted: Iterable[Mapping[str, Any]]) -> bool:
        ours = {rule["ID"]: _essence(rule) for rule in self._rules_there() if rule.get("ID", "").startswith(_RULE)}
        return ours == {rule["ID"]: _essence(rule) for rule in wanted}

    def _put_rules(self) -> None:
        others = [rule for rule in self._rules_there() if not rule.get("ID", "").startswith(_RULE)]
        rules = [*others, *self._rules()]
        self._s3.put_bucket_lifecycle_configuration(Bucket=self._name, LifecycleConfiguration={"Rules": rules})

    def remove(self, *, with_data: bool, dry_run: bool) -> Removal | None:
        """Delete it, if it is empty or its data may go too. Returns: None if there is none. Errors: Refused, Throttled, Unreachable"""
        with aws_errors(f"delete {self.title}"):
            if not self._find()[1]:
                return None
            if not with_data and not self._is_empty():
                text = "it holds projects or frames: download what you want to keep, then use --with-data"
                return Removal(name=self.title, state=RemovalState.STAYS, text=text)
            if not dry_run:
                self._delete(with_data=with_data)
        return Removal(name=self.title, state=RemovalState.REMOVED, text="with all that was in it" if with_data else "")

    def _is_empty(self) -> bool:
        objects = self._s3.list_objects_v2(Bucket=self._name, MaxKeys=1).get("KeyCount", 0)
        return not objects and not self._s3.list_multipart_uploads(Bucket=self._name, MaxUploads=1).get("Uploads")

    def _delete(self, *, with_data: bool) -> None:
        if with_data:
            self._delete_objects()
            self._abort_uploads()
        try:
            self._s3.delete_bucket(Bucket=self._name)
        except ClientError as error:
            if error_code(error) == "BucketNotEmpty":
                text = "something was put there just now, or it keeps old versions of objects: empty it in the AWS console"
                raise Refused(f"can't delete {self.title}: {text}") from error
            if not is_absent(error):
                raise

    def _delete_objects(self) -> None:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._name, PaginationConfig={"PageSize": _BATCH}):
            keys = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
            if keys:
                answer = self._s3.delete_objects(Bucket=self._name, Delete={"Objects": keys, "Quiet": True})
                for failed in answer.get("Errors", ()):
                    raise Refused(f"can't delete {failed.get('Key')} of {self.title}: {failed.get('Message')} ({failed.get('Code')})")

    def _abort_uploads(self) -> None:
        for page in self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._name):
            for upload in page.get("Uploads", ()):
                self._s3.abort_multipart_upload(Bucket=self._name, Key=upload["Key"], UploadId=upload["UploadId"])


def lets_upload(rules: Iterable[Mapping[str, Any]], origins: Iterable[str]) -> bool:
    """Say whether browsers may PUT parts from these origins and read their ETags. No origins: from anywhere at all."""
    allowed = [
        rule["AllowedOrigins"]
        for rule in rules
        if "PUT" in rule["AllowedMethods"] and any(header in {"*", "ETag"} for header in rule.get("ExposeHeaders", ()))
    ]
    wanted = set(origins)
    if not wanted:
        return bool(allowed)
    return all(any(origin in each or "*" in each for each in allowed) for origin in wanted)


def cors_rules(session: AwsSession, bucket: str) -> list[dict[str, Any]]:
    """The rules by which browsers may use a bucket. Errors: CloudError"""
    with aws_errors(f"read the CORS rules of bucket {bucket}"):
        found = _or_none(lambda: session.client("s3").get_bucket_cors(Bucket=bucket), "NoSuchCORSConfiguration")
    return list(found["CORSRules"]) if found else []


def _or_none(ask: Callable[[], Any], absent: str) -> Any | None:
    """What the store answers. Returns: None where it says that there is no such thing"""
    try:
        return ask()
    except ClientError as error:
        if error_code(error) == absent:
            return None
        raise


def _essence(rule: Mapping[str, Any]) -> tuple[object, ...]:
    """What matters of a lifecycle rule; stores word the rest of it in their own ways."""
    abort = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
    prefix = rule.get("Filter", {}).get("Prefix", rule.get("Prefix", ""))
    return rule.get("Status"), prefix, abort, rule.get("Expiration", {}).get("Days")


def _whole_days(days: float) -> int:
    return max(1, math.ceil(days))


def _days(days: int) -> str:
    return "a day" if days == 1 else f"{days} days"
