"""How a command ends that did not do what was asked."""

from __future__ import annotations


class Failed(Exception):
    """The message is for people, and all of it: what went wrong, and what to do. The command exits with 1."""
