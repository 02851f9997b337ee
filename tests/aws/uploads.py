"""Multipart uploads: moto says of each that it was begun in 2010, so whatever is under way looks old."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.s3.models import FakeMultipart
from moto.s3.responses import S3Response

from .cloud_time import now
from .patching import Method, mend


def repair() -> None:
    mend(FakeMultipart, "__init__", _dated)
    mend(S3Response, "list_multipart_uploads", lambda original: list_multipart_uploads)


def _dated(original: Method) -> Method:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        original(self, *args, **kwargs)
        self.kiln_begun_at = now()

    return __init__


def list_multipart_uploads(self: Any) -> Any:
    """As an action of moto's S3."""
    prefix = self.querystring.get("prefix", [""])[0]
    there = self.backend.list_multipart_uploads(self.bucket_name).values()
    uploads = [
        {"Key": upload.key_name, "UploadId": upload.id, "StorageClass": "STANDARD", "Initiated": upload.kiln_begun_at}
        for upload in there
        if upload.key_name.startswith(prefix)
    ]
    self.data["Action"] = "ListMultipartUploads"
    return self.serialized(ActionResult({"Bucket": self.bucket_name, "MaxUploads": 1000, "IsTruncated": False, "Uploads": uploads}))
