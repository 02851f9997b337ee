"""Tests of Kiln."""
