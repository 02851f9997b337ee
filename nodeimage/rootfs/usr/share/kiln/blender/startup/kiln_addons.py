"""Enable the add-ons that the image brings: each folder or module beside `startup`, in `addons`. Blender runs this at its start.

The farm starts Blender with factory settings, which know no add-on but Blender's own.
"""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path

import addon_utils

ADDONS = Path(__file__).resolve().parents[1] / "addons"


def register() -> None:
    """Enable them all; one that does not load is named in Blender's log."""
    sys.path.append(str(ADDONS))
    for addon in pkgutil.iter_modules([str(ADDONS)]):
        if addon_utils.enable(addon.name, default_set=True) is None:
            sys.stderr.write(f"the image's add-on {addon.name} does not load\n")


def unregister() -> None:
    """Nothing to do: the process ends."""
