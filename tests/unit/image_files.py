"""The files of the image, as its tests reach them: programs that have no package, and lie where they lie on the instance."""

from __future__ import annotations

import importlib.util
import io
import sys
import zipfile
from types import ModuleType

from ami.recipe import ROOTFS

LIB = ROOTFS / "usr/lib/kiln"


def load(name: str) -> ModuleType:
    """Load a program of the image, as a module."""
    spec = importlib.util.spec_from_file_location(f"kiln_image_{name}", LIB / f"{name}.py")
    assert spec is not None, "a path that ends in .py has a spec"
    assert spec.loader is not None, "a path that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def an_archive(program: str = "print('the agent runs')") -> bytes:
    """An agent that does what `program` says."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("nodeimage/__init__.py", "")
        archive.writestr("nodeimage/instance/__init__.py", "")
        archive.writestr("nodeimage/instance/__main__.py", program)
    return packed.getvalue()
