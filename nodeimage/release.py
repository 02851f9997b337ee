"""The agent as it travels through the bucket: one file with the `nodeimage` package, which an instance's image unpacks and runs.

The farm puts it there (`agent/<version>.pyz`) and names it, with its SHA-256, to the instances that it launches.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from .launch import agent_key
from .protocol import VERSION

PACKAGE = Path(__file__).resolve().parent
#: On the image already, or made by Python.
_LEFT_OUT = frozenset({"rootfs", "tests", "__pycache__"})
#: The earliest time that a zip can tell: two packings of the same files are the same bytes.
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_UNIX = 3  #: where the members' modes mean something, whatever packs them


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRelease:
    """One version of the agent."""

    version: str  #: of the protocol, and of the content
    key: str  #: in the projects bucket
    sha256: str  #: of the body, 64 hex digits
    body: bytes = field(repr=False)


def agent_archive(package: Path = PACKAGE) -> bytes:
    """Pack the `nodeimage` package. The same files give the same bytes, on every machine.

    Shape:   a zip whose members begin with `nodeimage/`, not compressed: compressors differ from machine to machine
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
            name = path.relative_to(package)
            if not _LEFT_OUT & set(name.parts):
                member = zipfile.ZipInfo(f"nodeimage/{name.as_posix()}", _LONG_AGO)
                member.create_system = _UNIX
                member.external_attr = 0o644 << 16
                archive.writestr(member, path.read_bytes())
    return packed.getvalue()


def agent_release(package: Path = PACKAGE) -> AgentRelease:
    """Pack the agent, and name it by what it is: another content is another version."""
    body = agent_archive(package)
    sha256 = hashlib.sha256(body).hexdigest()
    version = f"{VERSION}-{sha256[:16]}"
    return AgentRelease(version=version, key=agent_key(version), sha256=sha256, body=body)
