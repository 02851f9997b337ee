"""Print the lifecycle as a diagram, from its table: `python -m supervisor.lifecycle.diagram`."""

from __future__ import annotations

import sys

from supervisor.domain.job import ENDED, TRANSITIONS


def diagram() -> str:
    """The moves of a job as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> draft"]
    for status, moves in TRANSITIONS.items():
        lines += [f"    {status} --> {to}: {because.replace(':', ',').replace(';', ',')}" for to, because in moves.items()]
        if status in ENDED:
            lines.append(f"    {status} --> [*]")
    return "\n".join([*lines, "```"])


if __name__ == "__main__":
    sys.stdout.write(diagram() + "\n")
