"""Measure everything (or what is named: rendering, packing, uploading), print the tables, and keep them in docs/benchmarks.md."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .packing import measure_packing
from .rendering import measure_rendering
from .report import Row, machine, table, write_page
from .uploading import measure_uploading

KINDS: dict[str, Callable[[], tuple[list[Row], list[str]]]] = {
    "rendering": measure_rendering,
    "packing": lambda: (measure_packing(), []),
    "uploading": lambda: (measure_uploading(), []),
}


def main(wanted: list[str]) -> int:
    """Returns: 1 if a goal was not reached"""
    unknown = set(wanted) - set(KINDS)
    if unknown:
        print(f"there is no {', '.join(sorted(unknown))}; choose of {', '.join(KINDS)}", file=sys.stderr)
        return 2
    chosen = wanted or list(KINDS)
    print(machine(), flush=True)
    all_rows: list[Row] = []
    for kind in chosen:
        rows, notes = KINDS[kind]()
        print(table(rows), *notes, sep="\n", flush=True)
        write_page(rows, notes, kind=kind)
        all_rows += rows
    return int(not all(row.is_reached for row in all_rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
