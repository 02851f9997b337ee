"""Whole paths through the real local cloud: processes on this machine."""
