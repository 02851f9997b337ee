"""The agent's archive for the proof: the real package, but for the program that a farm's node runs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from nodeimage.release import agent_archive

PROGRAM = Path(__file__).resolve().parent / "on_instance" / "__main__.py"
MODULE = "nodeimage/instance/"


def check_archive() -> bytes:
    """Pack it, so that bootstrap, units, users and folders are tried as they are used."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(agent_archive())) as real, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in real.namelist():
            if not name.startswith(MODULE):
                archive.writestr(name, real.read(name))
        archive.writestr(f"{MODULE}__init__.py", "")
        archive.writestr(f"{MODULE}__main__.py", PROGRAM.read_bytes())
    return packed.getvalue()
