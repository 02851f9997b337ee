"""Measure everything (or what is named: rendering, packing, uploading), print the table, and keep it in docs/benchmarks.md."""

from __future__ import annotations

import sys

from .packing import measure_packing
from .rendering import measure_rendering
from .report import Row, machine, table, write_page
from .uploading import measure_uploading

KINDS = ("rendering", "packing", "uploading")


def main(wanted: list[str]) -> int:
    """Returns: 1 if a goal was not reached"""
    unknown = set(wanted) - set(KINDS)
    if unknown:
        print(f"there is no {', '.join(sorted(unknown))}; choose of {', '.join(KINDS)}", file=sys.stderr)
        return 2
    chosen = wanted or list(KINDS)
    print(machine(), flush=True)
    rows: list[Row] = []
    notes: list[str] = []
    if "rendering" in chosen:
        rows, notes = measure_rendering()
    if "packing" in chosen:
        rows += measure_packing()
    if "uploading" in chosen:
        rows += measure_uploading()
    print(table(rows))
    for note in notes:
        print(note)
    if not wanted:
        write_page(rows, notes)
    return int(not all(row.is_reached for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
