"""What an uploaded zip holds, and whether it may be unpacked: names, sizes, bombs. Nothing here trusts what the zip says of itself."""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import structlog

from supervisor.domain.errors import Rejected
from supervisor.domain.file import clean_path
from supervisor.domain.upload import gib

from .plain import NotUsable

log = structlog.get_logger(__name__)

_UTF8_NAME = 0x800
_ENCRYPTED = 0x1
_DEFLATE64 = 9
_GIB = 1 << 30
#: What a zip may grow to however small it is.
_ALWAYS_ALLOWED_BYTES = 256 << 20
#: What systems put beside people's files.
_SYSTEM_NAMES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})

#: What `zipfile` raises for zips that are damaged, or made to break readers.
_DAMAGE = (BadZipFile, EOFError, zlib.error, struct.error, NotImplementedError, RuntimeError, ValueError, OverflowError, LookupError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipLimits:
    """How much may come out of one zip."""

    files: int
    bytes: int  #: of all files
    file_bytes: int  #: of one
    ratio: float  #: bytes unpacked for each byte of the zip


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file to be unpacked."""

    path: str  #: clean_path
    bytes: int
    crc32: int
    info: ZipInfo


@contextmanager
def opened_zip(source: BinaryIO) -> Iterator[ZipFile]:
    """Open a zip; whatever is read of it while it is open, damage is told as NotUsable.

    Errors:  NotUsable - not a zip, or a damaged one
    """
    try:
        with ZipFile(source) as archive:
            yield archive
    except _DAMAGE as error:
        log.info("a zip could not be read", exc_info=error)
        raise NotUsable("it is not a zip, or a damaged one: make it anew and upload that") from error


def entries_of(archive: ZipFile, *, zip_bytes: int, limits: ZipLimits) -> list[Entry]:
    """List the files to unpack, in the order in which they lie in the zip; folders, empty files and what systems add are left out.

    Errors:  NotUsable - says what is wrong with which entry
    """
    entries = [_entry(info, _name(info)) for info in archive.infolist() if _is_wanted(info)]
    _check_totals(entries, zip_bytes=zip_bytes, limits=limits)
    _check_names(entries)
    return sorted(entries, key=lambda entry: entry.info.header_offset)


def open_entry(archive: ZipFile, entry: Entry) -> BinaryIO:
    """Read one file of the zip: never more than it announced, and its end is an error if its checksum is another."""
    return cast("BinaryIO", archive.open(entry.info))


def _name(info: ZipInfo) -> str:
    """The name as whoever made the zip saw it: macOS writes UTF-8 without saying so."""
    if info.flag_bits & _UTF8_NAME:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _is_wanted(info: ZipInfo) -> bool:
    parts = _name(info).replace("\\", "/").split("/")
    is_folder = not parts[-1]
    is_systems = parts[0] == "__MACOSX" or parts[-1].casefold() in _SYSTEM_NAMES or parts[-1].startswith("._")
    return not (is_folder or is_systems or (info.file_size == 0 and not info.flag_bits & _ENCRYPTED))


def _entry(info: ZipInfo, name: str) -> Entry:
    if info.flag_bits & _ENCRYPTED:
        raise NotUsable("it has a password: make it anew without one")
    if info.compress_type == _DEFLATE64:
        raise NotUsable(f"“{name}” in it is packed with Deflate64, as Windows does with large files: make the zip with 7-Zip instead")
    if info.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        raise NotUsable(
            f"“{name}” in it is packed in an unusual way (method {info.compress_type}): make the zip with deflate, the usual one"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise NotUsable(f"“{name}” in it is a symbolic link: put the file itself into the zip")
    try:
        path = clean_path(name)
    except Rejected as error:
        raise NotUsable(f"a name in it can't be used: {error}") from error
    return Entry(path=path, bytes=info.file_size, crc32=info.CRC, info=info)


def _check_totals(entries: Sequence[Entry], *, zip_bytes: int, limits: ZipLimits) -> None:
    total = sum(entry.bytes for entry in entries)
    if not entries:
        raise NotUsable("it holds no files")
    if len(entries) > limits.files:
        raise NotUsable(f"it holds {len(entries)} files; this job may have {limits.files} more ([uploads] max_files)")
    if total > limits.bytes:
        raise NotUsable(f"unpacked it has {gib(total)}; this job may have {gib(limits.bytes)} more ([uploads] max_job_gib)")
    if total > max(_ALWAYS_ALLOWED_BYTES, zip_bytes * limits.ratio):
        raise NotUsable(f"it would unpack to {gib(total)}, more than {limits.ratio:g} times its size ([uploads] max_zip_ratio)")
    for entry in entries:
        if entry.bytes > limits.file_bytes:
            raise NotUsable(
                f"“{entry.path}” in it has {gib(entry.bytes)}; one file may have {gib(limits.file_bytes)} ([uploads] max_file_gib)"
            )


def _check_names(entries: Sequence[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        folded = entry.path.casefold()
        if folded in seen and seen[folded] == entry.path:
            raise NotUsable(f"“{entry.path}” is in it twice")
        if folded in seen:
            raise NotUsable(f"“{entry.path}” and “{seen[folded]}” in it differ in upper and lower case only; rename one")
        seen[folded] = entry.path
    for folded, path in seen.items():
        folder = folded
        while folder := folder.rpartition("/")[0]:
            if folder in seen:
                raise NotUsable(f"“{seen[folder]}” in it is both a file and the folder of “{path}”")
