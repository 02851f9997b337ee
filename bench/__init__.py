"""Measurements of Kiln, each beside what a user would use instead, in one run: `make bench`."""
