"""The stand-in store, as the farm sees it."""

from __future__ import annotations

import json
from typing import Any

import boto3
from botocore.exceptions import ClientError

BUCKET = "kiln-check"
REGION = "us-east-1"


class Bucket:
    """One bucket for everything."""

    def __init__(self, endpoint: str) -> None:
        self._client: Any = boto3.client(  # Any: boto3's clients are made at run time
            "s3", region_name=REGION, endpoint_url=endpoint, aws_access_key_id="check", aws_secret_access_key="check"
        )
        self._client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self._client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key}]})

    def body(self, key: str) -> bytes:
        content: bytes = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def find(self, key: str) -> bytes | None:
        """Returns: None if there is no such object"""
        try:
            return self.body(key)
        except ClientError:
            return None

    def keys(self, prefix: str) -> list[str]:
        """List what there is, in order."""
        return [entry["Key"] for entry in self._client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]

    def read(self, key: str) -> Any:
        """Read JSON. Returns: None if there is no such object"""
        body = self.find(key)
        return None if body is None else json.loads(body)
