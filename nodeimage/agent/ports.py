"""What the agent needs of the object store. `store.S3Store` is it; the tests have one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class StoreError(Exception):
    """The store did not do it; the message says what was attempted, with the key."""


class Silent(StoreError):
    """No answer, or a fault of the store's: the same call may succeed later."""


class Full(Silent):
    """The store has no room: the same call succeeds when somebody made some."""


class Refused(StoreError):
    """The store will not do this with our keys: repeating it changes nothing."""


class Absent(Refused):
    """There is no such object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A small object."""

    etag: str
    body: bytes | None  #: None: unchanged since the etag that the caller named


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a large object, on its way."""

    object_bytes: int  #: size of the whole object
    blocks: Iterator[bytes]  #: to be read to their end. Errors: Silent - also in the middle


class Store(Protocol):
    """Objects of the farm's bucket. Every method may be called from any thread, and repeated.

    Errors:  Silent, Full, Refused - of every method
    """

    def get(self, key: str, *, etag: str = "") -> Fetched | None:
        """Read a small object, unless it still has `etag`. Returns: None if there is none."""

    def put(self, key: str, body: bytes, *, content_type: str = "application/json") -> None:
        """Write a small object."""

    def put_new(self, key: str, body: bytes) -> bool:
        """Write an object that must not exist yet.

        Returns: False if somebody else's is there; True if this very body is, however it got there
        """

    def put_file(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> None:
        """Upload a file of any size. Errors: OSError - the file can't be read"""

    def names(self, prefix: str) -> list[str]:
        """List what follows `prefix` in the keys that begin with it."""

    def delete(self, key: str) -> None:
        """Make the object be gone."""

    def silent_s(self) -> float:
        """Seconds since the store last did what it was asked."""
