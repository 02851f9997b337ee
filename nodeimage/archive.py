"""Pack the agent as it travels through the bucket: `agent/<version>.pyz`, which a node's image unpacks and runs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
#: On the image already, and not for Python.
_LEFT_OUT = frozenset({"rootfs", "__pycache__"})
#: The earliest time that a zip can tell: two packings of the same files are the same bytes.
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def agent_archive(package: Path = PACKAGE) -> bytes:
    """Pack the `nodeimage` package. The same files give the same bytes.

    Shape:   a zip whose members begin with `nodeimage/`
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            name = path.relative_to(package)
            if path.is_file() and path.suffix != ".pyc" and not _LEFT_OUT & set(name.parts):
                member = zipfile.ZipInfo(f"nodeimage/{name.as_posix()}", _LONG_AGO)
                member.compress_type = zipfile.ZIP_DEFLATED
                member.external_attr = 0o644 << 16
                archive.writestr(member, path.read_bytes())
    return packed.getvalue()
