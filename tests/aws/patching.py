"""How moto is changed in place."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

Method = Callable[..., Any]  #: of moto's: its parameters are what moto makes of a request


def mend(owner: type | ModuleType, name: str, make: Callable[[Method], Any]) -> None:
    """Put ours in the place of something of moto's. `make` is handed what was there; AttributeError says that moto has changed."""
    setattr(owner, name, make(getattr(owner, name)))
