"""The script that Blender runs. It takes standard output for the driver's events, so that what Blender prints can't get among them.

blender -b --factory-startup --disable-autoexec --python-exit-code 1 --python driver.py
python driver.py                (a Python that has bpy)

Commands are read from standard input as JSON lines (`channel.py` says which). Events go out as JSON lines on what was standard output:
Blender prints a banner there before any Python runs, so lines before `hello` are to be ignored. The rest of what Blender prints goes to
standard error.
"""

from __future__ import annotations

import importlib.util
import os
import sys


def load_driver(folder: str) -> None:
    """Make this folder importable as the package `kiln_driver`, with nothing put on Blender's module path."""
    spec = importlib.util.spec_from_file_location("kiln_driver", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder])
    assert spec is not None, "a path that ends in .py has a spec"
    assert spec.loader is not None, "a path that ends in .py has a loader"
    package = importlib.util.module_from_spec(spec)
    sys.modules["kiln_driver"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    events_fd = os.dup(1)
    os.dup2(2, 1)
    load_driver(os.path.dirname(os.path.abspath(__file__)))
    importlib.import_module("kiln_driver.session").run(events_fd)
