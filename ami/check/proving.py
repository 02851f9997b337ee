"""How a proof is tried and told, in namespaces of our own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import ParamSpec

from ami.check.commands import Failed

P = ParamSpec("P")

#: Names of the proofs that held.
PROVEN: list[str] = []

_INSIDE = "KILN_IMAGE_CHECK_INSIDE"
_UNSHARE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")


def enter_namespaces(module: str) -> None:
    """Be in namespaces whose mounts and processes end with us, however we end: the program begins anew there, and goes on from here."""
    if os.environ.get(_INSIDE) != "1":
        os.environ[_INSIDE] = "1"
        os.execvp(_UNSHARE[0], [*_UNSHARE, sys.executable, "-m", module])


def prove(proof: Callable[P, str], *arguments: P.args, **named: P.kwargs) -> None:
    """Try a proof, and say what it showed. Errors: Failed - it does not hold; with its name"""
    began = time.monotonic()
    name = proof.__name__.replace("_", " ")
    try:
        shown = proof(*arguments, **named)
    except Failed as error:
        raise Failed(f"{name}: {error}") from error
    PROVEN.append(name)
    print(f"image-check: proved ({time.monotonic() - began:3.0f} s) {name}\n    {proof.__doc__}\n    seen: {shown}", flush=True)
