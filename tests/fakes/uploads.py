"""Multipart uploads in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import count
from typing import BinaryIO

from supervisor.cloud.ports import PartMismatch, Refused, UploadedPart

from .objects import FakeObjectStore, etag_of
from .trouble import Trouble


class FakeUploads(Trouble):
    """`Uploads` into a FakeObjectStore. Nothing answers at the URLs it signs: `put_part` stands in for the browser."""

    def __init__(self, objects: FakeObjectStore) -> None:
        super().__init__()
        self._objects = objects
        self._numbers = count(1)
        self._parts: dict[tuple[str, str], dict[int, bytes]] = {}

    def begin(self, key: str) -> str:
        self._meet_trouble("begin")
        self._objects.check_room(0)
        upload_id = f"upload-{next(self._numbers)}"
        self._parts[key, upload_id] = {}
        return upload_id

    def part_url(self, key: str, upload_id: str, number: int, *, endpoint: str) -> str:
        self._meet_trouble("part_url")
        return f"{endpoint or 'https://kiln.store.invalid'}/kiln/{key}?uploadId={upload_id}&partNumber={number}&X-Amz-Signature=fake"

    def put_part(self, key: str, upload_id: str, number: int, source: BinaryIO, *, length: int) -> str:
        self._meet_trouble("put_part")
        parts = self._parts.get((key, upload_id))
        if parts is None:
            raise Refused(f"can't write part {number} of {key}: there is no such upload")
        body = source.read(length)
        if len(body) < length:
            raise Refused(f"the part broke off after {len(body)} of {length} bytes; send it again")
        self._objects.check_room(length)
        parts[number] = body
        return etag_of(body)

    def parts(self, key: str, upload_id: str) -> Sequence[UploadedPart] | None:
        self._meet_trouble("parts")
        parts = self._parts.get((key, upload_id))
        if parts is None:
            return None
        return [UploadedPart(number=number, etag=etag_of(body), bytes=len(body)) for number, body in sorted(parts.items())]

    def complete(self, key: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> None:
        self._meet_trouble("complete")
        wanted = sorted((number, etag.strip('"')) for number, etag in parts)
        digests = b"".join(bytes.fromhex(etag) if len(etag) == 32 else b"?" for _, etag in wanted)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(wanted)}"
        stored = self._parts.get((key, upload_id))
        if stored is None:
            there = self._objects.get(key)
            if there is None or there.etag != etag:
                raise Refused(f"can't complete the upload of {key}: there is no such upload any more; upload the file again")
            return
        if not wanted:
            raise PartMismatch(f"the upload of {key} can't be completed without parts", number=1)
        for number, given in wanted:
            if number not in stored or etag_of(stored[number]) != given:
                raise PartMismatch(f"part {number} of {key} is missing or differs", number=number)
        self._objects.place(key, b"".join(stored[number] for number, _ in wanted), etag=etag)
        del self._parts[key, upload_id]

    def abort(self, key: str, upload_id: str) -> None:
        self._meet_trouble("abort")
        self._parts.pop((key, upload_id), None)

    def unfinished(self) -> list[str]:
        """Name the keys of the uploads that were begun and neither completed nor aborted."""
        return sorted(key for key, _ in self._parts)
