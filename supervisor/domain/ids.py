"""Ids: opaque, with a prefix, so that a log line shows what it is about."""

from __future__ import annotations

import secrets


def new_id(prefix: str) -> str:
    """Make an id such as `job_3f9c0a1b2c4d5e6f`."""
    return f"{prefix}_{secrets.token_hex(8)}"
