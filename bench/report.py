"""What a measurement says, and the table of all of them: on the terminal as it comes, and in docs/benchmarks.md at the end."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure beside what it is compared with."""

    what: str
    kiln: str
    instead: str  #: what a user would use instead, and its figure
    figure: str  #: the ratio or difference that has a goal
    goal: str
    is_reached: bool
    runs: str  #: every run's figure, so that the spread is seen


def machine() -> str:
    """The machine in a line: processor, cores, memory, system."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{model}, {os.cpu_count()} cores, {pages / 2**30:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| what | Kiln | instead | figure | goal | runs |", "|---|---|---|---|---|---|"]
    for row in rows:
        mark = "reached" if row.is_reached else "**not reached**"
        lines.append(f"| {row.what} | {row.kiln} | {row.instead} | {row.figure} | {row.goal}: {mark} | {row.runs} |")
    return "\n".join(lines)


def write_page(rows: Sequence[Row], notes: Sequence[str], *, kind: str) -> None:
    """Put a kind's table and notes between its marks in docs/benchmarks.md; the text around them stays."""
    begin, end = f"<!-- {kind} -->", f"<!-- /{kind} -->"
    head, _, rest = PAGE.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    body = "\n\n".join([f"Measured {datetime.now(UTC):%Y-%m-%d} on {machine()}.", table(rows), *notes])
    PAGE.write_text(f"{head}{begin}\n{body}\n{end}{tail}")
